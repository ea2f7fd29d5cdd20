"""Limits that nodes share: what a gate decides with a store, with a slow one, and with none."""

import asyncio
from typing import Any

import pytest

from sidecar.admission import Admission, Pending, Refused, Ticket
from sidecar.core.clock import ManualClock
from sidecar.core.leases import Answer, Ask
from sidecar.core.policy import Concurrency, Limit, Plan, Route, Snapshot
from sidecar.core.values import Principal
from tests.admission.store import FlakyStore

S = 1_000_000_000
MINUTE = 60 * S
ROUTE = Route("search", "/search", "api")


async def _no_usage(*_: Any) -> int:
    return 0


class Node:
    """One process on a store."""

    def __init__(self, clock: ManualClock, store: FlakyStore, plan: Plan) -> None:
        self.room = Admission(clock, _no_usage, limit_store=store)
        self.room.load(Snapshot(plans={plan.name: plan}))
        self.gates: dict[tuple[str, str], Any] = {}

    async def ask(self, tenant: str = "acme", key: str = "k1") -> Ticket | Refused:
        name = (tenant, key)
        if name not in self.gates:
            self.gates[name] = (await self.room.seat(Principal(tenant, key, "free"))).gate(ROUTE)
        decided: Ticket | Refused | Pending = self.gates[name].admit("GET", "192.0.2.1", lambda _: None)
        return await decided.wait() if isinstance(decided, Pending) else decided

    async def passed(self, times: int) -> int:
        return sum([isinstance(await self.ask(), Ticket) for _ in range(times)])


def limit(count: int = 10, **more: Any) -> Limit:
    return Limit("steady", count, MINUTE, ("tenant",), **more)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> FlakyStore:
    return FlakyStore(clock)


def code(refused: Ticket | Refused) -> str:
    assert isinstance(refused, Refused)
    return refused.problem.code


async def test_two_nodes_share_one_limit_and_refuse_alone(clock: ManualClock, store: FlakyStore) -> None:
    """Kong/kong#2669, apache/apisix#12946: one limit is one bucket. Who is refused asks no more until it may pass."""
    plan = Plan("free", limits=(limit(10),))
    nodes = [Node(clock, store, plan) for _ in range(2)]
    assert await nodes[0].passed(7) + await nodes[1].passed(7) == 10
    calls = store.calls
    assert await nodes[0].passed(50) <= 0
    assert store.calls <= calls + 1
    refused = await nodes[0].ask()
    assert code(refused) == "limit_exceeded"
    assert isinstance(refused, Refused)
    assert dict(refused.problem.headers)["Retry-After"] == "61"
    clock.advance(62)
    assert await nodes[0].passed(1) == 1


class FaultyStore(FlakyStore):
    """Fails as no store should."""

    async def lease(self, ask: Ask) -> Answer:
        raise ValueError("an answer that cannot be read")


async def test_nobody_waits_for_ever_for_a_store_with_a_fault(clock: ManualClock) -> None:
    """A failure that is no StoreError left the requests of its call waiting, and their clients with them."""
    node = Node(clock, FaultyStore(clock), Plan("free", limits=(limit(10, on_store_error="deny"),)))
    async with asyncio.timeout(5):
        assert code(await node.ask()) == "limits_unavailable"


async def test_concurrent_requests_at_the_last_unit_let_one_pass(clock: ManualClock, store: FlakyStore) -> None:
    """BerriAI/litellm#34732, #40095; one call carries all that wait."""
    node = Node(clock, store, Plan("free", limits=(limit(1, exact=True),)))
    await node.room.seat(Principal("acme", "k1", "free"))
    decided = await asyncio.gather(*(node.ask() for _ in range(20)))
    assert sum(isinstance(each, Ticket) for each in decided) == 1
    assert store.calls <= 3


async def test_a_busy_node_asks_rarely_and_without_waiting(clock: ManualClock, store: FlakyStore) -> None:
    node = Node(clock, store, Plan("free", limits=(limit(60_000),)))
    for _ in range(4000):
        assert isinstance(await node.ask(), Ticket)
        clock.advance(0.001)
        await asyncio.sleep(0)
    assert store.calls - 1000 <= 0.05 * 3000  # the first second of a new tenant leases nothing


async def test_a_concurrency_refusal_takes_no_unit(clock: ManualClock, store: FlakyStore) -> None:
    """envoyproxy/ratelimit#185: both are one call, and of the three units one was taken."""
    plan = Plan("free", limits=(limit(3, exact=True),), concurrency=(Concurrency("parallel", 1),))
    node = Node(clock, store, plan)
    first = await node.ask()
    assert isinstance(first, Ticket)
    assert code(await node.ask()) == "concurrency_exceeded"
    first.release()
    calls = store.calls
    assert await node.passed(1) == 1
    assert store.calls == calls + 1
    alone = Node(clock, store, Plan("free", limits=plan.limits))
    assert await alone.passed(3) == 1


@pytest.mark.parametrize(("says", "passes"), [("allow", 40), ("deny", 0), ("local", 2)])
async def test_without_the_store_each_limit_does_what_it_says(
    clock: ManualClock, store: FlakyStore, says: str, passes: int
) -> None:
    """Kong/kong#2382, istio/istio#12115, goharbor/harbor#22675, dream11/kong-scalable-rate-limiter#14."""
    node = Node(clock, store, Plan("free", limits=(limit(20, on_store_error=says),)))
    store.down = True
    assert await node.passed(40) == passes
    refused = await node.ask()
    if says != "allow":
        assert (code(refused), refused.problem.status) == ("limits_unavailable", 503)  # type: ignore[union-attr] # refused
    blind = node.room.readings().blind
    assert sum(blind.values()) == 41
    assert blind["free", "steady", says] >= max(passes, 1) if passes else blind["free", "steady", "deny"] == 41
    assert store.calls <= 3  # envoyproxy/ratelimit#1018: nobody storms
    await node.room.close()


async def test_a_blind_ticket_says_so_and_what_is_in_hand_is_spent_first(clock: ManualClock, store: FlakyStore) -> None:
    node = Node(clock, store, Plan("free", limits=(limit(1000, on_store_error="allow"),)))
    first = await node.ask()
    store.down = True
    second = await node.ask()
    assert isinstance(first, Ticket)
    assert isinstance(second, Ticket)
    assert (first.marks, second.marks) == (b"", b',"_blind?":1')
    await node.room.close()


async def test_it_recovers_alone(clock: ManualClock, store: FlakyStore) -> None:
    """envoyproxy/ratelimit#297, #1143."""
    node = Node(clock, store, Plan("free", limits=(limit(20, on_store_error="deny"),)))
    store.down = True
    assert await node.passed(5) == 0
    assert node.room.keeper is not None
    assert node.room.keeper.down
    store.down = False
    async with asyncio.timeout(10):
        while node.room.keeper.down:
            await asyncio.sleep(0.01)
    assert await node.passed(30) == 20
    await node.room.close()


async def test_what_is_not_spent_goes_back(clock: ManualClock, store: FlakyStore) -> None:
    node = Node(clock, store, Plan("free", limits=(limit(60_000),)))
    for _ in range(3000):
        await node.ask()
        clock.advance(0.001)
        await asyncio.sleep(0)
    await node.room.close()
    left = await Node(clock, store, Plan("free", limits=(limit(60_000),))).ask()
    assert isinstance(left, Ticket)
    assert b"r=56999" in left.headers  # 3000 spent and this one; nothing is out


async def test_a_lowered_and_a_raised_limit_hold_at_once(clock: ManualClock, store: FlakyStore) -> None:
    """TykTechnologies/tyk#265."""
    node = Node(clock, store, Plan("free", limits=(limit(5),)))
    assert await node.passed(8) == 5
    node.room.load(Snapshot(plans={"free": Plan("free", limits=(limit(8),))}))
    node.gates.clear()
    assert await node.passed(8) == 3


async def test_keys_of_one_tenant_have_their_own_and_share_the_tenants(clock: ManualClock, store: FlakyStore) -> None:
    burst = Limit("burst", 3, MINUTE, ("key",))
    node = Node(clock, store, Plan("free", limits=(burst, limit(5))))
    first = sum([isinstance(await node.ask(key="k1"), Ticket) for _ in range(5)])
    second = sum([isinstance(await node.ask(key="k2"), Ticket) for _ in range(5)])
    assert (first, second) == (3, 2)


async def test_a_limit_across_tenants_is_one(clock: ManualClock, store: FlakyStore) -> None:
    node = Node(clock, store, Plan("free", limits=(Limit("all", 4, MINUTE, ("route",)), limit(3))))
    first = sum([isinstance(await node.ask("a"), Ticket) for _ in range(5)])
    second = sum([isinstance(await node.ask("b"), Ticket) for _ in range(5)])
    assert (first, second) == (3, 1)


async def test_who_gives_up_waiting_leaves_the_unit_to_others(clock: ManualClock, store: FlakyStore) -> None:
    node = Node(clock, store, Plan("free", limits=(limit(2, exact=True),)))
    store.go.clear()
    tasks = [asyncio.create_task(node.ask()) for _ in range(2)]
    while not store.calls:
        await asyncio.sleep(0)
    tasks[0].cancel()
    store.go.set()
    assert isinstance(await tasks[1], Ticket)
    assert await node.passed(3) == 1
