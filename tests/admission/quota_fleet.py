"""A fleet that shares one quota, by the seed: nodes, a store behind a bad network, a ledger, crashes.

Time is true time in nanoseconds; each node's monotonic clock began elsewhere. A call is admitted, runs, and ends with a
value that goes into its node's journal, which outlives the node, and from there into the ledger.
"""

from collections.abc import Callable

from sidecar.admission.budgets import SharedPeriod, Want
from sidecar.admission.leases import Page
from sidecar.admission.quotas import QuotaKey
from sidecar.core.budgets import BudgetAsk
from sidecar.core.leases import Answer, Ask, Book
from tests.admission.fleet import MS, Fleet, S, Weather

KEY = QuotaKey("acme", False, "tokens", "month")
SHIP_NS = 200 * MS


class QuotaNode:
    """One process."""

    def __init__(self, fleet: "QuotaFleet") -> None:
        self.fleet = fleet
        self.journal = 0  # what is not in the ledger yet; it outlives the process
        self.paused_until = 0
        self.offset_ns = fleet.random.randrange(10**15)
        self.life = 0
        self.boot()

    def boot(self) -> None:
        self.life += 1
        self.active: list[SharedPeriod] = []
        self.period = SharedPeriod(KEY, 0, 2**60, Page("acme"), self.active)
        self.waiting: list[int] = []  # when each began to wait
        self.busy = False

    def now(self) -> int:
        return self.fleet.time + self.offset_ns

    def request(self) -> None:
        """As the gate: takes from what is in hand, is refused, or waits for a call."""
        fleet, period, now = self.fleet, self.period, self.now()
        if now >= period.lapse_ns:
            period.lapse(now)
        left = min(fleet.limit - period.used, period.room)
        if left >= fleet.needs or (left >= fleet.least and period.dry):
            self.admit(min(fleet.hold, left) if fleet.hold else 0)
            if period.low(now) and not self.busy:
                self.call(0)
        elif not period.closed(now, fleet.limit, fleet.least):
            self.waiting.append(fleet.time)
            if not self.busy:
                self.call(len(self.waiting))

    def admit(self, amount: int) -> None:
        fleet, life, value = self.fleet, self.life, self.fleet.value()
        self.period.hold(amount)
        fleet.passed += 1
        fleet.granted += amount
        fleet.excess += max(0, value - amount)

        def end() -> None:
            if life == self.life:
                self.period.settle(amount, value)
                fleet.spent += value
                self.journal += value
                fleet.later(fleet.random.randrange(1, SHIP_NS), self.ship)
            else:  # it died with its process, and nobody pays
                fleet.lost += amount

        fleet.later(fleet.random.randrange(1, fleet.longest_ns), end)

    def ship(self) -> int:
        """Brings the journal into the ledger; what that has then."""
        self.fleet.ledger += self.journal
        self.journal = 0
        return self.fleet.ledger

    def compare_later(self, ledger: int) -> None:
        self.period.compared = ledger, self.period.settled, self.now() + 5 * S
        self.period.enter()

    def call(self, requests: int, floor: int = 0, lower: int = 0, then: Callable[[], None] | None = None) -> None:
        fleet, life, period = self.fleet, self.life, self.period
        self.busy = True
        del self.waiting[:requests]
        hold, least = (fleet.hold, fleet.least) if requests or period.low(self.now()) else (0, 0)
        want = Want(period, fleet.limit, hold, least)
        asked = period.request(want, requests, self.now(), fleet.time, False, floor, lower)
        ask = Ask("acme", 0, requests, 0, 0, 1, (), (asked,))
        fleet.calls += 1
        there, lost = fleet.delay(), fleet.chance(fleet.weather.lost_calls)
        back, gone = fleet.delay(), fleet.chance(fleet.weather.lost_answers)

        def arrive() -> None:
            answer = fleet.book.lease(ask, fleet.time // 1000)
            fleet.later(back, lambda: self.answer(life, asked, requests, None if gone else answer, then))

        if lost:
            fleet.later(there + back, lambda: self.answer(life, asked, requests, None, then))
        else:
            fleet.later(there, arrive)

    def answer(
        self,
        life: int,
        asked: BudgetAsk,
        requests: int,
        answer: Answer | None,
        then: Callable[[], None] | None,
    ) -> None:
        if life != self.life:
            return
        fleet, period = self.fleet, self.period
        if fleet.time < self.paused_until:
            fleet.later(self.paused_until - fleet.time, lambda: self.answer(life, asked, requests, answer, then))
            return
        self.busy = False
        if answer is None:
            return
        period.answered(asked, answer.budgets[0], answer.passed, self.now())
        if not period.known:
            before = period.total
            period.seed(self.ship(), before)
            self.call(requests)
            return
        if then is not None:
            then()
        for _ in range(answer.passed):
            left = min(fleet.limit - period.used, period.room)
            if left >= fleet.least:
                self.admit(min(fleet.hold, left) if fleet.hold else 0)
        period.check_due = period.check_due or answer.budgets[0].check > 0
        if self.waiting:
            self.call(len(self.waiting))

    def sweep(self) -> None:
        """What the keeper does ten times a second."""
        period, now = self.period, self.now()
        self.active[:] = [each for each in self.active if not each.idle_after(now)]
        if self.busy:
            return
        if period.check_due and period.compared is None:
            period.check_due = False
            ledger = self.ship()
            self.call(0, then=lambda: self.compare_later(ledger))
        elif period.compared is not None and now >= period.compared[2]:
            ledger, settled, _ = period.compared
            total, period.compared = self.ship(), None
            lower = settled - total if period.settled >= settled > total else 0
            self.call(0, ledger, lower)
        elif self.active and period.due(now, False):
            self.call(0)


class QuotaFleet(Fleet):
    """``hold`` 0: nothing is known beforehand; ``least`` below ``hold``: an estimate. ``most``: of a call's value; what
    is known beforehand always is ``hold``. Counts: calls that ``passed``, what was ``granted`` to them, the ``excess``
    of what they use over that, what those that ended ``spent``, and what was ``lost`` with processes that died."""

    def __init__(
        self,
        seed: int,
        limit: int,
        rates: list[float],
        weather: Weather,
        *,
        hold: int = 1,
        least: int = 1,
        most: int = 0,
    ) -> None:
        super().__init__(seed, [], [], weather)
        self.limit, self.hold, self.least, self.largest = limit, hold, least, most
        self.needs = hold or 1
        self.longest_ns = 3 * S
        self.calm = False
        self.excess = self.passed = self.granted = self.spent = self.lost = self.ledger = 0
        self.members = [QuotaNode(self) for _ in rates]
        for node, rate in zip(self.members, rates, strict=True):
            self.later(self.random.randrange(S), lambda node=node, rate=rate: self.arrive(node, rate))
            self.later(100 * MS, lambda node=node: self.tick(node))

    def value(self) -> int:
        return self.random.randint(0, self.largest) if self.largest else self.hold

    def arrive(self, node: QuotaNode, rate: float) -> None:
        if rate and not self.calm:
            self.later(max(1, round(self.random.expovariate(rate) * S)), lambda: self.arrive(node, rate))
            self.requests += 1
            if self.time >= node.paused_until:
                node.request()

    def tick(self, node: QuotaNode) -> None:
        self.later(100 * MS, lambda: self.tick(node))
        weather = self.weather
        if weather.crashes and self.chance(weather.crashes):
            node.boot()
        if weather.pause_ns and self.chance(0.02):
            node.paused_until = self.time + self.random.randrange(weather.pause_ns)
        if self.time >= node.paused_until:
            node.sweep()

    def quiet(self, seconds: float) -> None:
        """No more calls and fair weather."""
        self.calm, self.weather = True, Weather()
        self.run(seconds)
        for _ in range(4):  # what was hidden by traffic is seen now
            for node in self.members:
                if not node.busy:
                    node.call(0)
            self.run(65)

    def forget(self) -> None:
        """The store loses all its data."""
        self.book = Book()

    @property
    def counter(self) -> tuple[int, int]:
        """Settled and out."""
        (found,) = self.book._pages["acme"].budgets.values()
        return found.settled, found.out
