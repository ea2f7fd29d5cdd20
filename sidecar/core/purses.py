"""Budgets in money that nodes share: what the totals of several meters cost together stays under a ceiling.

Each priced meter has a budget (core.budgets) without a limit of its own: what is settled of it, and what is out with
nodes. The money is not counted beside them; the price of all of them is reckoned anew in each call, in the store, so it
is the price of the sum and not the sum of prices: what is included, packages and tiers are exact, whichever node used
what. A request passes

- if what is known of it fits, with all that is out: ``cost(settled + out + known) <= ceiling``, or if it costs nothing;
- and, where it may use more than is known, if anything is left before it.

Then its estimate is held as far as it fits, at least one unit of what may be used; and units ahead, for at most a
quarter of the money that is left. So cost(settled + out) exceeds the ceiling by nothing but that one unit, and what is
spent exceeds it by nothing but what calls used beyond what was held for them.

Costs are in 1 / ``den`` micro-units of the tariff. Lua counts in doubles, exactly up to 2**53 of them; beyond, a
ceiling is off by a part in 10**15 at most.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sidecar.core.budgets import SHARE, BudgetAsk, BudgetCall

MOST = 2**53 - 1  # units of a meter


class PartAsk(NamedTuple):
    """One priced meter. ``budget``: its place among the budgets of the call, whose ``hold`` is what each request holds;
    ``known``: what is known of that; ``open`` 1: it may use more. ``package`` and ``rate``, or ``steps``, are its price
    (core.tariff.MeterTariff)."""

    budget: int
    known: int
    open: int
    package: int
    rate: int
    steps: tuple[tuple[int, int, int, int], ...]

    def cost(self, total: int) -> int:
        """Never less for more: where a price by volume falls, the highest before counts."""
        if total <= 0:
            return 0
        if self.package:
            return -(-total // self.package) * self.rate
        most = 0
        for last, base, rate, below in self.steps:
            if total <= last:
                return max(most, base + (total - below) * rate)
            most = max(most, base + (last - below) * rate)
        return most

    @property
    def asks(self) -> bool:
        """Whether the requests use it; a budget that is in the call for its cost alone is not asked for anything."""
        return self.known > 0 or self.open > 0


class PurseAsk(NamedTuple):
    """``ceiling``: what the totals of all ``parts`` may cost."""

    ceiling: int
    parts: tuple[PartAsk, ...]

    def cost(self, totals: Sequence[int]) -> int:
        cost = 0
        for part, total in zip(self.parts, totals, strict=True):
            cost += part.cost(total)
        return cost


class PurseCall:
    """A purse in one call, on the store's side. ``requests``: how many may pass by it, of those that ask."""

    __slots__ = ("_asks", "_calls", "_point", "_purse", "_totals", "requests")

    def __init__(self, purse: PurseAsk, asks: Sequence[BudgetAsk], calls: Sequence[BudgetCall], requests: int) -> None:
        self._purse = purse
        self._asks = [asks[part.budget] for part in purse.parts]
        self._calls = [calls[part.budget] for part in purse.parts]
        self._totals = [call.total for call in self._calls]
        # What is in the node's hand counts as free of what its requests ask for, and as used of all else.
        self._point = [
            total - (ask.left if part.asks else 0)
            for total, ask, part in zip(self._totals, self._asks, purse.parts, strict=True)
        ]
        self.requests = 0
        if not all(call.fresh for call in self._calls):
            return
        low, high = 0, requests
        while low < high:  # the most that pass; all of them, mostly, so that is tried first
            middle = high if (low, high) == (0, requests) else (low + high + 1) // 2
            if self._passes(middle):
                low = middle
            else:
                high = middle - 1
        self.requests = low

    def grants(self, passed: int, ahead: bool) -> dict[int, int]:
        """What the node gets of each budget, by its place, when ``passed`` requests do; ``ahead``: all that asked."""
        parts, purse = self._purse.parts, self._purse
        if not all(call.fresh for call in self._calls):
            return {part.budget: 0 for part in parts}
        least = [max(passed * part.known, min(passed, 1) * part.open) for part in parts]
        totals = [max(t, u + n) for t, u, n in zip(self._totals, self._point, least, strict=True)]
        for index, ask in enumerate(self._asks):
            wanted = self._point[index] + passed * ask.hold
            if wanted > totals[index]:
                self._raise(totals, index, wanted, purse.ceiling)
        for index, (ask, call) in enumerate(zip(self._asks, self._calls, strict=True)):
            if ahead and ask.ahead and call.grants_ahead:
                cost = purse.cost(totals)
                bound = cost + max(0, purse.ceiling - cost) // SHARE
                self._raise(totals, index, totals[index] + ask.ahead, bound)
        return {part.budget: totals[i] - self._totals[i] for i, part in enumerate(parts)}

    def _passes(self, count: int) -> bool:
        purse, point = self._purse, self._point
        after = [start + count * part.known for start, part in zip(point, purse.parts, strict=True)]
        if purse.cost([max(now, then) for now, then in zip(self._totals, after, strict=True)]) > purse.ceiling and (
            purse.cost(after) > purse.cost(point)
        ):
            return False
        if not any(part.open for part in purse.parts):
            return True
        before = [start + (count - 1) * ask.hold for start, ask in zip(point, self._asks, strict=True)]
        return purse.cost(before) < purse.ceiling

    def _raise(self, totals: list[int], index: int, wanted: int, bound: int) -> None:
        """Brings one total up to ``wanted``, as far as all of them then cost at most ``bound``."""
        part, low, high = self._purse.parts[index], totals[index], wanted
        bound -= self._purse.cost(totals) - part.cost(low)
        if part.cost(wanted) <= bound:
            totals[index] = wanted
            return
        while low < high:
            middle = (low + high + 1) // 2
            if part.cost(middle) <= bound:
                low = middle
            else:
                high = middle - 1
        totals[index] = low
