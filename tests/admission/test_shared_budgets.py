"""Quotas and money that nodes share, by a hypothesis state machine, against an exact account of what happened.

Nodes crash, calls and answers of the store are lost, the store and the ledger go away, the store loses everything,
periods end, plans change. What may then pass is what docs/limits.md and docs/credits.md say: never more than the limit
of what is known beforehand; of money, what calls used beyond what was held for them on top; and, when the store loses
its data, what was out or not yet in the ledger at that moment.
"""

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.core.clock import NS_PER_S
from sidecar.core.errors import StoreError
from sidecar.core.leases import Book
from sidecar.core.policy import Plan, Quota, SpendCap
from tests.admission.money_fleet import CHAT, FREE, PAID, MoneyFleet, MoneyNode, priced, usd

T = TypeVar("T")
CALL, TOKEN = 100_000, 1_000  # micro-units
HOUR_NS = 3600 * NS_PER_S
EXAMPLES = int(os.environ.get("SIDECAR_FLEET_SEEDS", "6")) * 4
ROUTES = {route.name: route for route in (PAID, CHAT, FREE)}
nodes = st.integers(0, 2)


def plan(limit: int, cap: str, estimate: int = 300) -> Plan:
    return Plan(
        "p",
        price=priced("0.10", "1.00"),
        spend_cap=SpendCap(usd(cap), "hour"),
        quotas=(
            Quota("hourly", "requests", limit, "hour"),
            Quota("guess", "tokens", 10**9, "day", overage="allow", estimate=estimate),
        ),
    )


class SharedBudgets(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.slack_requests = self.slack_micros = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize(limit=st.integers(3, 20), cap=st.sampled_from(["0.30", "0.95", "2.00"]), before=st.integers(2, 90))
    def begin(self, limit: int, cap: str, before: int) -> None:
        """Soon before an hour ends."""

        async def made() -> MoneyFleet:
            fleet = MoneyFleet(plan(limit, cap))
            fleet.clock.advance(3600 - before)
            return fleet

        self.fleet = self.run(made())
        self.limit, self.cap = limit, usd(cap).micros
        self.counted: dict[MoneyNode, list[tuple[int, int]]] = {node: [] for node in self.fleet.nodes}  # under way
        self.ended: list[tuple[int, int, int, int]] = []  # hour of admission, that of the end, micros, beyond the hold
        self.hour = self._hour()

    def _hour(self) -> int:
        return self.fleet.clock.wall_ns() // HOUR_NS

    @property
    def requests(self) -> int:
        """Admitted in this hour, and not dead."""
        flying = sum(hour == self._hour() for each in self.counted.values() for hour, _ in each)
        return flying + sum(hour == self._hour() for hour, _, _, _ in self.ended)

    @property
    def micros(self) -> int:
        """Spent in this hour, with what is known of calls under way."""
        flying = sum(known for each in self.counted.values() for _, known in each)
        return flying + sum(micros for _, hour, micros, _ in self.ended if hour == self._hour())

    @property
    def beyond(self) -> int:
        return sum(beyond for _, hour, _, beyond in self.ended if hour == self._hour())

    @rule(which=nodes, route=st.sampled_from(["paid", "paid", "chat", "free"]), tokens=st.integers(0, 900))
    def call(self, which: int, route: str, tokens: int) -> None:
        node = self.fleet.nodes[which]
        if self.run(self._begin(node, route, tokens)):
            self._passed(node, route)

    @rule(times=st.integers(1, 4), route=st.sampled_from(["paid", "free"]))
    def burst(self, times: int, route: str) -> None:
        """From every node at once."""

        async def all_of_them() -> list[bool]:
            members = self.fleet.nodes * times
            return await asyncio.gather(*(self._begin(node, route, 0) for node in members))

        passed = self.run(all_of_them())
        for node, went in zip(self.fleet.nodes * times, passed, strict=True):
            if went:
                self._passed(node, route)

    async def _begin(self, node: MoneyNode, route: str, tokens: int) -> bool:
        values = (
            {"requests": 1}
            | ({} if route == "free" else {"calls": 1})
            | ({"tokens": tokens} if route == "chat" else {})
        )
        try:
            return await node.begin(ROUTES[route], **values)
        except StoreError:
            return False

    def _passed(self, node: MoneyNode, route: str) -> None:
        self.counted[node].append((self._hour(), 0 if route == "free" else CALL))
        assert self.requests <= self.limit + self.slack_requests
        if route != "free":
            assert self.micros <= self.cap + self.beyond + TOKEN + self.slack_micros

    @rule(which=nodes, index=st.integers(0, 30))
    def end(self, which: int, index: int) -> None:
        node = self.fleet.nodes[which]
        if node.open:
            self._end(node, index % len(node.open))

    def _end(self, node: MoneyNode, index: int) -> None:
        ticket, values = node.open[index]
        money = [(meter, amount) for period, meter, amount in ticket._held if hasattr(period, "account")]
        held = sum(amount for meter, amount in money if meter == "tokens")
        hour, known = self.counted[node].pop(index)
        used = TOKEN * values.get("tokens", 0)
        node.end(index)
        self.ended.append((hour, self._hour(), known + used, max(0, used - TOKEN * held)))

    @rule(seconds=st.integers(1, 35))
    def time(self, seconds: int) -> None:
        self.run(self.fleet.pass_time(seconds))
        if self._hour() != self.hour:
            self.hour, self.slack_requests, self.slack_micros = self._hour(), 0, 0
            self._keep_slack()

    @rule(which=nodes)
    def seat(self, which: int) -> None:
        """As at least every 30 s."""

        async def seated() -> None:
            try:
                await self.fleet.nodes[which].seated()
            except StoreError:
                pass

        self.run(seated())

    @rule(which=nodes)
    def crash(self, which: int) -> None:
        node = self.fleet.nodes[which]
        self.counted[node] = []

        async def boot() -> None:
            node.boot()

        self.run(boot())

    @rule(calls=st.integers(0, 2), answers=st.integers(0, 2))
    def lose(self, calls: int, answers: int) -> None:
        self.fleet.lose_calls, self.fleet.lose_answers = calls, answers

    @rule(down=st.booleans())
    def store(self, down: bool) -> None:
        self.fleet.down = down

    @rule(down=st.booleans())
    def ledger(self, down: bool) -> None:
        self.fleet.ledger_down = down

    @precondition(lambda self: not self.fleet.ledger_down)
    @rule()
    def flush(self) -> None:
        self.fleet.book = Book()
        self._keep_slack()

    def _keep_slack(self) -> None:
        """What is out with nodes and what the ledger does not have yet."""
        for node in self.fleet.nodes:
            keeper = node.room.keeper
            assert keeper is not None
            for period in keeper.active:
                out = period._flying + max(0, period.room)
                if period.name.startswith("q:requests"):
                    self.slack_requests += out
                elif period.name.startswith("m:"):
                    self.slack_micros += out * (CALL if "calls" in period.name else TOKEN)
            self.slack_requests += len(node.journal)
            self.slack_micros += sum(
                value * {"calls": CALL, "tokens": TOKEN}.get(meter, 0) for _, meter, value in node.journal
            )

    @rule(limit=st.integers(3, 20), cap=st.sampled_from(["0.30", "0.95", "2.00"]))
    def change(self, limit: int, cap: str) -> None:
        self.limit, self.cap = limit, usd(cap).micros

        async def load() -> None:
            self.fleet.load(plan(limit, cap))

        self.run(load())

    @invariant()
    def the_journal_has_what_was_counted(self) -> None:
        if not hasattr(self, "fleet"):
            return
        entries = [*self.fleet.entries, *(one for node in self.fleet.nodes for one in node.journal)]
        micros = sum(value * {"calls": CALL, "tokens": TOKEN}.get(meter, 0) for _, meter, value in entries)
        assert micros == sum(spent for _, _, spent, _ in self.ended)

    def teardown(self) -> None:
        """In fair weather all of it can be used, on any node, and the counters are the ledger's."""
        try:
            if hasattr(self, "fleet"):
                self.run(self._calm())
        finally:
            if hasattr(self, "fleet"):
                self.run(self.fleet.close_nodes())
            self.runner.close()

    async def _calm(self) -> None:
        fleet = self.fleet
        fleet.down = fleet.ledger_down = False
        fleet.lose_calls = fleet.lose_answers = 0
        for node in fleet.nodes:
            for index in reversed(range(len(node.open))):
                self._end(node, index)
        await fleet.pass_time(100)
        for node in fleet.nodes:
            await node.seated()
            await self._begin(node, "free", 0)
            for _ in node.open:
                self.counted[node].append((self._hour(), 0))
                self._end(node, 0)
        await fleet.pass_time(75)
        for node in fleet.nodes:
            await node.seated()
        used, spent = self.requests, self.micros
        left = min(self.limit - used, (self.cap - spent) // CALL)
        late = sum(began != end == self._hour() for began, end, _, _ in self.ended)  # the ledger has it where it ended
        passed = 0
        for seconds in (2, 2, 66, 10, 66, 10):  # what another one has in hand comes soon, what a crash left in a minute
            for node in fleet.nodes:
                passed += await node.use(25, requests=1, calls=1)
            await fleet.pass_time(seconds)
        assert max(0, left - late) <= passed <= max(0, left), (used, self.limit, spent, self.cap)


TestSharedBudgets = SharedBudgets.TestCase
TestSharedBudgets.settings = settings(max_examples=EXAMPLES, stateful_step_count=25, deadline=None)


def test_a_cap_that_each_node_counts_for_itself_is_found_out() -> None:
    """The account can fail: without the shared counters three nodes pass three times as much."""

    async def passed(shared: bool) -> int:
        fleet = MoneyFleet(replace(plan(1000, "0.95"), quotas=()))
        for node in fleet.nodes:
            spends = node.room._spends
            assert spends is not None
            if not shared:
                spends._share = None
        found = sum([await node.use(20) for node in fleet.nodes])
        await fleet.close_nodes()
        return found

    assert (asyncio.run(passed(True)), asyncio.run(passed(False))) == (9, 27)
