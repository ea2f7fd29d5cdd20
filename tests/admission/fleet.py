"""A fleet in one process, by the seed: nodes with leases, a store behind a bad network, and all that was admitted.

Time is true time in nanoseconds. Every node's monotonic clock began elsewhere and does not jump (the wall clock, which
does, is never asked); the store's clock is stepped back and clamped. A step forward by J is not in the promise: who
trusts a clock forgets J early, so Redis' host has to slew. A node can pause (all it has to do waits), crash
(what it held is gone) and lose calls or answers; the store can lose all it knew.
"""

import heapq
import random
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

from sidecar.admission.leases import Lease, Page, answered, ask_for, unanswered
from sidecar.core.leases import Answer, Ask, Book

S = 1_000_000_000
MS = 1_000_000


@dataclass
class Weather:
    """How bad the network and the machines are: chances per call, and the longest delay of one way."""

    delay_ns: int = MS
    lost_calls: float = 0.0
    lost_answers: float = 0.0
    pause_ns: int = 0
    crashes: float = 0.0


@dataclass
class Limit:
    limit: int
    window_ns: int
    exact: bool = False


class Node:
    """One worker: requests in, admitted or not."""

    def __init__(self, fleet: "Fleet", name: int) -> None:
        self.fleet = fleet
        self.offset_ns = fleet.random.randrange(10**15)
        self.waiting = 0
        self.busy = False
        self.paused_until = 0
        self.life = 0
        self.boot()
        self.name = name

    def boot(self) -> None:
        self.page = Page("acme")
        now = self.now()
        self.leases = [
            Lease(f"{i}", self.page, each.limit, each.window_ns, each.exact, now)
            for i, each in enumerate(self.fleet.limits)
        ]
        self.waiting = 0
        self.busy = False
        self.life += 1

    def now(self) -> int:
        return self.fleet.time + self.offset_ns

    def request(self) -> None:
        """As the gate: takes from what is in hand, or waits for one call, or is refused."""
        now = self.now()
        for lease in self.leases:
            if now >= lease.next_ns:
                lease.expire(now)
        if all(lease.used + 1 <= lease.limit for lease in self.leases):
            self.admit(now)
            if not self.busy and any(lease.low(now) for lease in self.leases):
                self.call(0)
        elif not any(lease.limit - lease.used < 1 and lease.closed(now, 1) for lease in self.leases):
            self.waiting += 1
            self.fleet.waits += 1
            if not self.busy:
                self.call(self.waiting)

    def admit(self, now: int) -> None:
        for lease in self.leases:
            lease.take(now, 1)
        self.fleet.admitted.append(self.fleet.time)

    def call(self, requests: int) -> None:
        fleet, life = self.fleet, self.life
        self.busy = True
        self.waiting -= requests
        ask, sent = ask_for(self.page, self.leases, 1, requests, self.now()), self.now()
        fleet.calls += 1
        there, lost = fleet.delay(), fleet.chance(fleet.weather.lost_calls)
        back, gone = fleet.delay(), fleet.chance(fleet.weather.lost_answers)

        def arrive() -> None:
            answer = fleet.decide(ask)
            fleet.later(back, lambda: self.run(life, lambda: self.answer(ask, None if gone else answer, sent)))

        if lost:
            fleet.later(there + back, lambda: self.run(life, lambda: self.answer(ask, None, sent)))
        else:
            fleet.later(there, arrive)

    def run(self, life: int, work: Callable[[], None]) -> None:
        """When the node lives and is not paused."""
        if life != self.life:
            return
        if self.fleet.time < self.paused_until:
            self.fleet.later(self.paused_until - self.fleet.time, lambda: self.run(life, work))
        else:
            work()

    def answer(self, ask: Ask, answer: Answer | None, sent: int) -> None:
        self.busy = False
        now = self.now()
        if answer is None:
            unanswered(self.leases)
            return
        answered(self.page, self.leases, ask, answer, sent, now)
        for _ in range(answer.passed):
            if all(lease.used + 1 <= lease.limit for lease in self.leases):
                self.admit(now)
        if self.waiting:
            self.call(self.waiting)

    def sweep(self) -> None:
        """What the keeper does a few times a second: gives back what was not spent."""
        now = self.now()
        for lease in self.leases:
            if now >= lease.next_ns:
                lease.expire(now)
        if not self.busy and any(lease.returns for lease in self.leases):
            self.call(0)


@dataclass
class Fleet:
    seed: int
    limits: list[Limit]
    rates: list[float]  # requests per second and node
    weather: Weather = field(default_factory=Weather)
    wave_s: float = 0.0  # in the second half of each, only every tenth request comes

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.time = S
        self.book = Book()
        self.store_skew_us = 0
        self.admitted: list[int] = []
        self.requests = 0
        self.calls = self.waits = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self.nodes = [Node(self, name) for name in range(len(self.rates))]

    def chance(self, of: float) -> bool:
        return self.random.random() < of

    def delay(self) -> int:
        return self.random.randrange(1, self.weather.delay_ns + 1)

    def later(self, delay_ns: int, work: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (self.time + delay_ns, self._order, work))

    def decide(self, ask: Ask) -> Answer:
        return self.book.lease(ask, self.time // 1000 + self.store_skew_us)

    def run(self, seconds: float) -> None:
        for node, rate in zip(self.nodes, self.rates, strict=True):
            if rate:
                self.later(self.random.randrange(S), lambda node=node, rate=rate: self._arrival(node, rate))
            self.later(100 * MS, lambda node=node: self._sweep(node))
        self.resume(seconds)

    def resume(self, seconds: float) -> None:
        """Goes on with what ``run`` began."""
        end = self.time + round(seconds * S)
        while self._events and self._events[0][0] < end:
            self.time, _, work = heapq.heappop(self._events)
            work()
        self.time = end

    def _arrival(self, node: Node, rate: float) -> None:
        self.later(max(1, round(self.random.expovariate(rate) * S)), lambda: self._arrival(node, rate))
        if self.wave_s and self.time / S % self.wave_s > self.wave_s / 2 and not self.chance(0.1):
            return
        self.requests += 1
        node.run(node.life, node.request)

    def _sweep(self, node: Node) -> None:
        self.later(100 * MS, lambda: self._sweep(node))
        weather = self.weather
        if weather.crashes and self.chance(weather.crashes):
            node.boot()
        if weather.pause_ns and self.chance(0.02):
            node.paused_until = self.time + self.random.randrange(weather.pause_ns)
        if weather.pause_ns and self.chance(0.001):
            self.store_skew_us -= self.random.randrange(3_000_000)
        node.run(node.life, node.sweep)

    def most(self, window_ns: int) -> int:
        """The oracle: the most units admitted in any interval [t, t + W)."""
        times = sorted(self.admitted)
        return max((i - bisect_left(times, t - window_ns + 1) + 1 for i, t in enumerate(times)), default=0)

    def usable(self, limit: int, window_ns: int, windows: int) -> float:
        """How fast units come back to who always wants more: 1.0 is a whole limit in every window."""
        times = sorted(self.admitted)
        return windows * window_ns / (times[windows * limit] - times[0])
