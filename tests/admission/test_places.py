"""Requests in flight over all nodes: never more than the limit, and a crash gives its places back."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.admission import Refused, Ticket
from sidecar.admission.budgets import SharedPeriod, Want
from sidecar.admission.leases import Page, ask_for
from sidecar.admission.places import SharedSlots
from sidecar.core.clock import ManualClock
from sidecar.core.leases import Book
from sidecar.core.policy import Concurrency, Limit, Meter, Plan, Quota, Snapshot
from tests.admission.store import FlakyStore, idle
from tests.admission.test_shared import Node, code

S = 1_000_000_000
FORGOTTEN_S = 31  # NODE_US and a little
COMPARED_S = 61  # CHECK_US and a little: where the answer was lost that told a node to compare


class Bench:
    """Nodes on one book, without a loop: every call is answered at once, or its answer, or all of it, is lost."""

    def __init__(self, limit: int, nodes: int) -> None:
        self.book = Book()
        self.limit = limit
        self.now = 10**12
        self.nodes: list[SharedSlots] = []
        for _ in range(nodes):
            self.nodes.append(self.boot())

    def boot(self) -> SharedSlots:
        active: list[SharedPeriod] = []
        return SharedSlots("c", Page("t.acme"), self.limit, active, self.now)

    def call(self, slots: SharedSlots, want: Want, requests: int, lost: str = "") -> None:
        places = slots.places
        asked = places.request(want, requests, self.now, 0, False)
        ask = ask_for(places.page, (), 0, requests, self.now)._replace(budgets=(asked,))
        if lost == "call":
            return
        answer = self.book.lease(ask, self.now // 1000)
        if lost != "answer":
            places.answered(asked, answer.budgets[0], answer.passed, self.now)

    def ask(self, slots: SharedSlots, lost: str = "") -> bool:
        """As the gate: a place in hand, else one call, unless the last refusal holds."""
        if self.now >= slots.lapse_ns:
            slots.lapse(self.now)
        if slots.used >= slots.limit:
            if slots.full(self.now):
                return False
            self.call(slots, Want(slots.places, self.limit, 1, 1), 1, lost)
        if slots.used >= slots.limit:
            return False
        slots.used += 1
        return True

    def sweep(self, slots: SharedSlots, lost: str = "") -> None:
        if slots.places.due(self.now, False):
            self.call(slots, slots.places.tell, 0, lost)

    def pass_time(self, seconds: float, *awake: SharedSlots) -> None:
        """With the sweeps that the keepers of ``awake`` make."""
        end = self.now + round(seconds * S)
        while self.now < end:
            self.now = min(end, self.now + S // 10)
            for slots in awake:
                self.sweep(slots)

    @property
    def flying(self) -> int:
        return sum(slots.used for slots in self.nodes)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "end", "end", "wait", "sweep", "crash"]),
        st.integers(0, 2),
        st.sampled_from(["", "", "", "", "answer", "call"]),
        st.integers(1, 400),
    ),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 6))
def test_never_more_than_the_limit_is_in_flight_and_all_of_it_comes_back(
    steps: list[tuple[str, int, str, int]], limit: int
) -> None:
    """Crashes, lost calls and lost answers included; nodes that live renew in time."""
    bench = Bench(limit, 3)
    for step, number, lost, tenths in steps:
        slots = bench.nodes[number]
        if step == "ask":
            bench.ask(slots, lost)
        elif step == "end" and slots.used:
            slots.used -= 1
        elif step == "wait":
            bench.pass_time(tenths / 10, *bench.nodes)
        elif step == "sweep":
            bench.sweep(slots, lost)
        elif step == "crash":
            bench.nodes[number] = bench.boot()
        assert bench.flying <= limit
    for slots in bench.nodes:
        slots.used = 0
    bench.nodes[0] = bench.boot()
    bench.pass_time(FORGOTTEN_S + COMPARED_S, *bench.nodes)
    bench.ask(bench.nodes[0])
    bench.pass_time(0.3, *bench.nodes)
    assert bench.flying + sum(bench.ask(bench.nodes[0]) for _ in range(limit + 3)) == limit


def test_a_crash_gives_its_places_back_and_a_long_call_keeps_its_own() -> None:
    """A call that outlives the life is renewed by its node for as long as it takes."""
    bench = Bench(5, 2)
    crashed, living = bench.nodes
    assert all(bench.ask(crashed) for _ in range(3))
    assert all(bench.ask(living) for _ in range(2))
    assert not bench.ask(living)
    bench.nodes[0] = bench.boot()
    bench.pass_time(25, living)
    assert not bench.ask(living)
    bench.pass_time(7, living)
    assert [bench.ask(living) for _ in range(4)] == [True, True, True, False]
    bench.pass_time(600, living, bench.nodes[0])
    assert not bench.ask(bench.nodes[0])
    living.used -= 1
    bench.pass_time(1.2, living)
    assert bench.ask(bench.nodes[0])


def test_what_a_paused_node_can_exceed_by_is_what_it_had_in_flight() -> None:
    """Its places came back while its requests still ran; what it held beyond those it does not use any more."""
    bench = Bench(6, 2)
    paused, other = bench.nodes
    assert all(bench.ask(paused) for _ in range(4))
    paused.used -= 2
    bench.pass_time(40, other)
    passed = bench.ask(other)  # it notices, and takes off what was forgotten
    bench.pass_time(0.3, other)
    assert passed + sum(bench.ask(other) for _ in range(9)) == 6
    assert bench.flying == 6 + 2
    assert not bench.ask(paused)
    other.used -= 2
    bench.pass_time(2, paused, other)
    assert (bench.ask(paused), bench.ask(other)) == (False, False)
    other.used -= 1
    bench.pass_time(2, paused, other)
    assert bench.ask(paused)
    assert bench.flying == 6


def test_places_that_nobody_needs_go_back_within_a_second_or_so() -> None:
    bench = Bench(8, 2)
    one, other = bench.nodes
    assert all(bench.ask(one) for _ in range(8))
    one.used = 0
    assert not bench.ask(other)
    bench.pass_time(2.2, one)
    assert all(bench.ask(other) for _ in range(8))
    assert not bench.ask(one)


def test_a_busy_node_keeps_its_places_in_hand_and_asks_rarely() -> None:
    """The place that a request leaves is the next one's."""
    bench = Bench(20, 1)
    (slots,) = bench.nodes
    calls = 0
    for number in range(1000):
        calls += slots.used >= slots.limit
        assert bench.ask(slots)
        if number >= 10:
            slots.used -= 1
        bench.pass_time(0.01, slots)
    assert calls < 20


def plan(limit: int = 3, **more: Any) -> Plan:
    return Plan("free", concurrency=(Concurrency("parallel", limit, **more),))


async def test_nodes_share_a_concurrency_limit() -> None:
    """Kong/kong#2669: N nodes do not make it N times looser."""
    clock = ManualClock()
    store = FlakyStore(clock)
    nodes = [Node(clock, store, plan()) for _ in range(3)]
    tickets = [await node.ask() for node in nodes]
    assert all(isinstance(ticket, Ticket) for ticket in tickets)
    refused = await nodes[0].ask()
    assert code(refused) == "concurrency_exceeded"
    assert isinstance(refused, Refused)
    assert dict(refused.problem.headers)["Retry-After"] == "1"
    assert refused.problem.extra["policies"][0]["used"] == 3
    calls = store.calls
    for _ in range(100):
        assert code(await nodes[0].ask()) == "concurrency_exceeded"
    assert store.calls == calls  # for a tenth of a second nobody asks again
    assert isinstance(tickets[0], Ticket)
    tickets[0].settle({})
    assert isinstance(await nodes[0].ask(), Ticket)
    assert store.calls == calls
    for node in nodes:
        await node.room.close()


async def test_a_node_that_hammers_asks_less_and_less_often_and_whoever_waits_a_second_is_asked_for() -> None:
    """Nobody knows when a request will end; its own node hears of it at once, another one within 0.8 s."""
    clock = ManualClock()
    store = FlakyStore(clock)
    nodes = [Node(clock, store, plan(1)) for _ in range(2)]
    ticket = await nodes[0].ask()
    asked = []
    for step in range(300):
        before = store.calls
        assert code(await nodes[1].ask()) == "concurrency_exceeded"
        if store.calls > before:
            asked.append(step)
        clock.advance(0.01)
    assert asked == [0, 10, 30, 70, 150, 230]
    assert isinstance(ticket, Ticket)
    ticket.settle({})
    clock.advance(1.01)
    keeper = nodes[0].room.keeper
    assert keeper is not None
    for _ in range(2):
        keeper.sweep(clock.monotonic_ns())
        await idle()
        clock.advance(1.01)
    assert isinstance(await nodes[1].ask(), Ticket)
    for node in nodes:
        await node.room.close()


async def test_limit_concurrency_and_quota_are_one_call_and_all_or_nothing() -> None:
    """envoyproxy/ratelimit#185: refused by one, nothing is taken of the others."""
    clock = ManualClock()
    store = FlakyStore(clock)
    both = Plan(
        "free",
        limits=(Limit("steady", 5, 60 * S, exact=True),),
        concurrency=(Concurrency("parallel", 1),),
    )
    nodes = [Node(clock, store, both) for _ in range(2)]
    ticket = await nodes[0].ask()
    assert isinstance(ticket, Ticket)
    assert store.calls == 1
    for _ in range(3):
        assert code(await nodes[1].ask()) == "concurrency_exceeded"
        clock.advance(0.2)
    ticket.settle({})
    assert await nodes[0].passed(1) == 1  # it stays in flight
    assert code(await nodes[0].ask()) == "concurrency_exceeded"
    # Of five units two were taken: what was refused took none.
    free = Node(clock, store, Plan("free", limits=both.limits))
    assert await free.passed(5) == 3
    await free.room.close()
    for node in nodes:
        await node.room.close()


@pytest.mark.parametrize(("says", "passes"), [("allow", 40), ("deny", 0), ("local", 2)])
async def test_without_the_store_it_does_what_it_says(says: str, passes: int) -> None:
    """dream11/kong-scalable-rate-limiter#14; 503 and never 429 (Kong/kong#2382)."""
    clock = ManualClock()
    store = FlakyStore(clock)
    node = Node(clock, store, plan(20, on_store_error=says))
    store.down = True
    assert await node.passed(40) == passes
    if says != "allow":
        refused = await node.ask()
        assert isinstance(refused, Refused)
        assert (code(refused), refused.problem.status) == ("limits_unavailable", 503)
    assert store.calls <= 3
    await node.room.close()


async def test_a_raised_or_lowered_limit_holds_at_once() -> None:
    clock = ManualClock()
    store = FlakyStore(clock)
    node = Node(clock, store, plan(2))
    assert await node.passed(3) == 2
    node.room.load(Snapshot(plans={"free": plan(4)}))
    node.gates.clear()
    clock.advance(0.2)
    assert await node.passed(5) == 2
    await node.room.close()


async def test_a_quota_beside_it_is_settled_by_the_same_ticket() -> None:
    clock = ManualClock()
    store = FlakyStore(clock)
    both = Plan("free", concurrency=(Concurrency("parallel", 2),), quotas=(Quota("daily", "requests", 3, "day"),))
    node = Node(clock, store, both)
    node.room.load(Snapshot(plans={"free": both}, meters={"requests": Meter("requests", "requests")}))
    for _ in range(3):
        ticket = await node.ask()
        assert isinstance(ticket, Ticket)
        ticket.settle({"requests": 1})
    assert code(await node.ask()) == "quota_exceeded"
    await node.room.close()
