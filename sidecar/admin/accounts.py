"""What every tenant earned and cost in a stretch of time, one after the other by name: sorted lists walked side by
side.

Tenants whose billing periods are the calendar's months are read together; one with periods of its own takes a question
or two more for each of them. Memory: a page of each list, and one tenant's sums by month and route.
"""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sidecar.admin.earning import BY, Cell, TenantUse, by_part, credits_by_part, edges_of, use_within
from sidecar.admin.periods import Stretch
from sidecar.admin.spans import Span
from sidecar.admin.usage import MAX_PAGE, usage_pages
from sidecar.core.accounts import Account as PayingAccount
from sidecar.core.accounts import AccountPages, billing_cycle, standing
from sidecar.core.clock import NS_PER_S, NS_PER_US
from sidecar.core.credit_store import CreditStore
from sidecar.core.policy import Snapshot
from sidecar.core.ports import Group, Ledger, TenantStore, UsageQuery
from sidecar.core.values import Tenant
from sidecar.metering import Account, Part, period_parts

_LAST_MINUTE = 253_402_300_799 // 60  # of the year 9999: after every month


class MarginBooks(TenantStore, AccountPages, CreditStore, Protocol):
    """Tenants, the payee's accounts of them, and their credits."""


@dataclass(slots=True)
class TenantAccount:
    """Both sides of a tenant by month and route, over ``span``. ``plan``: the one it has now; of a tenant that is not
    in the store (tokens may name such ones), that of its last calls; ``""`` when there is none."""

    tenant: str
    plan: str
    span: Span
    cells: dict[Cell, Account]

    @property
    def total(self) -> Account:
        """All cells as one."""
        total = Account()
        for cell in self.cells.values():
            total.add(cell)
        return total


async def tenant_accounts(
    books: MarginBooks,
    ledger: Ledger,
    snapshot: Snapshot,
    stretch: Stretch,
    now_ns: int,
    *,
    tenant: str | None = None,
    after: str | None = None,
) -> AsyncGenerator[TenantAccount]:
    """Every tenant that earned or cost anything in the stretch, by name, starting after ``after``; or ``tenant`` alone.

    A tenant pays its base from the day on which it was made. Access states are not looked at.
    """
    common = stretch.of("month")
    calendar = period_parts(*common)
    edge = edges_of((now_ns - snapshot.settings.minute_sums_ns) // NS_PER_US)
    sides = (
        _tenants(books, snapshot.tenants, tenant, after),
        _payers(books, tenant, after),
        _uses(ledger, common, tenant, after),
        _before(ledger, calendar[0], tenant, after),
    )
    async for name, (known, account, used, earlier) in _side_by_side(*sides):
        use: TenantUse = used or TenantUse()
        owner = standing(known or Tenant(name, use.last_plan), account)
        bought = snapshot.plans.get(owner.plan)
        price = None if bought is None else bought.price
        cycle = billing_cycle(owner, account, now_ns // NS_PER_S)
        span = stretch.of(cycle)
        if span != common:
            use = await use_within(ledger, name, Span(edge(span.since_us), edge(span.until_us)))
        meters = () if price is None else tuple(part.meter for part in price.meters)
        parts, before = (calendar, earlier or {}) if cycle == "month" else (period_parts(*span, cycle), None)
        cut = await by_part(ledger, name, use, parts, meters, edge, before)
        if bought is not None and price is not None:
            credits = None
            if bought.prepaid and price.meters:
                credits = await credits_by_part(books, ledger, name, price, cycle, cut, now_ns)
            use.earn(price, cut, owner.created_ns // NS_PER_US, credits)
        if use.cells:
            yield TenantAccount(name, owner.plan, span, use.cells)


async def _tenants(
    store: TenantStore, declared: Mapping[str, Tenant], only: str | None, after: str | None
) -> AsyncIterator[tuple[str, Tenant]]:
    if only is not None:
        found = declared.get(only) or await store.tenant(only)
        if found is not None:
            yield only, found
        return
    ours = deque(sorted(name for name in declared if name > (after or "")))
    last, more = after or "", True
    while more:
        page = await store.tenants(after=last, limit=MAX_PAGE)
        more = len(page) == MAX_PAGE
        upto = page[-1].name if more else None
        names = {tenant.name: tenant for tenant in page}
        while ours and (upto is None or ours[0] <= upto):
            name = ours.popleft()
            names[name] = declared[name]
        for name in sorted(names):
            yield name, names[name]
        last = upto or last


async def _payers(books: AccountPages, only: str | None, after: str | None) -> AsyncIterator[tuple[str, PayingAccount]]:
    if only is not None:
        found = await books.account(only)
        if found is not None:
            yield only, found
        return
    last, more = after or "", True
    while more:
        page = await books.accounts(after=last, limit=MAX_PAGE)
        more = len(page) == MAX_PAGE
        for account in page:
            yield account.tenant, account
            last = account.tenant


async def _uses(
    ledger: Ledger, span: Span, tenant: str | None, after: str | None
) -> AsyncIterator[tuple[str, TenantUse]]:
    start: Group | None = None if after is None else (after, _LAST_MINUTE, "", "", "", 0)
    query = UsageQuery(("tenant", *BY), *span, tenant=tenant, sandbox=None, after=start, limit=MAX_PAGE)
    name, use = "", TenantUse()
    async for rows in usage_pages(ledger, query):
        for row in rows:
            if row.group[0] != name and use.cells:
                yield name, use
                use = TenantUse()
            name = str(row.group[0])
            use.add(row)
    if use.cells:
        yield name, use


async def _before(
    ledger: Ledger, part: Part, tenant: str | None, after: str | None
) -> AsyncIterator[tuple[str, dict[str, int]]]:
    if part.start_us == part.since_us:
        return
    start: Group | None = None if after is None else (after,)
    query = UsageQuery(("tenant",), part.start_us, part.since_us, tenant=tenant, after=start, limit=MAX_PAGE)
    async for rows in usage_pages(ledger, query):
        for row in rows:
            yield str(row.group[0]), row.meters


async def _side_by_side(*sides: AsyncIterator[tuple[str, Any]]) -> AsyncIterator[tuple[str, list[Any]]]:
    """Each name once, with what every side has for it, or None. All sides ascend by name."""
    heads = [await anext(side, None) for side in sides]
    while any(heads):
        name = min(head[0] for head in heads if head is not None)
        yield name, [head[1] if head is not None and head[0] == name else None for head in heads]
        for index, head in enumerate(heads):
            if head is not None and head[0] == name:
                heads[index] = await anext(sides[index], None)
