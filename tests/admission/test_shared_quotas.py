"""Quotas that nodes share: one count over all nodes, held and settled, estimated and topped up."""

import asyncio

import pytest

from sidecar.admission import Asker, Refused, Ticket
from sidecar.core.policy import Limit, Plan, Quota, Route
from sidecar.core.values import Principal
from tests.admission.quota_nodes import ROUTE, Fleet, code, plan


async def test_nodes_share_one_quota_and_refuse_alone() -> None:
    """Kong/kong#2669, apache/apisix#12946. Who is refused asks no more until something may have come back."""
    fleet = Fleet(plan(10))
    a, b = fleet.nodes
    assert await a.use(7) + await b.use(7) == 10
    await fleet.pass_time(3)
    calls = fleet.calls
    assert await a.use(50) + await b.use(50) == 0
    assert fleet.calls <= calls + 2
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


async def test_what_another_node_has_not_told_yet_counts_once_in_a_new_counter() -> None:
    """A second after the counter was made the ledger is looked at, which has what the other node tells only then: it
    was counted twice, and clients saw less than they had for a minute."""
    fleet = Fleet(plan(60))
    a, b = fleet.nodes
    assert await a.use(1) == 1
    await fleet.pass_time(0.9)
    assert await b.use(5) == 5
    fleet.clock.advance(0.2)
    await fleet.work(a)
    await fleet.pass_time(4)
    assert (fleet.counter.settled, fleet.ledger) == (6, 6)
    assert a.use_now == b.use_now == (6, 54)


async def test_limits_and_quotas_are_one_decision() -> None:
    """envoyproxy/ratelimit#185: what the quota refuses takes no unit of the limit."""
    limit = Limit("steady", 100, 60 * 10**9, exact=True)
    fleet = Fleet(Plan("p", limits=(limit,), quotas=(Quota("monthly", "requests", 2, "month"),)), 1)
    (node,) = fleet.nodes
    assert await node.use(2) == 2
    assert all(len(ask.counters) == 1 and len(ask.budgets) == 1 for ask in fleet.asked if ask.requests)
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
    assert fleet.calls - 1000 <= 0.05 * 4000
    await fleet.pass_time(3)
    assert (fleet.counter.settled, fleet.counter.out) == (5000, 0)


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
