"""Shadow mode: counted and reported as if enforced, and never felt (Kong/kong#6835, envoyproxy/ratelimit#218)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.admission import Admission, Gate, Pending, Refused, Ticket
from sidecar.core.clock import ManualClock
from sidecar.core.policy import Concurrency, Limit, Plan, Quota, Route, Snapshot
from sidecar.core.records import decode_record, encode_call, marked, shadow_mark
from sidecar.core.values import Principal
from sidecar.ledger import done_extra
from tests.admission.store import FlakyStore, idle
from tests.admission.test_shared import Node

S = 1_000_000_000
MINUTE = 60 * S


async def _no_usage(*_: Any) -> int:
    return 0


def gates(clock: ManualClock, plan: Plan, keys: list[str], limit_store: Any = None) -> tuple[Admission, list[Gate]]:
    room = Admission(clock, _no_usage, limit_store=limit_store)
    room.load(Snapshot(plans={"free": plan}))
    route = Route("search", "/search", "api", units=2)
    return room, [room.compile(Principal("acme", key, "free"), route) for key in keys]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 1)),
        st.tuples(st.just("end"), st.integers(0, 50)),
        st.tuples(st.just("wait"), st.integers(1, 20)),
    ),
    max_size=80,
)


@given(STEPS, st.integers(1, 8), st.booleans(), st.booleans())
def test_a_policy_alone_in_shadow_mode_says_what_it_would_say_enforced(
    steps: list[tuple[str, int]], most: int, concurrency: bool, by_key: bool
) -> None:
    """The same trace under the same policy, once enforced and once in shadow mode: the same requests are refused."""
    scope = ("key",) if by_key else ("tenant",)

    def plan(mode: str) -> Plan:
        if concurrency:
            return Plan("free", concurrency=(Concurrency("trial", most, scope, mode=mode),))
        return Plan("free", limits=(Limit("trial", 2 * most, 10 * S, scope, mode=mode),))

    clock = ManualClock()
    room, enforced = gates(clock, plan("enforce"), ["k0", "k1"])
    shadow_room, shadowed = gates(clock, plan("shadow"), ["k0", "k1"])
    pairs: list[tuple[Any, Ticket]] = []
    refused = 0
    for step, value in steps:
        if step == "wait":
            clock.advance(value / 4)
        elif step == "end" and pairs:
            for ticket in pairs.pop(value % len(pairs)):
                if isinstance(ticket, Ticket):
                    ticket.settle({})
        elif step == "ask":
            decided = enforced[value].admit("GET", "192.0.2.1", lambda _: None)
            passed = shadowed[value].admit("GET", "192.0.2.1", lambda _: None)
            assert isinstance(passed, Ticket)
            assert passed.marks == (b"" if isinstance(decided, Ticket) else b',"_shadow.trial?":1')
            refused += isinstance(decided, Refused)
            pairs.append((decided, passed))
    assert shadow_room.readings().shadow_refused == ({("free", "trial"): refused} if refused else {})
    assert room.readings().refused == ({("free", "trial"): refused} if refused else {})
    assert shadow_room.readings().refused == {}


async def test_it_refuses_nobody_and_is_not_announced(desk: Any) -> None:
    """Kong/kong#6835: no status, no Retry-After, no field says anything of it."""
    desk.load(
        Plan(
            "p",
            limits=(Limit("real", 100, MINUTE), Limit("trial", 1, MINUTE, mode="shadow")),
            concurrency=(Concurrency("few", 1, mode="shadow"),),
            quotas=(Quota("daily", "requests", 1, "day", mode="shadow"),),
        )
    )
    gate = await desk.gate()
    tickets = [desk.ticket(gate) for _ in range(3)]
    assert all(b"real" in ticket.headers for ticket in tickets)
    assert not any(word in ticket.headers for ticket in tickets for word in (b"trial", b"few", b"daily"))
    assert desk.room.readings().shadow_refused == {("p", "trial"): 2, ("p", "few"): 2, ("p", "daily"): 2}
    assert tickets[0].marks == b""
    assert tickets[1].marks == b"".join(map(shadow_mark, ("trial", "few", "daily")))


async def test_what_is_enforced_is_refused_first_and_the_trial_hears_nothing_of_it(desk: Any) -> None:
    """envoyproxy/ratelimit#218: the numbers are of requests that would have passed without the trial."""
    desk.load(Plan("p", limits=(Limit("real", 2, MINUTE), Limit("trial", 1, MINUTE, mode="shadow"))))
    gate = await desk.gate()
    assert [desk.passes(gate) for _ in range(5)] == [True, True, False, False, False]
    readings = desk.room.readings()
    assert (readings.refused, readings.shadow_refused) == ({("p", "real"): 3}, {("p", "trial"): 1})


async def test_a_plan_without_it_has_the_plain_gate(desk: Any) -> None:
    """The enforced path has not one step more than before."""
    desk.load(Plan("p", limits=(Limit("real", 2, MINUTE),)))
    assert type(await desk.gate()) is Gate


async def test_each_is_judged_alone(desk: Any) -> None:
    """The stricter of two trials takes nothing from the other's count."""
    desk.load(
        Plan("p", limits=(Limit("one", 1, MINUTE, mode="shadow"), Limit("three", 3, MINUTE, mode="shadow"))),
    )
    gate = await desk.gate()
    for _ in range(5):
        desk.ticket(gate)
    assert desk.room.readings().shadow_refused == {("p", "one"): 4, ("p", "three"): 2}


async def test_enforcing_it_goes_on_with_what_was_counted(desk: Any) -> None:
    def plan(mode: str) -> Plan:
        return Plan("p", limits=(Limit("trial", 3, MINUTE, mode=mode),), concurrency=(Concurrency("c", 5, mode=mode),))

    desk.load(plan("shadow"))
    seat = await desk.room.seat(Principal("acme", "k", "p"))
    tickets = [desk.ticket(seat.gate(desk.route)) for _ in range(2)]
    desk.load(plan("enforce"))
    assert [desk.passes(seat.gate(desk.route)) for _ in range(2)] == [True, False]
    uses = {use.name: use.used for use in desk.room.usage_of("acme")}
    assert uses == {"trial": 3, "c": 3}
    tickets[0].settle({})
    assert {use.name: use.used for use in desk.room.usage_of("acme")}["c"] == 2


async def test_a_quota_in_shadow_mode_counts_what_is_used_and_beside_an_enforced_one_counts_it_once(desk: Any) -> None:
    desk.load(
        Plan(
            "p",
            quotas=(
                Quota("trial", "requests", 2, "day", mode="shadow"),
                Quota("real", "requests", 5, "day"),
                Quota("alone", "units", 3, "day", mode="shadow"),
            ),
        )
    )
    gate = await desk.gate()
    for _ in range(5):
        desk.ticket(gate).settle({"requests": 1, "units": 1})
    assert not desk.passes(gate)
    uses = {use.name: (use.used, use.mode) for use in desk.room.usage_of("acme")}
    assert uses == {}  # of seats that live
    assert desk.room.readings().shadow_refused == {("p", "trial"): 3, ("p", "alone"): 2}
    shown = {use.name: (use.used, use.mode) for _, use in gate.uses()}
    assert shown == {"trial": (5, "shadow"), "real": (5, "enforce"), "alone": (5, "shadow")}


async def test_a_ledger_that_is_down_is_felt_by_no_quota_in_shadow_mode(desk: Any) -> None:
    desk.load(Plan("p", quotas=(Quota("trial", "requests", 2, "day", mode="shadow"),)))
    desk.ledger.totals["acme", "requests", False] = 2
    desk.ledger.down = True
    gate = await desk.gate()
    assert desk.ticket(gate).marks == b""
    await desk.turn()
    desk.ledger.down = False
    desk.clock.advance(1)
    desk.ticket(gate)
    await desk.turn()
    assert desk.ticket(gate).marks == b',"_shadow.trial?":1'


async def test_addresses_in_shadow_mode_and_counters_that_were_dropped(make_desk: Any) -> None:
    desk = make_desk(max_buckets=2)
    desk.load(Plan("p", limits=(Limit("each", 1, S, ("ip",), mode="shadow"), Limit("all", 3, S, mode="shadow"))))
    gate = await desk.gate()
    for number in range(6):
        assert desk.passes(gate, ip=f"192.0.2.{number}")
        desk.clock.advance(2)
    assert desk.room.readings().shadow_refused == {}
    assert desk.passes(gate, ip="192.0.2.7")
    assert desk.passes(gate, ip="192.0.2.7")
    assert desk.room.readings().shadow_refused == {("p", "each"): 1}


async def test_callers_without_a_key_are_watched_too(desk: Any) -> None:
    desk.load(Plan("p", limits=(Limit("each", 1, S, ("ip",), mode="shadow"),)))
    gate = desk.room.anonymous(Route("open", "/open", "api", auth="none", plan="p"))
    assert desk.passes(gate)
    assert desk.passes(gate)
    assert desk.room.readings().shadow_refused == {("p", "each"): 1}


TRIAL = Plan("free", limits=(Limit("trial", 10, MINUTE, mode="shadow", on_store_error="deny"),))


async def test_nodes_share_it_and_no_request_waits_for_the_store() -> None:
    """One trial is one count for all nodes, found beside the requests."""
    clock = ManualClock()
    store = FlakyStore(clock)
    nodes = [Node(clock, store, TRIAL) for _ in range(2)]
    store.go.clear()
    tickets = []
    for number in range(14):
        seat = await nodes[number % 2].room.seat(Principal("acme", "k", "free"))
        decided = seat.gate(Route("search", "/search", "api")).admit("GET", "192.0.2.1", lambda _: None)
        assert isinstance(decided, Ticket)
        tickets.append(decided)
    store.go.set()
    await idle()
    refused = sum(sum(node.room.readings().shadow_refused.values()) for node in nodes)
    assert refused == 4
    assert sum(bool(ticket.marks) for ticket in tickets) == 4
    calls = store.calls
    assert await nodes[0].passed(50) == 50
    await idle()
    assert store.calls <= calls + 1  # who would be refused asks no more until it would pass
    assert nodes[0].room.readings().shadow_refused["free", "trial"] >= 50
    for node in nodes:
        await node.room.close()


async def test_a_store_that_is_gone_is_not_felt_and_what_is_not_known_is_counted() -> None:
    """``on_store_error: deny`` guards nothing in shadow mode."""
    clock = ManualClock()
    store = FlakyStore(clock)
    node = Node(clock, store, TRIAL)
    store.down = True
    assert await node.passed(20) == 20
    await idle()
    readings = node.room.readings()
    assert (readings.shadow_refused, readings.blind) == ({}, {("free", "trial", "shadow"): 20})
    assert store.calls <= 3
    await node.room.close()


async def test_those_that_are_judged_beside_are_bounded() -> None:
    clock = ManualClock()
    store = FlakyStore(clock)
    node = Node(clock, store, TRIAL)
    store.go.clear()
    assert await node.passed(300) == 300
    assert node.room.readings().blind == {("free", "trial", "shadow"): 44}
    store.go.set()
    await idle()
    assert node.room.readings().shadow_refused == {("free", "trial"): 246}
    await node.room.close()


async def test_an_enforced_limit_waits_and_then_the_trial_is_asked() -> None:
    clock = ManualClock()
    store = FlakyStore(clock)
    plan = Plan("free", limits=(Limit("real", 5, MINUTE), Limit("trial", 2, MINUTE, mode="shadow")))
    room, (gate,) = gates(clock, plan, ["k"], store)
    for _ in range(2):
        decided = gate.admit("GET", "192.0.2.1", lambda _: None)
        assert isinstance(decided, Pending)
        assert isinstance(await decided.wait(), Ticket)
        await idle()
    decided = gate.admit("GET", "192.0.2.1", lambda _: None)
    assert isinstance(await decided.wait() if isinstance(decided, Pending) else decided, Refused)
    assert room.readings().shadow_refused == {("free", "trial"): 1}  # 2 units each: the second is over 2
    await room.close()


@settings(max_examples=30)
@given(st.lists(st.text(min_size=1, max_size=8), max_size=4, unique=True), st.booleans())
def test_marks_are_members_of_the_record(names: list[str], metered: bool) -> None:
    meters = marked(b'{"requests":3}' if metered else b"{}", b"".join(map(shadow_mark, names)) or b',"x?":1')
    record = decode_record(
        encode_call(b"0" * 36, 1, b'"acme","k","free",0', b'"r"', b'"GET"', 200, b"ok", *([0] * 7), meters)
    )
    expected = {f"_shadow.{name}?": 1 for name in names} or {"x?": 1}
    assert record.meters == ({"requests": 3} if metered else {}) | expected


def test_the_journal_keeps_room_for_every_mark_of_a_plan() -> None:
    trials = tuple(Limit(f"trial-{n}", 1, S, mode="shadow") for n in range(32))
    snapshot = Snapshot(plans={"a": Plan("a"), "b": Plan("b", limits=(*trials, Limit("real", 1, S)))})
    marks = b"".join(shadow_mark(limit.name) for limit in trials)
    assert done_extra(snapshot) - done_extra(Snapshot()) == len(marks)


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_uses_say_the_mode(mode: str) -> None:
    _, (gate,) = gates(ManualClock(), Plan("free", limits=(Limit("l", 4, S, mode=mode),)), ["k"])
    gate.admit("GET", "192.0.2.1", lambda _: None)
    assert [(use.name, use.mode, use.used) for _, use in gate.uses()] == [("l", mode, 2)]
