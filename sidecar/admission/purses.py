"""The node's side of budgets in money that nodes share: one tenant's spend cap and credits, under one set of terms.

The store counts what the tenant uses of each priced meter (admission.budgets) and reckons what all of it costs
(core.purses); the account, read from the ledger, says what it may cost. What a request needs of each meter is held like
that of a quota, in the same call as limits and quotas, so a request whose units are in hand costs no round trip.

The ceiling follows from totals and grants alike, so every node finds the same one, however far the ledger is behind.
Where a grant ends, or a spend cap's period begins, it follows from what was used until then: this node takes the least
that it can have been, so the ceiling is too low, if anything, until the account is read again.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sidecar.admission.budgets import SharedPeriod, Want
from sidecar.admission.leases import Page
from sidecar.admission.quotas import QuotaCounter, QuotaKey, QuotaRule
from sidecar.admission.refusals import Refused, unpaid_for
from sidecar.core.budgets import BudgetAsk, BudgetStanding
from sidecar.core.clock import NS_PER_S, NS_PER_US
from sidecar.core.periods import period_bounds
from sidecar.core.policy import SpendCap
from sidecar.core.purses import MOST, PartAsk, PurseAsk
from sidecar.core.spend import CAPPED, PASSES, SPENT, Spend, SpendState, SpendTerms


class MoneyPeriod(SharedPeriod):
    """One priced meter in one period of the price. ``end_ns`` is when the account must be looked at again."""

    __slots__ = ("_offset_ns", "account", "index")

    def __init__(self, account: "SharedSpend", index: int, start_ns: int, end_ns: int) -> None:
        key = account.counters[index].key
        super().__init__(key, start_ns, end_ns, account.page, account.active)
        self.name = f"m:{key.meter}:{start_ns // NS_PER_S}:{end_ns // NS_PER_S}"
        self.account = account
        self.purse = account
        self.index = index
        self._offset_ns = 0  # from the monotonic clock to the wall's
        self.leased = True
        self.limit = MOST
        self._store_left = MOST

    @property
    def out(self) -> int:
        """Settled, and out with all nodes, as the store said last."""
        return MOST - self._store_left

    def low(self, now: int) -> bool:
        return not self.dry and super().low(now)

    def closed(self, now: int, limit: int, least: int) -> bool:
        return False

    def request(
        self, want: Want, requests: int, now: int, wall: int, late: bool, floor: int = 0, lower: int = 0
    ) -> BudgetAsk:
        if requests and self.room > 0 and self.account.tight:
            self.room = min(self.room, requests * want.hold)  # the rest is worth more than what is left
        self._offset_ns = wall - now
        return super().request(want, requests, now, wall, late, floor, lower)._replace(least=0)

    def answered(self, asked: BudgetAsk, standing: BudgetStanding, passed: int, now: int) -> None:
        self.account.turn(now + self._offset_ns)  # by what was settled before, not by what has been since
        super().answered(asked, standing, passed, now)
        if standing.known:
            self.account.heard(now, now + standing.ask_us * NS_PER_US)


class MoneyCounter(QuotaCounter):
    """The meter's running period, for a gate."""

    __slots__ = ("_account",)

    def __init__(self, account: "SharedSpend", key: QuotaKey, wall_ns: int) -> None:
        super().__init__(key, wall_ns)
        self._account = account
        self.ready = True

    def at(self, wall_ns: int) -> SharedPeriod:
        self._account.turn(wall_ns)
        current = self.current
        assert isinstance(current, SharedPeriod)
        return current


class SharedSpend(Spend):
    """An account whose meters nodes count together. ``closed_ns``: until then what the store said last refuses;
    ``tight``: what this node has in hand is worth more than what is left."""

    __slots__ = ("_last_cost", "_prices", "active", "closed_ns", "counters", "page", "tight")

    def __init__(self, terms: SpendTerms, tenant: str, page: Page, active: list[SharedPeriod], wall_ns: int) -> None:
        super().__init__(terms)
        self.page = page
        self.active = active
        self.closed_ns = 0
        self.tight = False
        self._last_cost = 0
        priced = [part.steps(MOST) for part in terms.tariff.parts]
        self._prices = tuple(PartAsk(0, 0, 0, package, rate, steps) for package, rate, steps in priced)
        keys = [QuotaKey(tenant, False, meter, terms.cycle) for meter in terms.tariff.meters]
        self.counters = [MoneyCounter(self, key, wall_ns) for key in keys]
        self._begin(wall_ns)

    @property
    def periods(self) -> list[MoneyPeriod]:
        return [current for counter in self.counters if isinstance(current := counter.current, MoneyPeriod)]

    @property
    def totals(self) -> list[int]:
        """The least that they can be: what the store said is settled, or the ledger."""
        return [max(base, period.settled) for base, period in zip(self._base, self.periods, strict=True)]

    @property
    def busy(self) -> bool:
        return any(period.needed for period in self.periods)

    def take(self, state: SpendState, meanwhile: list[int]) -> None:
        before = self._ceiling
        super().take(state, meanwhile)
        if period_bounds(self.terms.cycle, state.at_ns)[0] != self.counters[0].current.start_ns:
            base = self._base
            self._begin(state.at_ns)
            self._base = base
        self._changed(before)

    def turn(self, wall_ns: int) -> None:
        """Up to ``wall_ns``."""
        if self.ready and wall_ns >= self._until_ns:
            before = self._ceiling
            self._turn(wall_ns)
            self._changed(before)

    def heard(self, now: int, closed_ns: int) -> None:
        """The store answered of one of the meters."""
        periods, ceiling = self.periods, self._ceiling
        out = [period.out for period in periods]
        cost = self._cost(out)
        self.closed_ns = closed_ns if cost >= self._last_cost else 0  # something came back
        self._last_cost = cost
        for period in periods:
            more = out.copy()
            more[period.index] += 1
            period.dry = self._cost(more) > max(ceiling, cost)
        in_hand = cost - self._cost([period.used for period in periods])
        self.tight = ceiling - cost < in_hand

    def judge(self, known: Sequence[int], opens: Sequence[int]) -> int:
        """Whether a request passes by what the store said last; the same as core.purses.PurseCall."""
        out, point = [], []
        for period, more, opened in zip(self.periods, known, opens, strict=True):
            out.append(period.out)
            point.append(period.used if more or opened else period.out)
        after = [start + more for start, more in zip(point, known, strict=True)]
        cost, now = self._cost([max(*pair) for pair in zip(out, after, strict=True)]), self._cost(point)
        if cost <= self._ceiling or self._cost(after) <= now:
            cost = now
            if not any(opens) or cost < self._ceiling:
                return PASSES
            return CAPPED if cost >= self._cap_ceiling else SPENT
        return CAPPED if cost > self._cap_ceiling else SPENT

    def members(self, wants: Sequence[Want]) -> tuple[Want, ...]:
        here = {want.period.index for want in wants if isinstance(want.period, MoneyPeriod)}
        return (*wants, *(Want(period, MOST, 0, 0) for period in self.periods if period.index not in here))

    def ask(self, wants: Sequence[Want]) -> PurseAsk:
        parts = []
        for place, want in enumerate(wants):
            if isinstance(want.period, MoneyPeriod):
                known = 0 if want.open else want.hold
                parts.append(self._prices[want.period.index]._replace(budget=place, known=known, open=want.open))
        return PurseAsk(self._ceiling, tuple(parts))

    def _cost(self, totals: Sequence[int]) -> int:
        return sum(part.cost(total) for part, total in zip(self._prices, totals, strict=True))

    def _counted(self) -> list[int]:
        return [max(base, period.used) for base, period in zip(self._base, self.periods, strict=True)]

    def _at_most(self) -> list[int]:
        return self._counted()

    def _look(self, wall_ns: int) -> None:
        self.turn(wall_ns)
        super()._look(wall_ns)
        self._count()

    def _begin(self, at_ns: int) -> None:
        self._base = [0] * len(self.counters)
        start, end = period_bounds(self.terms.cycle, at_ns)
        for index, counter in enumerate(self.counters):
            if isinstance(counter.current, MoneyPeriod):
                counter.current.give_up()
            counter.current = MoneyPeriod(self, index, start, end)

    def _changed(self, before: int) -> None:
        for period in self.periods:
            period.end_ns = self._until_ns
            if self._ceiling < before:
                period.give_up()
        if self._ceiling != before:
            self.closed_ns = 0


@dataclass(frozen=True, slots=True)
class Money:
    """What a gate asks of a shared account. ``asks`` False: nothing, the calls are counted. ``read`` reads the account
    when it was not read yet."""

    spend: SharedSpend
    rules: tuple[QuotaRule, ...]
    asks: bool
    cap: SpendCap | None
    pay_url: str | None
    read: Callable[[], Awaitable[None]]

    def wants(self) -> list[Want]:
        """What a request needs of each meter, as the store must know it."""
        return [
            Want(period, rule.limit, rule.hold, rule.least, rule.open)
            for rule in self.rules
            if isinstance(period := rule.counter.current, SharedPeriod)
        ]

    def verdict(self, now: int) -> int:
        """By what the store said last, as long as that holds; PASSES too where it has to be asked."""
        spend = self.spend
        return PASSES if now >= spend.closed_ns or (spend.tight and self._spare()) else self.judged()

    def judged(self) -> int:
        """By what the store said last, however long ago."""
        known, opens = [0] * len(self.spend.counters), [0] * len(self.spend.counters)
        for rule in self.rules:
            index = self.spend.terms.tariff.meters.index(rule.meter)
            known[index], opens[index] = (0 if rule.open else rule.hold), rule.open
        return self.spend.judge(known, opens)

    def _spare(self) -> bool:
        """Whether more is in hand than a request needs: it would go back with the next call."""
        needed = {rule.meter: rule.hold for rule in self.rules}
        return any(period.room > needed.get(period.key.meter, 0) for period in self.spend.periods)

    def refusal(self, verdict: int, wall_ns: int, upgrade: str | None) -> Refused:
        return unpaid_for(self.spend, verdict, self.cap, wall_ns, self.pay_url, upgrade)
