"""The table of counters stays within its bound, and no bound makes a limit looser."""

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.admission.buckets import Buckets, Slots
from sidecar.core.policy import Concurrency, Limit, Plan
from sidecar.core.values import Principal

S = 1_000_000_000
PER_IP = Plan("p", limits=(Limit("ip", 2, 60 * S, ("ip",)),))


async def test_a_flood_of_addresses_shares_one_counter_and_the_table_is_bounded(make_desk: Callable[..., Any]) -> None:
    desk = make_desk(max_buckets=50)
    desk.load(PER_IP)
    gate = await desk.gate()
    passed = sum(desk.passes(gate, ip=f"198.51.{n >> 8}.{n & 255}") for n in range(2000))
    assert passed == 50 + 2
    readings = desk.room.readings()
    assert readings.buckets == 51
    assert readings.overflows == 1950
    assert desk.passes(gate, ip="198.51.0.0")


async def test_who_shared_gets_no_second_helping_while_the_shared_counter_remembers(
    make_desk: Callable[..., Any],
) -> None:
    desk = make_desk(max_buckets=8)
    desk.load(PER_IP)
    gate = await desk.gate()
    for n in range(8):
        assert desk.passes(gate, ip=f"192.0.2.{n}")
    desk.clock.advance(59)
    assert desk.passes(gate, ip="203.0.113.1")
    assert desk.passes(gate, ip="203.0.113.1")
    desk.clock.advance(2)
    assert not desk.passes(gate, ip="203.0.113.1")
    desk.clock.advance(60)
    assert desk.passes(gate, ip="203.0.113.1")
    assert desk.room.readings().evictions >= 1


async def test_idle_counters_go_first_and_bit_by_bit(make_desk: Callable[..., Any]) -> None:
    desk = make_desk(max_buckets=1000)
    desk.load(PER_IP)
    gate = await desk.gate()
    for n in range(200):
        desk.passes(gate, ip=f"192.0.2.{n}")
    desk.clock.advance(61)
    for n in range(100):
        desk.passes(gate, ip=f"203.0.113.{n}")
    readings = desk.room.readings()
    assert readings.buckets == 100
    assert (readings.evictions, readings.overflows) == (200, 0)


async def test_a_gate_that_kept_a_dropped_counter_does_not_make_two_of_one_limit(
    make_desk: Callable[..., Any],
) -> None:
    """apache/apisix#12946: one limit is one bucket, also after its counter was dropped as idle."""
    desk = make_desk(max_buckets=4)
    desk.load(Plan("p", limits=(Limit("one", 1, 60 * S), Limit("two", 5, 120 * S)), concurrency=(Concurrency("c", 9),)))
    old = await desk.gate()
    assert desk.passes(old)
    desk.clock.advance(121)
    for n in range(6):
        desk.passes(await desk.gate(tenant=f"t{n}"))
    assert desk.room.readings().evictions > 0
    assert desk.passes(await desk.gate(key="k2"))
    assert not desk.passes(old)
    desk.clock.advance(60)
    assert desk.passes(old)


async def test_dropped_places_in_flight_are_looked_up_again(make_desk: Callable[..., Any]) -> None:
    desk = make_desk(max_buckets=2)
    desk.load(Plan("p", concurrency=(Concurrency("c", 1),)))
    old = await desk.gate()
    desk.ticket(old).release()
    for n in range(4):
        desk.ticket(await desk.gate(tenant=f"t{n}")).release()
    ticket = desk.ticket(await desk.gate(key="k2"))
    assert not desk.passes(old)
    ticket.release()
    assert desk.passes(old)


@pytest.mark.parametrize("ticking", [False, True])
@pytest.mark.parametrize("scope", [("tenant",), ("tenant", "ip")])
async def test_counters_of_one_gate_do_not_displace_each_other(
    make_desk: Callable[..., Any], scope: tuple[str, ...], ticking: bool
) -> None:
    """Looking up the second of several idle counters may drop the first; the gate must end up with all of them."""
    desk = make_desk(max_buckets=2, ticking=ticking)
    limits = tuple(Limit(name, 9, 1, scope) for name in "abc")
    desk.load(Plan("p", limits=limits, concurrency=tuple(Concurrency(name, 2, scope) for name in "ABC")))
    gate = await desk.gate()
    for n in range(5):
        desk.ticket(gate).release()
        desk.clock.advance(1)
        desk.ticket(await desk.gate(tenant=f"t{n}")).release()
        desk.clock.advance(1)
    held = [desk.ticket(gate), desk.ticket(await desk.gate(key="other"))]
    assert desk.refusal(gate).problem.extra["violated-policies"] == ["A", "B", "C"]
    for ticket in held:
        ticket.release()
    assert desk.passes(gate)


async def test_tenants_always_have_their_own_counter(make_desk: Callable[..., Any]) -> None:
    """design 3, promise 8: a full table never makes one tenant pay for another."""
    desk = make_desk(max_buckets=2)
    desk.load(Plan("p", limits=(Limit("steady", 1, 60 * S), Limit("key", 9, 60 * S, ("key",)))))
    for n in range(10):
        gate = (await desk.room.seat(Principal(f"t{n}", "jwt:sub", "p"))).gate(desk.route)
        assert desk.passes(gate)
        assert not desk.passes(gate)


def test_one_counter_in_flight_is_never_dropped() -> None:
    table = Buckets(1)
    slots = table.slots(("p", "a"), None, 5, 0)
    slots.used = 1
    for n in range(20):
        table.slots(("p", n), None, 5, 0)
    assert table.slots(("p", "a"), None, 5, 0) is slots
    assert isinstance(slots, Slots)


def test_a_table_needs_room() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Buckets(0)
