"""Concurrency limits in shadow mode over several nodes: the numbers they would have if they were enforced."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.admission import Refused, Ticket
from sidecar.core.clock import ManualClock
from sidecar.core.policy import Concurrency, Plan, Route, Snapshot
from sidecar.core.values import Principal
from tests.admission.store import FlakyStore, idle
from tests.admission.test_shared import Node

ROUTE = Route("search", "/search", "api")


def plan(mode: str, limit: int = 3) -> Plan:
    return Plan("free", concurrency=(Concurrency("trial", limit, mode=mode),))


async def ask(node: Node) -> Ticket:
    """A request that must pass without waiting for anything."""
    seat = await node.room.seat(Principal("acme", "k", "free"))
    decided = seat.gate(ROUTE).admit("GET", "192.0.2.1", lambda _: None)
    assert isinstance(decided, Ticket)
    return decided


def refused(nodes: list[Node]) -> int:
    return sum(sum(node.room.readings().shadow_refused.values()) for node in nodes)


async def close(*nodes: Node) -> None:
    for node in nodes:
        await node.room.close()


async def test_two_nodes_are_one_limit_and_no_request_waits() -> None:
    """Kong/kong#2669: in process each node would have said that three are in flight, and nobody refused."""
    clock = ManualClock()
    store = FlakyStore(clock)
    nodes = [Node(clock, store, plan("shadow")) for _ in range(2)]
    tickets = []
    for number in range(6):
        tickets.append(await ask(nodes[number % 2]))
        await idle()
    assert refused(nodes) == 3
    assert [bool(ticket.marks) for ticket in tickets] == [False] * 3 + [True] * 3
    for ticket in tickets:
        ticket.settle({})
    clock.advance(0.2)
    again = await ask(nodes[0])
    await idle()
    assert (again.marks, refused(nodes)) == (b"", 3), "what was in flight left its place"
    await close(*nodes)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 1)),
        st.tuples(st.just("end"), st.integers(0, 50)),
        st.tuples(st.just("wait"), st.integers(1, 20)),
    ),
    max_size=40,
)


@settings(max_examples=50)
@given(STEPS, st.integers(1, 5))
def test_it_says_what_it_would_say_enforced(steps: list[tuple[str, int]], most: int) -> None:
    """The same trace by two nodes, once enforced and once in shadow mode: the same requests are refused."""

    async def run() -> None:
        clock = ManualClock()
        enforcing = [Node(clock, store, plan("enforce", most)) for store in [FlakyStore(clock)] for _ in range(2)]
        shadowed = [Node(clock, store, plan("shadow", most)) for store in [FlakyStore(clock)] for _ in range(2)]
        pairs: list[tuple[Any, Ticket]] = []
        for step, value in steps:
            if step == "wait":
                clock.advance(value / 10)
                for node in (*enforcing, *shadowed):
                    assert node.room.keeper is not None
                    node.room.keeper.sweep(clock.monotonic_ns())
            elif step == "end" and pairs:
                for ticket in pairs.pop(value % len(pairs)):
                    if isinstance(ticket, Ticket):
                        ticket.settle({})
            elif step == "ask":
                pairs.append((await enforcing[value].ask(), await ask(shadowed[value])))
            await idle()
            for decided, watched in pairs:
                assert isinstance(decided, Refused) == bool(watched.marks)
        await close(*enforcing, *shadowed)

    asyncio.run(run())


async def test_a_request_that_ended_before_the_store_answered_leaves_its_place_in_hand() -> None:
    clock = ManualClock()
    store = FlakyStore(clock)
    node = Node(clock, store, plan("shadow", 1))
    store.go.clear()
    (await ask(node)).settle({})
    store.go.set()
    await idle()
    calls = store.calls
    assert (await ask(node)).marks == b""
    await idle()
    assert (store.calls, refused([node])) == (calls, 0)
    await close(node)


async def test_without_the_store_nobody_knows_and_nobody_is_refused() -> None:
    clock = ManualClock()
    store = FlakyStore(clock)
    node = Node(clock, store, plan("shadow"))
    store.down = True
    for _ in range(20):
        await ask(node)
    await idle()
    readings = node.room.readings()
    assert (readings.shadow_refused, readings.blind) == ({}, {("free", "trial", "shadow"): 20})
    await close(node)


async def test_enforcing_it_goes_on_with_what_is_in_flight_on_all_nodes() -> None:
    clock = ManualClock()
    store = FlakyStore(clock)
    nodes = [Node(clock, store, plan("shadow")) for _ in range(2)]
    for node in nodes:
        await ask(node)
        await idle()
    for node in nodes:
        node.room.load(Snapshot(plans={"free": plan("enforce")}))
        node.gates.clear()
    clock.advance(1.2)
    for node in nodes:
        assert node.room.keeper is not None
        node.room.keeper.sweep(clock.monotonic_ns())
    await idle()
    assert [isinstance(await nodes[0].ask(), Ticket) for _ in range(2)] == [True, False]
    await close(*nodes)
