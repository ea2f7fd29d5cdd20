"""Quotas that nodes share: one count over all nodes, held and settled, through crashes and losses of the store."""

import asyncio
from typing import Any

import pytest

from sidecar.admission import Admission, Asker, Pending, Refused, Ticket
from sidecar.core.budgets import NODE_US
from sidecar.core.clock import ManualClock
from sidecar.core.errors import StoreDown, StoreError
from sidecar.core.leases import Answer, Ask, Book
from sidecar.core.policy import Limit, Meter, Plan, Quota, Route, Snapshot
from sidecar.core.values import Principal

ROUTE = Route("search", "/search", "api")
METERS = {
    "requests": Meter("requests", "requests"),
    "tokens": Meter("tokens", "reply"),
    "units": Meter("units", "units"),
}
NOON_NS = 1_767_225_600_000_000_000 + 12 * 3_600_000_000_000


class Fleet:
    """Nodes on one store and one ledger, and a hand-moved clock."""

    def __init__(self, plan: Plan, count: int = 2) -> None:
        self.clock = ManualClock(wall_ns=NOON_NS)
        self.book = Book()
        self.down = False
        self.calls: list[Ask] = []
        self.lose_answers = 0
        self.go = asyncio.Event()
        self.go.set()
        self.ledger = 0
        self.ledger_down = False
        self.reads = 0
        self.late = False
        self.plan = plan
        self.nodes = [Node(self) for _ in range(count)]

    async def lease(self, ask: Ask) -> Answer:
        self.calls.append(ask)
        await self.go.wait()
        if self.down:
            raise StoreDown("gone")
        answer = self.book.lease(ask, self.clock.wall_ns() // 1000)
        if self.lose_answers:
            self.lose_answers -= 1
            raise StoreDown("the answer was lost")
        return answer

    async def ready(self) -> None:
        if self.down:
            raise StoreDown("gone")

    async def close(self) -> None:
        self.down = True

    async def meter_total(self, *_: Any) -> int:
        self.reads += 1
        if self.ledger_down:
            raise StoreError("the ledger is down")
        return self.ledger

    async def pass_time(self, seconds: float, *nodes: "Node") -> None:
        """Second by second, with what the nodes do in the background."""
        for _ in range(max(1, round(seconds))):
            self.clock.advance(min(seconds, 1))
            await self.work(*nodes)

    async def work(self, *nodes: "Node") -> None:
        for node in nodes or self.nodes:
            assert node.room.keeper is not None
            node.room.keeper.sweep(self.clock.monotonic_ns())
        for _ in range(30):
            await asyncio.sleep(0)

    @property
    def counter(self) -> Any:
        return next(iter(self.book._pages["t.acme"].budgets.values()))


class Node:
    """One process."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.room = Admission(fleet.clock, fleet.meter_total, limit_store=fleet, late=lambda: fleet.late)
        self.load(fleet.plan)

    def load(self, plan: Plan) -> None:
        self.room.load(Snapshot(plans={plan.name: plan}, meters=METERS))
        self.plan = plan.name
        self.seat: Any = None

    async def ask(self, route: Route = ROUTE) -> Ticket | Refused:
        self.seat = self.seat or await self.room.seat(Principal("acme", "k", self.plan))
        decided = self.seat.gate(route).admit("GET", "192.0.2.1", lambda _: None)
        return await decided.wait() if isinstance(decided, Pending) else decided

    async def use(self, times: int = 1, **values: int) -> int:
        """Requests that end at once, with these values of the meters; how many passed. The ledger gets them."""
        values = values or {"requests": 1}
        passed = 0
        for _ in range(times):
            ticket = await self.ask()
            if isinstance(ticket, Ticket):
                passed += 1
                ticket.settle(values)
                self.fleet.ledger += sum(values.values())
        return passed

    async def tickets(self, times: int) -> list[Ticket]:
        return [each for each in [await self.ask() for _ in range(times)] if isinstance(each, Ticket)]

    @property
    def use_now(self) -> tuple[int, int]:
        """Used and remaining, as this node knows it."""
        found = [each for each in self.room.usage_of("acme") if each.kind == "quota"]
        return found[0].used, found[0].remaining


def plan(limit: int = 10, meter: str = "requests", **more: Any) -> Plan:
    return Plan("p", quotas=(Quota("monthly", meter, limit, "month", **more),))


def code(refused: Ticket | Refused) -> tuple[int, str]:
    assert isinstance(refused, Refused)
    return refused.problem.status, refused.problem.code


async def test_nodes_share_one_quota_and_refuse_alone() -> None:
    """Kong/kong#2669, apache/apisix#12946. Who is refused asks no more until something may have come back."""
    fleet = Fleet(plan(10))
    a, b = fleet.nodes
    assert await a.use(7) + await b.use(7) == 10
    await fleet.pass_time(3)
    calls = len(fleet.calls)
    assert await a.use(50) + await b.use(50) == 0
    assert len(fleet.calls) <= calls + 2
    refused = await a.ask()
    assert code(refused) == (429, "quota_exceeded")
    assert isinstance(refused, Refused)
    assert dict(refused.problem.headers)["Retry-After"] == str(30 * 86_400 + 12 * 3600 - 3)


async def test_of_many_at_the_last_unit_one_passes() -> None:
    """BerriAI/litellm#34732, #40095: on two nodes at once."""
    fleet = Fleet(plan(1))
    decided = await asyncio.gather(*(node.ask() for node in fleet.nodes for _ in range(20)))
    assert sum(isinstance(each, Ticket) for each in decided) == 1


async def test_what_was_used_before_is_read_from_the_ledger_once_by_whoever_comes_first() -> None:
    """unkeyed/unkey#403: unknown is never unused."""
    fleet = Fleet(plan(10))
    fleet.ledger = 8
    assert [await node.use(2) for node in fleet.nodes] == [2, 0]
    assert fleet.reads == 1


async def test_when_neither_store_nor_ledger_knows_it_is_503() -> None:
    """BerriAI/litellm#33923: fail closed."""
    fleet = Fleet(plan(10))
    fleet.ledger_down = True
    for _ in range(5):
        assert code(await fleet.nodes[0].ask()) == (503, "limits_unavailable")
    assert fleet.reads == 1  # those who come at once are not made to wait for the next attempt
    fleet.ledger_down = False
    fleet.clock.advance(1)
    assert await fleet.nodes[0].use(1) == 1


async def test_limits_and_quotas_are_one_decision() -> None:
    """envoyproxy/ratelimit#185: what the quota refuses takes no unit of the limit."""
    limit = Limit("steady", 100, 60 * 10**9, exact=True)
    fleet = Fleet(Plan("p", limits=(limit,), quotas=(Quota("monthly", "requests", 2, "month"),)), 1)
    (node,) = fleet.nodes
    assert await node.use(2) == 2
    assert all(len(ask.counters) == 1 and len(ask.budgets) == 1 for ask in fleet.calls if ask.requests)
    assert await node.use(20) == 0
    used = {each.name: each.used for each in node.room.usage_of("acme")}
    assert used == {"steady": 2, "monthly": 2}


async def test_a_busy_node_asks_rarely_and_without_waiting() -> None:
    fleet = Fleet(plan(10**6), 1)
    (node,) = fleet.nodes
    for i in range(5000):
        assert await node.use(1) == 1
        fleet.clock.advance(0.001)
        if i % 100 == 0:
            await fleet.work()
        await asyncio.sleep(0)
    assert len(fleet.calls) - 1000 <= 0.05 * 4000
    await fleet.pass_time(3)
    assert (fleet.counter.settled, fleet.counter.out) == (5000, 0)


async def test_settled_twice_counts_once_and_a_lost_answer_too() -> None:
    """BerriAI/litellm#35569."""
    fleet = Fleet(plan(100, "units"), 1)
    (node,) = fleet.nodes
    ticket = await node.ask(Route("search", "/search", "api", units=5))
    assert isinstance(ticket, Ticket)
    ticket.settle({"units": 5})
    ticket.settle({"units": 5})
    fleet.lose_answers = 2
    await fleet.pass_time(4)
    assert (fleet.counter.settled, fleet.counter.out) == (5, 0)


async def test_a_crash_between_hold_and_settle_gives_everything_back() -> None:
    """BerriAI/litellm#27639: nobody gets 429 at zero spend."""
    fleet = Fleet(plan(10))
    crashed, other = fleet.nodes
    assert len(await crashed.tickets(10)) == 10
    assert await other.use(1) == 0
    await fleet.pass_time(NODE_US / 10**6, other)
    await other.use(1)
    await fleet.pass_time(7, other)
    assert await other.use(20) == 10


async def test_calls_that_take_long_stay_held() -> None:
    fleet = Fleet(plan(10))
    busy, other = fleet.nodes
    tickets = await busy.tickets(10)
    await fleet.pass_time(120)
    assert await other.use(1) == 0
    tickets[0].settle({})
    await fleet.pass_time(3)
    assert await other.use(2) == 1


async def test_what_is_not_spent_goes_back_while_the_node_lives_and_when_it_ends() -> None:
    fleet = Fleet(plan(10_000))
    a, b = fleet.nodes
    for _ in range(4000):
        await a.use(1)
        fleet.clock.advance(0.001)
        await asyncio.sleep(0)
    assert fleet.counter.out > 100
    await fleet.pass_time(3, a)
    assert (fleet.counter.settled, fleet.counter.out) == (4000, 0)
    await b.use(1)
    await b.room.close()
    assert (fleet.counter.settled, fleet.counter.out) == (4001, 0)


async def test_a_store_that_lost_everything_is_filled_from_the_ledger() -> None:
    fleet = Fleet(plan(100))
    a, b = fleet.nodes
    assert await a.use(40) + await b.use(30) == 70
    await fleet.pass_time(2)
    fleet.book = Book()
    assert await a.use(100) + await b.use(100) == 30
    await fleet.pass_time(3)
    assert fleet.counter.settled == 100


async def test_what_others_hold_is_known_again_five_seconds_after_the_loss() -> None:
    fleet = Fleet(plan(100))
    a, b = fleet.nodes
    held = await b.tickets(60)
    await fleet.pass_time(2)
    fleet.book = Book()
    assert await a.use(1) == 1
    await fleet.pass_time(5)
    assert fleet.counter.out == 60
    assert await a.use(100) == 39
    for ticket in held:
        ticket.settle({"requests": 1})


async def test_an_older_copy_of_the_store_is_put_right_by_the_next_accounts() -> None:
    """A failover to a replica that had not heard of the last calls."""
    fleet = Fleet(plan(100))
    a, b = fleet.nodes
    assert await a.use(10) + await b.use(10) == 20
    await fleet.pass_time(2)
    old = {name: list(each) for name, each in fleet.counter.nodes.items()}
    settled = fleet.counter.settled
    assert await a.use(30) + await b.use(20) == 50
    await fleet.pass_time(2)
    fleet.counter.nodes, fleet.counter.settled = old, settled
    fleet.counter.out = sum(each[2] for each in old.values())
    assert await a.use(1) + await b.use(1) == 2
    await fleet.pass_time(3)
    assert fleet.counter.settled == 72


async def test_the_counter_converges_to_the_ledger_up_and_down() -> None:
    """The ledger is the truth: usage that a crashed node never told, and usage that was never recorded."""
    fleet = Fleet(plan(1000))
    a, _ = fleet.nodes
    assert await a.use(10) == 10
    await fleet.pass_time(2)
    fleet.ledger += 25  # the journal of a node that crashed was shipped
    await fleet.pass_time(70)
    await a.use(1)
    await fleet.pass_time(70)
    await a.use(1, requests=0)
    await fleet.pass_time(70)
    assert fleet.counter.settled == 36
    fleet.ledger -= 6  # the journal failed, and what was settled is not in it
    await a.use(1)
    await fleet.pass_time(70)
    await a.use(1, requests=0)
    await fleet.pass_time(70)
    assert fleet.counter.settled == fleet.ledger == 31


async def test_while_the_ledger_is_late_nothing_is_corrected_downward() -> None:
    fleet = Fleet(plan(1000))
    a, _ = fleet.nodes
    fleet.late = True
    assert await a.use(10) == 10
    fleet.ledger = 0
    for _ in range(4):
        await fleet.pass_time(70)
        await a.use(1, requests=0)
    assert fleet.counter.settled == 10


async def test_a_raised_and_a_lowered_limit_hold_at_once_and_keep_what_was_used() -> None:
    """envoyproxy/ratelimit#185, TykTechnologies/tyk#265."""
    fleet = Fleet(plan(5))
    a, b = fleet.nodes
    assert await a.use(9) == 5
    a.load(plan(8))
    assert await a.use(9) == 3
    b.load(plan(7))
    assert await b.use(1) == 0
    big = Plan("big", quotas=(Quota("q", "requests", 12, "month"),))
    b.load(big)
    assert await b.use(9) == 4


async def test_meters_known_afterwards_may_exceed_and_count() -> None:
    fleet = Fleet(plan(100, "tokens"))
    a, b = fleet.nodes
    assert await a.use(1, tokens=99) == 1
    assert await a.use(1, tokens=500) == 1
    await fleet.pass_time(2)
    assert await b.use(1, tokens=1) == 0
    assert fleet.counter.settled == 599


@pytest.mark.parametrize("estimate", [40, 1000])
async def test_an_estimate_is_held_resized_and_settled(estimate: int) -> None:
    """BerriAI/litellm#38647: an estimate above what is left is resized, and locks nobody out."""
    fleet = Fleet(plan(100, "tokens", estimate=estimate))
    a, b = fleet.nodes
    first = await a.tickets(10)
    assert len(first) == (3 if estimate == 40 else 1)
    assert await b.use(1, tokens=1) == 0
    for ticket in first:
        ticket.settle({"tokens": 10})
    await fleet.pass_time(3)
    assert len(await b.tickets(1)) == 1
    assert fleet.counter.settled == 10 * len(first)


async def test_an_estimate_is_topped_up_by_what_was_really_used() -> None:
    fleet = Fleet(plan(100, "tokens", estimate=10), 1)
    (node,) = fleet.nodes
    assert await node.use(1, tokens=95) == 1
    await fleet.pass_time(2)
    assert node.use_now == (95, 5)
    ticket = (await node.tickets(1))[0]
    assert node.use_now == (100, 0)
    ticket.settle({"tokens": 3})
    assert node.use_now == (98, 2)


async def test_a_routes_own_estimate_counts_there() -> None:
    fleet = Fleet(plan(100, "tokens", estimate=10), 1)
    (node,) = fleet.nodes
    await node.ask(Route("long", "/long", "api", estimates=(("tokens", 60),)))
    assert node.use_now == (60, 40)
    await node.ask()
    assert node.use_now == (70, 30)


@pytest.mark.parametrize("overage", ["allow", "bill"])
async def test_overage_passes_without_asking_and_is_counted(overage: str) -> None:
    fleet = Fleet(plan(5, overage=overage))
    a, b = fleet.nodes
    assert await a.use(8) + await b.use(8) == 16
    assert not fleet.calls
    await fleet.pass_time(10)
    assert fleet.counter.settled == 16
    await b.use(1)
    await fleet.pass_time(3)
    assert b.use_now == (17, 0)


@pytest.mark.parametrize(("says", "passes"), [("allow", 8), ("deny", 0), ("local", 2)])
async def test_without_the_store_each_quota_does_what_it_says(says: str, passes: int) -> None:
    """Kong/kong#2382, dream11/kong-scalable-rate-limiter#14: 503, never 429; ``local`` is a bounded share."""
    fleet = Fleet(plan(20, on_store_error=says), 1)
    (node,) = fleet.nodes
    fleet.down = True
    assert await node.use(8) == passes
    if says != "allow":
        assert code(await node.ask()) == (503, "limits_unavailable")
    blind = node.room.readings().blind
    assert blind["p", "monthly", says] >= max(passes, 1)
    assert len(fleet.calls) <= 3  # envoyproxy/ratelimit#1018
    fleet.down = False
    assert node.room.keeper is not None
    async with asyncio.timeout(10):
        while node.room.keeper.down:
            await asyncio.sleep(0.01)
    fleet.ledger = passes
    assert await node.use(50) == 20 - passes
    await node.room.close()


async def test_a_connection_that_ended_while_idle_is_no_reason_to_refuse() -> None:
    """envoyproxy/ratelimit#297: the first call after a restart of the store; made again once, if it failed at once."""
    fleet = Fleet(plan(20, on_store_error="deny"), 1)
    (node,) = fleet.nodes
    await node.use(1)
    fleet.lose_answers = 1
    assert await node.use(1) == 1
    await fleet.pass_time(3)
    assert (fleet.counter.settled, fleet.counter.out) == (2, 0)


async def test_a_node_that_was_away_too_long_spends_nothing_that_it_held_ahead() -> None:
    """The store has given it to others by then."""
    fleet = Fleet(plan(100_000))
    a = fleet.nodes[0]
    for _ in range(3000):
        await a.use(1)
        fleet.clock.advance(0.001)
        await asyncio.sleep(0)
    assert fleet.counter.out > 100
    fleet.clock.advance(40)
    calls = len(fleet.calls)
    fleet.go.clear()
    waiting = asyncio.create_task(a.ask())
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(fleet.calls) == calls + 1
    fleet.go.set()
    assert isinstance(await waiting, Ticket)


async def test_a_new_period_begins_at_what_the_ledger_says() -> None:
    fleet = Fleet(Plan("p", quotas=(Quota("daily", "requests", 3, "day"),)))
    a, b = fleet.nodes
    late = (await a.tickets(1))[0]
    assert await a.use(5) == 2
    fleet.ledger = 0
    fleet.clock.advance(12 * 3600)
    assert await a.use(2) + await b.use(2) == 3
    late.settle({"requests": 1})
    await fleet.pass_time(3)
    assert [each.settled for each in fleet.book._pages["t.acme"].budgets.values()][-1] == 3


async def test_a_counter_that_was_dropped_and_made_again_is_a_new_node() -> None:
    fleet = Fleet(plan(10), 1)
    (node,) = fleet.nodes
    assert await node.use(6) == 6
    await fleet.pass_time(12)
    quotas = node.room._quotas
    (counter,) = quotas._table.values()
    assert counter.disposable(fleet.clock.wall_ns())
    quotas._ring.clear()
    quotas._table.clear()
    counter.retire()
    assert await node.use(9) == 4
    await fleet.pass_time(3)
    assert fleet.counter.settled == 10


async def test_explain_asks_the_store_and_tells_what_is_used_leased_and_blind() -> None:
    fleet = Fleet(plan(10))
    a, b = fleet.nodes

    async def standing() -> tuple[int, int, int | None, bool, str]:
        (one,) = (await b.room.explain(Principal("acme", "k", "p"), ROUTE, Asker())).standings
        assert one.use is not None
        return one.use.used, one.use.remaining, one.leased, one.refuses, one.blind

    await a.use(4)
    await fleet.pass_time(2)
    assert await standing() == (4, 6, 0, False, "")
    await a.use(6)
    await fleet.pass_time(2)
    assert await standing() == (10, 0, 0, True, "")
    assert fleet.counter.settled == 10  # it took nothing
    fleet.down = True
    await fleet.pass_time(70)
    assert await standing() == (10, 0, 0, False, "deny")
    await b.room.close()
