"""What every tenant earned and cost in a period, one after the other by name: three sorted lists walked side by side.

Memory: a page of each list, and one tenant's sums by month and route.
"""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sidecar.admin.spans import Span
from sidecar.admin.usage import MAX_PAGE, usage_pages
from sidecar.core.policy import Price, Snapshot
from sidecar.core.ports import Group, Ledger, TenantStore, UsageQuery, UsageRow
from sidecar.core.values import Tenant
from sidecar.metering import Account, MonthPart, RouteUse, apportion, month_parts, revenue

_BY = ("tenant", "month", "plan", "route", "status", "sandbox")
_LAST_MINUTE = 253_402_300_799 // 60  # of the year 9999: after every month
_MINUTE_US = 60_000_000
_NS_PER_US = 1_000
SUCCESSFUL = frozenset({"2xx", "3xx"})
Cell = tuple[int, str]  # a month's first microsecond, a route


@dataclass(slots=True)
class TenantAccount:
    """Both sides of a tenant by month and route. ``plan``: the one it has now; of a tenant that is not in the store
    (tokens may name such ones), that of its last calls; ``""`` when there is none."""

    tenant: str
    plan: str
    cells: dict[Cell, Account]

    @property
    def total(self) -> Account:
        """All cells as one."""
        total = Account()
        for cell in self.cells.values():
            total.add(cell)
        return total


@dataclass(slots=True)
class _Use:
    """One tenant's rows, added up."""

    cells: dict[Cell, Account] = field(default_factory=dict)
    uses: dict[int, dict[str, RouteUse]] = field(default_factory=dict)  # by month and route, live calls
    plans: dict[tuple[int, str], int] = field(default_factory=dict)  # live calls by month and plan

    def add(self, row: UsageRow) -> None:
        _, minute, plan, route, status, sandbox = row.group
        month, totals = int(minute) * _MINUTE_US, row.totals
        account = self.cells.setdefault((month, str(route)), Account())
        if sandbox:
            account.sandbox_cost += totals.cost
            return
        account.cost += totals.cost
        account.requests += totals.requests
        account.successful += totals.requests if status in SUCCESSFUL else 0
        use = self.uses.setdefault(month, {}).setdefault(str(route), RouteUse())
        use.requests += totals.requests
        use.units += totals.units
        for name, value in row.meters.items():
            use.meters[name] = use.meters.get(name, 0) + value
        key = month, str(plan)
        self.plans[key] = self.plans.get(key, 0) + totals.requests

    @property
    def last_plan(self) -> str:
        """The plan of most calls of the last month that has any."""
        last = max(self.plans, key=lambda key: (key[0], self.plans[key], key[1]), default=None)
        return "" if last is None else last[1]


async def tenant_accounts(
    store: TenantStore,
    ledger: Ledger,
    snapshot: Snapshot,
    span: Span,
    *,
    tenant: str | None = None,
    after: str | None = None,
) -> AsyncGenerator[TenantAccount]:
    """Every tenant that earned or cost anything in the span, by name, starting after ``after``; or ``tenant`` alone.

    A tenant pays its base from the day on which it was made. Access states are not looked at.
    """
    parts = month_parts(*span)
    sides = (
        _tenants(store, snapshot.tenants, tenant, after),
        _uses(ledger, span, tenant, after),
        _before(ledger, parts[0], tenant, after),
    )
    async for name, (known, use, before) in _side_by_side(*sides):
        use = use or _Use()
        plan = use.last_plan if known is None else known.plan
        bought = snapshot.plans.get(plan)
        price = None if bought is None else bought.price
        created_us = 0 if known is None else known.created_ns // _NS_PER_US
        if price is not None:
            _earn(use, price, parts, before or {}, created_us)
        if use.cells:
            yield TenantAccount(name, plan, use.cells)


def _earn(use: _Use, price: Price, parts: list[MonthPart], before: Mapping[str, int], created_us: int) -> None:
    shares = {}
    for part in parts:
        since_us = min(max(part.since_us, created_us), part.until_us)
        earlier = before if part is parts[0] else {}
        of_routes = revenue(price, part._replace(since_us=since_us), earlier, use.uses.get(part.start_us, {}))
        shares.update({(part.start_us, route): amount for route, amount in of_routes.items()})
    for cell, micros in apportion(shares).items():
        use.cells.setdefault(cell, Account()).revenue += micros


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


async def _uses(ledger: Ledger, span: Span, tenant: str | None, after: str | None) -> AsyncIterator[tuple[str, _Use]]:
    start: Group | None = None if after is None else (after, _LAST_MINUTE, "", "", "", 0)
    query = UsageQuery(_BY, *span, tenant=tenant, sandbox=None, after=start, limit=MAX_PAGE)
    name, use = "", _Use()
    async for rows in usage_pages(ledger, query):
        for row in rows:
            if row.group[0] != name and use.cells:
                yield name, use
                use = _Use()
            name = str(row.group[0])
            use.add(row)
    if use.cells:
        yield name, use


async def _before(
    ledger: Ledger, part: MonthPart, tenant: str | None, after: str | None
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
