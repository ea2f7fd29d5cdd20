"""One tenant's budgets in money: a spend cap per period and prepaid credits, kept from call to call. No I/O.

Money is never counted call by call: what a call costs depends on what was used before it in the period. So the meters'
totals are kept, and the cost of all of them is compared with what may be reached (a ceiling). What is known of a call
beforehand is held as units of the meters; at the end the real values take its place.

The running period of the price is the tenant's billing period. Where it ends, the spend cap's period ends, or a grant
begins or ends, the account is turned: what was used up to there is burned, and the ceilings are reckoned anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sidecar.core.credits import FOREVER, NS_PER_MINUTE, Burned, Grant, Step, burn
from sidecar.core.periods import period_bounds
from sidecar.core.policy import Price, SpendCap
from sidecar.core.price import currency_of
from sidecar.core.tariff import Tariff
from sidecar.core.used import Used

PASSES, CAPPED, SPENT = 0, 1, 2
_NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class SpendTerms:
    """``cycle``: the tenant's billing periods (core.periods). ``cap``: micro-units per ``cap_period``, None: no cap;
    ``cap_blocks``: whether it refuses. ``prepaid``: calls that cost something need credits."""

    tariff: Tariff
    cycle: str
    cap: int | None = None
    cap_period: str = "month"
    cap_blocks: bool = True
    prepaid: bool = False


def spend_terms(price: Price, cycle: str, cap: SpendCap | None, prepaid: bool) -> SpendTerms:
    """Of a plan's price, for a tenant whose billing periods are ``cycle``."""
    tariff = Tariff(price, currency_of(price))
    if cap is None:
        return SpendTerms(tariff, cycle, prepaid=prepaid)
    return SpendTerms(tariff, cycle, cap.limit.micros, cap.cycle(cycle), cap.overage == "block", prepaid)


@dataclass(frozen=True, slots=True)
class SpendState:
    """What the ledger says at a moment. ``totals``: of the meters in the price's running period. ``cap_base``: those at
    the beginning of the cap's period, zeros where it began earlier; ``cap_before``: what earlier periods of the price
    cost within it, in 1 / ``den`` micro-units. ``grants``: those that may still be burned, ``burned`` up to the moment.
    """

    at_ns: int
    totals: tuple[int, ...]
    cap_base: tuple[int, ...] = ()
    cap_before: int = 0
    grants: tuple[Grant, ...] = ()


@dataclass(slots=True)
class Standing:
    """For people, in micro-units. ``spent``: of the cap's period, calls under way with it; ``left``: of the credits."""

    spent: int
    cap: int | None
    left: int | None
    until_ns: int = field(default=0)


class Spend:
    """``ready`` is False until a state was taken; until then nobody may ask whether a call passes. ``used``: of the
    tenant, None for one of its own."""

    __slots__ = (
        "_base",
        "_burned_micros",
        "_cap_base",
        "_cap_before",
        "_cap_ceiling",
        "_cap_end_ns",
        "_ceiling",
        "_credit_ceiling",
        "_end_ns",
        "_grants",
        "_seen",
        "_since",
        "_until_ns",
        "cost",
        "ready",
        "refused",
        "terms",
        "used",
    )

    def __init__(self, terms: SpendTerms, used: Used | None = None) -> None:
        self.terms = terms
        self.used = Used() if used is None else used
        self._base = [0] * len(terms.tariff.meters)  # totals of the running period when ``settled`` was ``_since``
        self._since = self.settled
        self._seen = -1  # ``used.changes`` when ``cost`` was counted
        self.cost = 0
        self.ready = False
        self.refused = False  # a call was, by what was known since the last state
        self._grants: list[Grant] = []
        self._burned_micros = 0
        self._cap_base = 0
        self._cap_before = 0
        self._cap_ceiling = _NEVER
        self._credit_ceiling = _NEVER
        self._ceiling = _NEVER
        self._end_ns = self._cap_end_ns = self._until_ns = 0

    def take(self, state: SpendState, meanwhile: list[int]) -> None:
        """Begins from what the ledger says. ``meanwhile``: what was settled here since it was asked, which it may or
        may not have: counted, so that no budget is exceeded; the next reading is exact."""
        terms = self.terms
        self._base = [total + more for total, more in zip(state.totals, meanwhile, strict=True)]
        self._since = self.settled
        self._end_ns = period_bounds(terms.cycle, state.at_ns)[1]
        self._grants = list(state.grants)
        self._burned_micros = terms.tariff.micros(list(state.totals))
        if terms.cap is not None:
            self._cap_end_ns = period_bounds(terms.cap_period, state.at_ns)[1]
            self._cap_base = terms.tariff.cost(list(state.cap_base)) if state.cap_base else 0
            self._cap_before = state.cap_before
        self._reckon(state.at_ns)
        self.ready = True
        self.refused = False

    def verdict(self, known: list[int], open_ended: bool, wall_ns: int) -> int:
        """Whether a call passes that is known to use ``known`` and, ``open_ended``, may cost more.

        What is known has to fit. What is not lets a call pass as long as anything is left, so that an estimate never
        locks anybody out (BerriAI/litellm#38647). A call that costs nothing passes (#10973).
        """
        self._look(wall_ns)
        cost = self.terms.tariff.cost([a + b for a, b in zip(self._counted(), known, strict=True)])
        if cost > self.cost and cost > self._ceiling:
            self.refused = True
            return CAPPED if cost > self._cap_ceiling else SPENT
        if open_ended and self.cost >= self._ceiling:
            self.refused = True
            return CAPPED if self.cost >= self._cap_ceiling else SPENT
        return PASSES

    def hold(self, known: list[int]) -> None:
        """A call began."""
        self.used.hold(self.terms.tariff.meters, known)

    def settle(self, held: list[int], values: Mapping[str, int]) -> None:
        """It ended; ``held`` is the negative of what it held, ``values`` are of all meters by name."""
        self.used.hold(self.terms.tariff.meters, held)
        self.used.settle(values)

    @property
    def settled(self) -> list[int]:
        """Since the process began, for whoever reads the ledger meanwhile."""
        settled = self.used.settled
        return [settled.get(meter, 0) for meter in self.terms.tariff.meters]

    @property
    def totals(self) -> list[int]:
        """Of the meters in the price's running period, as far as calls have ended."""
        return [base + now - then for base, now, then in zip(self._base, self.settled, self._since, strict=True)]

    def standing(self, wall_ns: int) -> Standing:
        self._look(wall_ns)
        terms = self.terms
        spent = max(0, self._cap_before + self.cost - self._cap_base) // terms.tariff.den
        left = max(0, self._credit_ceiling - self.cost) // terms.tariff.den if terms.prepaid else None
        return Standing(spent, terms.cap, left, self._until_ns)

    @property
    def busy(self) -> bool:
        """Whether calls are under way."""
        return any(self.used.held.values())

    def _counted(self) -> list[int]:
        held = self.used.held
        return [total + held.get(meter, 0) for total, meter in zip(self.totals, self.terms.tariff.meters, strict=True)]

    def _look(self, wall_ns: int) -> None:
        if not self.ready:
            raise RuntimeError("the account was not read yet")
        if wall_ns >= self._until_ns:
            self._turn(wall_ns)
        if self._seen != self.used.changes:
            self._count()

    def _count(self) -> None:
        self._seen = self.used.changes
        self.cost = self.terms.tariff.cost(self._counted())

    def _turn(self, wall_ns: int) -> None:
        """Up to ``wall_ns``, one end after the other."""
        terms = self.terms
        while wall_ns >= self._until_ns:
            at, totals = self._until_ns, self.totals
            micros = terms.tariff.micros(totals)
            minute = at // NS_PER_MINUTE
            burned = burn(self._grants, [Step(minute - 1, minute, micros - self._burned_micros)])
            self._grants = _after(self._grants, burned)
            self._burned_micros = micros
            if at >= self._end_ns:
                if terms.cap is not None:
                    self._cap_before += terms.tariff.cost(self._at_most()) - self._cap_base
                    self._cap_base = 0
                self._begin(at)
                self._burned_micros = 0
                self._end_ns = period_bounds(terms.cycle, at)[1]
            if terms.cap is not None and at >= self._cap_end_ns:
                self._cap_before = 0
                self._cap_base = terms.tariff.cost(self.totals)
                self._cap_end_ns = period_bounds(terms.cap_period, at)[1]
            self._reckon(at)

    def _begin(self, at_ns: int) -> None:
        """Another period of the price begins."""
        self._base, self._since = [0] * len(self._base), self.settled

    def _at_most(self) -> list[int]:
        """The most that ``totals`` can be."""
        return self.totals

    def _reckon(self, at_ns: int) -> None:
        """Ceilings, and until when they hold."""
        terms, den = self.terms, self.terms.tariff.den
        ends = [self._end_ns]
        self._cap_ceiling = self._credit_ceiling = _NEVER * den
        if terms.cap is not None:
            ends.append(self._cap_end_ns)
            self._cap_ceiling = terms.cap * den - self._cap_before + self._cap_base
        if terms.prepaid:
            minute = at_ns // NS_PER_MINUTE
            usable = sum(max(0, g.amount - g.burned) for g in self._grants if g.begin <= minute < g.end)
            self._credit_ceiling = (self._burned_micros + usable) * den
            ends += [m * NS_PER_MINUTE for g in self._grants for m in (g.begin, g.end) if minute < m < FOREVER]
        self._ceiling = min(self._credit_ceiling, self._cap_ceiling if terms.cap_blocks else _NEVER * den)
        if not terms.cap_blocks:
            self._cap_ceiling = _NEVER * den
        self._until_ns = min(ends)
        self._count()


def _after(grants: list[Grant], burned: Burned) -> list[Grant]:
    return [replace(grant, burned=burned.by_source[grant.source]) for grant in grants]


class SpendUse:
    """What one route's calls hold of an account, in units of the meters; made once."""

    __slots__ = ("_back", "known", "spend")

    def __init__(self, spend: Spend, known: list[int]) -> None:
        self.spend = spend
        self.known = known
        self._back = [-units for units in known]

    def begin(self) -> None:
        """A call passed."""
        self.spend.hold(self.known)

    def end(self, values: Mapping[str, int]) -> None:
        """It ended; ``values`` of all meters by name, nothing of those that are not in it."""
        self.spend.settle(self._back, values)
