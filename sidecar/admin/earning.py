"""What one tenant earned and cost, by month and route, from the ledger's sums."""

from collections.abc import Callable, Mapping, Sequence
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
    recognised,
    split,
)

SUCCESSFUL = frozenset({"2xx", "3xx"})
Cell = tuple[int, str]  # a month's first microsecond, a route
BY = ("month", "plan", "route", "status", "sandbox")
_MINUTE_US = 60_000_000
_HOUR_US = 3_600_000_000


@dataclass(slots=True)
class TenantUse:
    """One tenant's rows, added up."""

    cells: dict[Cell, Account] = field(default_factory=dict)
    uses: dict[int, dict[str, RouteUse]] = field(default_factory=dict)  # live calls by month and route
    plans: dict[tuple[int, str], int] = field(default_factory=dict)  # live calls by month and plan

    def add(self, row: UsageRow) -> None:
        """``row``: of BY, whatever stands before it."""
        minute, plan, route, status, sandbox = row.group[-len(BY) :]
        month_us, totals = int(minute) * _MINUTE_US, row.totals
        account = self.cells.setdefault((month_us, str(route)), Account())
        if sandbox:
            account.sandbox_cost += totals.cost
            return
        account.cost += totals.cost
        account.requests += totals.requests
        account.successful += totals.requests if status in SUCCESSFUL else 0
        use = self.uses.setdefault(month_us, {}).setdefault(str(route), RouteUse())
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

    def totals(self, month_us: int) -> dict[str, int]:
        """Of the meters."""
        found: dict[str, int] = {}
        for use in self.uses.get(month_us, {}).values():
            for name, value in use.meters.items():
                found[name] = found.get(name, 0) + value
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


async def use_within(ledger: Ledger, tenant: str, span: Span) -> TenantUse:
    """What one tenant used in a span of its own."""
    use = TenantUse()
    async for rows in usage_pages(ledger, UsageQuery(BY, *span, tenant=tenant, sandbox=None, limit=MAX_PAGE)):
        for row in rows:
            use.add(row)
    return use


async def by_part(
    ledger: Ledger,
    tenant: str,
    use: TenantUse,
    parts: Sequence[Part],
    meters: Sequence[str],
    edge: Callable[[int], int],
    before: Mapping[str, int] | None = None,
) -> list[PartUse]:
    """What ``use`` comes to in each part. Asks the ledger where a billing period begins within a month, and for
    ``before``, what was used of the first part's billing period before it, unless it is given; only of ``meters`` that
    were used at all. ``edge``: to where sums can answer."""

    async def total(meter: str, since_us: int, until_us: int) -> int:
        begin, end = edge(since_us), edge(until_us)
        if begin >= end:
            return 0
        return await ledger.meter_total(tenant, meter, since_us=begin, until_us=end, sandbox=False)

    left = {part.month_us: use.totals(part.month_us) for part in parts}
    some = [meter for meter in meters if any(totals.get(meter) for totals in left.values())]
    if before is None:
        before = {meter: await total(meter, parts[0].start_us, parts[0].since_us) for meter in some}
    found: list[PartUse] = []
    for part, later in zip(parts, (*parts[1:], None), strict=True):
        here = left[part.month_us]
        if later is not None and later.month_us == part.month_us:
            used = {meter: await total(meter, part.since_us, part.until_us) for meter in some if here.get(meter)}
            left[part.month_us] = {meter: value - used.get(meter, 0) for meter, value in here.items()}
        else:
            used = here
        if found and part.since_us == part.start_us:
            before = {}
        found.append(PartUse(part, before, used, use.uses.get(part.month_us, {})))
        before = {meter: before.get(meter, 0) + used.get(meter, 0) for meter in {**before, **used}}
    return found


def edges_of(minutes_from_us: int) -> Callable[[int], int]:
    """What is older than ``minutes_from_us`` is kept by the hour alone: an edge there is its hour's beginning."""
    return lambda us: us if us >= minutes_from_us else us // _HOUR_US * _HOUR_US


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
