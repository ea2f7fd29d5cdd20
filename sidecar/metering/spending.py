"""From the ledger to money: what a tenant's metered use cost, and what is burned of its credits.

Use is priced by the tenant's billing periods, as its price says: what a stretch of time costs is the price of the
meters' totals at its end less that at its beginning, both of the period so far, rounded alike. So the stretches of a
period add up to its price, however it is cut.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from sidecar.core.credits import NS_PER_MINUTE, Book, Grant, Share, Step, burn, edges
from sidecar.core.periods import period_bounds
from sidecar.core.spend import SpendState, SpendTerms

MeterTotal: TypeAlias = Callable[[str, str, int, int, bool], Awaitable[int]]
US_PER_MINUTE = 60_000_000
LATE_MINUTES = 2 * 1440  # after a period's end what comes late is in, and its burns are settled for good


class Settlement(NamedTuple):
    """A book, what was burned of each source up to its minute, and who paid for what since the book before it."""

    book: Book
    burned: dict[str, int]
    shares: tuple[Share, ...]


class Burns(NamedTuple):
    """``grants`` with all that is burned of them; ``settle``: where a whole period can be settled; ``shares``: who paid
    for what since the book."""

    grants: tuple[Grant, ...]
    uncovered: int
    settle: Settlement | None = None
    shares: tuple[Share, ...] = ()


class Use:
    """One tenant's use over time."""

    def __init__(self, tenant: str, terms: SpendTerms, meter_total: MeterTotal) -> None:
        self._tenant = tenant
        self._terms = terms
        self._meter_total = meter_total

    def period(self, minute: int) -> tuple[int, int]:
        """The billing period that holds the Unix minute, in minutes."""
        start, end = period_bounds(self._terms.cycle, minute * NS_PER_MINUTE)
        return start // NS_PER_MINUTE, end // NS_PER_MINUTE

    async def totals(self, start: int, end: int) -> list[int]:
        """The priced meters' totals over [start, end), Unix minutes."""
        if start >= end:
            return [0] * len(self._terms.tariff.meters)
        begin_us, end_us = start * US_PER_MINUTE, end * US_PER_MINUTE
        return [await self._meter_total(self._tenant, m, begin_us, end_us, False) for m in self._terms.tariff.meters]

    async def steps(self, cuts: Sequence[int]) -> list[Step]:
        """The price of each stretch between two ``cuts``, cut at the ends of billing periods too."""
        steps = []
        for begin, end in pairwise(cuts):
            while begin < end:
                start, stop = self.period(begin)
                upto = min(end, stop)
                before = self._terms.tariff.micros(await self.totals(start, begin))
                micros = self._terms.tariff.micros(await self.totals(start, upto)) - before
                steps.append(Step(begin, upto, micros))
                begin = upto
        return steps


async def burned(use: Use, book: Book | None, grants: Sequence[Grant], now: int, cuts: Collection[int] = ()) -> Burns:
    """What is burned of ``grants`` up to the end of the Unix minute ``now``; no share is of both sides of a cut."""
    if not grants:
        return Burns((), 0 if book is None else book.uncovered)
    begin = min(grant.begin for grant in grants) if book is None else book.until
    uncovered = 0 if book is None else book.uncovered
    end = max(begin, now + 1)
    steps = await use.steps(sorted({*edges(grants, begin, end), *(cut for cut in cuts if begin < cut < end)}))
    settled, _ = use.period(now - LATE_MINUTES)
    old = [step for step in steps if step.end <= settled]
    settle: Settlement | None = None
    shares: tuple[Share, ...] = ()
    if old:
        found = burn(grants, old, uncovered)
        grants, uncovered = _with(grants, found.by_source), found.uncovered
        shares = found.shares
        settle = Settlement(Book(grants[0].tenant, old[-1].end, uncovered), dict(found.by_source), shares)
    found = burn(grants, steps[len(old) :], uncovered)
    return Burns(tuple(_with(grants, found.by_source)), found.uncovered, settle, shares + found.shares)


async def spend_state(
    use: Use, terms: SpendTerms, credit: tuple[Book | None, Sequence[Grant]], now_ns: int
) -> tuple[SpendState, Burns]:
    """The account at ``now_ns``."""
    now = now_ns // NS_PER_MINUTE
    start, _ = use.period(now)
    totals = await use.totals(start, now + 1)
    base, before = [0] * len(totals), 0
    if terms.cap is not None:
        cap_start = period_bounds(terms.cap_period, now_ns)[0] // NS_PER_MINUTE
        base = await use.totals(start, cap_start)
        while cap_start < start:
            first, stop = use.period(cap_start)
            cost = terms.tariff.cost(await use.totals(first, min(stop, start)))
            before += cost - terms.tariff.cost(await use.totals(first, cap_start))
            cap_start = stop
    burns = await burned(use, *credit, now) if terms.prepaid else Burns((), 0)
    alive = tuple(grant for grant in burns.grants if grant.end > now)
    return SpendState(now_ns, tuple(totals), tuple(base), before, alive), burns


def usable(grants: Sequence[Grant], minute: int) -> int:
    """Micro-units that can be burned in this minute."""
    return sum(grant.amount - grant.burned for grant in grants if grant.begin <= minute < grant.end)


def _with(grants: Sequence[Grant], by_source: Mapping[str, int]) -> list[Grant]:
    return [replace(grant, burned=by_source[grant.source]) for grant in grants]
