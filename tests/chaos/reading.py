"""Reads a ledger's book through the port, page by page."""

from sidecar.core.ports import EventPage, Ledger, UsageQuery, UsageRow
from tests.chaos.books import LedgerBook

_PAGE = 5_000
_NOW_US = 4_102_444_800_000_000  # 2100-01-01, a whole minute, hour and day
_PARTS = ("tenant", "key", "route", "status", "sandbox")


async def read_book(ledger: Ledger, rejected: int) -> LedgerBook:
    """Events and sums of all tenants, through the port and page by page."""
    events = []
    after: str | None = None
    while True:
        page: EventPage = await ledger.events(tenant=None, since_us=0, until_us=_NOW_US, after=after, limit=_PAGE)
        events += page.events
        after = page.after
        if after is None:
            break
    tenants = sorted({event.tenant for event in events})
    return LedgerBook(
        events=events,
        minutes=await _rows(ledger, "minute"),
        hours=await _rows(ledger, "hour"),
        reports=[await ledger.usage(tenant, since_us=0, until_us=_NOW_US) for tenant in tenants],
        rejected=rejected,
    )


async def _rows(ledger: Ledger, time: str) -> list[UsageRow]:
    rows: list[UsageRow] = []
    after = None
    while True:
        query = UsageQuery((*_PARTS, time), since_us=0, until_us=_NOW_US, sandbox=None, after=after, limit=1_000)
        page = await ledger.usage_rows(query)
        rows += page
        if len(page) < 1_000:
            return rows
        after = page[-1].group
