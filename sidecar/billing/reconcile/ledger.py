"""The ledger against the outbox: usage that slipped by is marked again."""

from collections.abc import Iterable

from sidecar.core.billing_store import BillingStore
from sidecar.core.clock import NS_PER_S

_PAGE = 500
_PERIODS = 2  # the newest ones: what is older is invoiced, and the report names it


async def heal_ledger(store: BillingStore, meters: Iterable[str], now_ns: int, *, settle: int = 30) -> int:
    """Marks the minutes of each account in which the ledger holds more than was assigned; how many. A mark can be lost
    only with the process that was about to set it again (hourly meters), or be missing for usage from before the
    account. ``settle``: minutes that are left to the assigner. What was assigned is not
    assigned again. StoreError."""
    names = tuple(meters)
    before = now_ns // NS_PER_S // 60 - settle
    after, healed = "", 0
    while page := await store.accounts(after=after, limit=_PAGE):
        for account in page:
            for _, owned in list(account.minutes())[-_PERIODS:]:
                end = min(owned.stop, before)
                for meter in names if owned.start < end else ():
                    minutes = await store.unassigned_minutes(account.tenant, meter, begin=owned.start, end=end)
                    lacking = [minute for minute, (held, taken) in minutes.items() if held > taken]
                    if lacking:
                        healed += await store.mark(account.tenant, begin=min(lacking), end=max(lacking) + 1)
        after = page[-1].tenant
    return healed
