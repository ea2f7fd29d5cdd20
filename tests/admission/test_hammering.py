"""Who hammers while refused costs no call of the store; memory that runs out is bounded and says so."""

from typing import Any

import pytest

from sidecar.admission import Pending, Refused
from sidecar.core.clock import ManualClock
from sidecar.core.policy import Limit, Plan, Route
from tests.admission.store import FlakyStore
from tests.admission.test_shared import Node

MINUTE = 60_000_000_000


@pytest.mark.parametrize("exact", [False, True])
async def test_a_tenant_that_hammers_while_refused_costs_no_call_of_the_store(exact: bool) -> None:
    """TykTechnologies/tyk-docs-hugo#4630: 10,000 refused requests of several keys, none of them a call; and it is not
    blocked for ever."""
    clock = ManualClock()
    store = FlakyStore(clock)
    plan = Plan("free", limits=(Limit("steady", 10, MINUTE, exact=exact), Limit("wide", 50, MINUTE, exact=exact)))
    node = Node(clock, store, plan)
    assert await node.passed(30) == 10
    await node.ask(key="k2")
    calls = store.calls
    gates = [node.gates["acme", key] for key in ("k1", "k2")]
    for number in range(10_000):
        decided = gates[number % 2].admit("GET", "192.0.2.1", lambda _: None)
        assert isinstance(decided, Refused)
        clock.advance(0.001)
    assert store.calls == calls
    clock.advance(52)
    decided = gates[0].admit("GET", "192.0.2.1", lambda _: None)
    assert not isinstance(await decided.wait() if isinstance(decided, Pending) else decided, Refused)
    await node.room.close()


async def test_memory_that_runs_out_says_so_once_a_minute_and_names_the_policy(
    make_desk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    desk = make_desk(max_buckets=4)
    desk.load(Plan("p", limits=(Limit("each", 1000, MINUTE, ("ip",)),)))
    gate = await desk.gate(route=Route("r", "/r", "api"))
    now = desk.clock.monotonic_ns
    for number in range(4):
        desk.passes(gate, ip=f"192.0.2.{number}")
        desk.room.sweep(now())
    assert caplog.records == []
    for number in range(100):
        desk.passes(gate, ip=f"198.51.100.{number}")
        desk.room.sweep(now())
    (line,) = caplog.records
    assert "memory for limits is full: 5 of 4 counters; 1 look-ups shared a counter" in line.getMessage()
    assert "each of plan p (1)" in line.getMessage()
    assert "198.51.100" not in line.getMessage()
    assert len(desk.room._buckets) == 5
    desk.clock.advance(60)
    desk.room.sweep(now())
    assert len(caplog.records) == 2
    assert "99 look-ups" in caplog.records[1].getMessage()
    desk.clock.advance(3600)
    desk.room.sweep(now())
    assert len(caplog.records) == 2
