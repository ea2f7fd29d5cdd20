"""What one tenant earned and cost, by month and route, from the ledger's sums."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from sidecar.admin.spans import Span
from sidecar.admin.usage import MAX_PAGE, usage_pages
from sidecar.core.credit_store import CreditStore
from sidecar.core.credits import NS_PER_MINUTE
from sidecar.core.money import MICROS
from sidecar.core.policy import Price
from sidecar.core.ports import Ledger, UsageQuery, UsageRow
from sidecar.core.spend import spend_terms
from sidecar.metering import (
    Account,
    Part,
    PartUse,
    Recognised,
    RouteUse,
    Use,
    apportion,
    metered,
    metered_micros,
    owed,
    period_parts,
    recognised,
    split,
)

SUCCESSFUL = frozenset({"2xx", "3xx"})
Cell = tuple[int, str]  # a month's first microsecond, a route
_BY = ("plan", "route", "status", "sandbox")
_MINUTE_US = 60_000_000
_HOUR_US = 3_600_000_000


@dataclass(slots=True)
class TenantUse:
    """One tenant's rows, added up."""

    cells: dict[Cell, Account] = field(default_factory=dict)
    uses: dict[int, dict[str, RouteUse]] = field(default_factory=dict)  # live calls by what part they are in, and route
    plans: dict[tuple[int, str], int] = field(default_factory=dict)  # live calls by month and plan

    def add(self, month_us: int, part_us: int, row: UsageRow) -> None:
        """``row``: of _BY, in the part that begins at ``part_us``."""
        plan, route, status, sandbox = row.group[-len(_BY) :]
        totals = row.totals
        account = self.cells.setdefault((month_us, str(route)), Account())
        if sandbox:
            account.sandbox_cost += totals.cost
            return
        account.cost += totals.cost
        account.requests += totals.requests
        account.successful += totals.requests if status in SUCCESSFUL else 0
        use = self.uses.setdefault(part_us, {}).setdefault(str(route), RouteUse())
        use.requests += totals.requests
        use.units += totals.units
        for name, value in row.meters.items():
            use.meters[name] = use.meters.get(name, 0) + value
        key = month_us, str(plan)
        self.plans[key] = self.plans.get(key, 0) + totals.requests

    @property
    def last_plan(self) -> str:
        """The plan of most calls of the last month that has any."""
        last = max(self.plans, key=lambda key: (key[0], self.plans[key], key[1]), default=None)
        return "" if last is None else last[1]

    def by_part(self, parts: Iterable[Part], before: Mapping[str, int]) -> list[PartUse]:
        """``before``: of the first part; the others follow from what was used."""
        found: list[PartUse] = []
        for part in parts:
            if found and part.since_us == part.start_us:
                before = {}
            routes = self.uses.get(part.since_us, {})
            found.append(PartUse(part, before, routes))
            before = dict(before)
            for use in routes.values():
                for name, value in use.meters.items():
                    before[name] = before.get(name, 0) + value
        return found

    def earn(
        self, price: Price, parts: Sequence[PartUse], created_us: int, credits: Sequence[Recognised] | None = None
    ) -> None:
        """Adds what the tenant pays, that exists since ``created_us``, to its cells. ``credits``: under a prepaid plan,
        what they brought in of each part."""
        revenue: dict[Cell, Fraction] = {}
        by_credits: dict[Cell, Fraction] = {}
        unpaid: dict[Cell, Fraction] = {}
        for number, use in enumerate(parts):
            month_us, used = use.part.month_us, metered(price, use)
            _add(revenue, month_us, owed(price, use, created_us))
            if credits is None:
                _add(revenue, month_us, used)
                continue
            burned, expired = credits[number]
            earned: dict[str, Fraction] = {}
            split(earned, Fraction(burned, MICROS), used, use.routes)
            split(earned, Fraction(expired, MICROS), {}, {})
            _add(revenue, month_us, earned)
            _add(by_credits, month_us, earned)
            missing: dict[str, Fraction] = {}
            split(missing, Fraction(max(0, metered_micros(price, use) - burned), MICROS), used, use.routes)
            _add(unpaid, month_us, missing)
        for cell, micros in apportion(revenue).items():
            self.cells.setdefault(cell, Account()).revenue += micros
        for cell, micros in apportion(by_credits).items():
            self.cells.setdefault(cell, Account()).credits += micros
        for cell, micros in apportion(unpaid).items():
            self.cells.setdefault(cell, Account()).unpaid += micros


def _add(cells: dict[Cell, Fraction], month_us: int, amounts: Mapping[str, Fraction]) -> None:
    for route, amount in amounts.items():
        cells[month_us, route] = cells.get((month_us, route), Fraction(0)) + amount


async def use_by_periods(
    ledger: Ledger, tenant: str, span: Span, cycle: str, minutes_from_us: int
) -> tuple[TenantUse, list[PartUse]]:
    """What a tenant used in the span whose billing periods are ``cycle``: a question or two per part.

    ``minutes_from_us``: what is older is kept by the hour alone, so that edges there count from the hour's beginning.
    """

    def edge(us: int) -> int:
        return us if us >= minutes_from_us else us // _HOUR_US * _HOUR_US

    use, parts = TenantUse(), period_parts(*span, cycle)
    for part in parts:
        asked = UsageQuery(_BY, edge(part.since_us), edge(part.until_us), tenant=tenant, sandbox=None, limit=MAX_PAGE)
        if asked.since_us < asked.until_us:
            async for rows in usage_pages(ledger, asked):
                for row in rows:
                    use.add(part.month_us, part.since_us, row)
    before: Mapping[str, int] = {}
    if parts and edge(parts[0].start_us) < edge(parts[0].since_us):
        first = UsageQuery((), edge(parts[0].start_us), edge(parts[0].since_us), tenant=tenant, limit=1)
        for row in await ledger.usage_rows(first):
            before = row.meters
    return use, use.by_part(parts, before)


async def credits_by_part(
    books: CreditStore, ledger: Ledger, tenant: str, price: Price, cycle: str, parts: Sequence[PartUse], now_ns: int
) -> list[Recognised]:
    """What prepaid credits brought in of each part."""

    async def total(tenant: str, meter: str, since_us: int, until_us: int, sandbox: bool) -> int:
        return await ledger.meter_total(tenant, meter, since_us=since_us, until_us=until_us, sandbox=sandbox)

    minutes = [(use.part.since_us // _MINUTE_US, use.part.until_us // _MINUTE_US) for use in parts]
    history = await books.credit_history(tenant, begin=minutes[0][0], end=minutes[-1][1])
    if not (history.grants or history.shares or history.expired):
        return [Recognised()] * len(parts)
    terms = spend_terms(price, cycle, None, True)
    use = Use(tenant, terms, total)
    return await recognised(use, history, terms.tariff.currency, minutes, now_ns // NS_PER_MINUTE)
