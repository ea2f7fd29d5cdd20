"""Quotas that nodes share, through crashes, lost answers and losses of the store and of the ledger."""

import asyncio

import pytest

from sidecar.admission import Ticket
from sidecar.core.budgets import NODE_US
from sidecar.core.leases import Book
from sidecar.core.policy import Route
from tests.admission.quota_nodes import Fleet, code, plan


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


async def test_what_a_killed_node_had_not_shipped_is_not_given_out_while_it_may_come_back() -> None:
    """Its journal was not in the ledger 6 s later, and what it had used passed once more on the other node."""
    fleet = Fleet(plan(60))
    killed, other = fleet.nodes
    assert await killed.use(30) == 30
    fleet.ledger = 0  # it stands in the journal of the killed node alone
    passed = 0
    for _ in range(25):
        passed += await other.use(1)
        await fleet.pass_time(1, other)
    passed += await other.use(60)
    assert passed == 30
    fleet.ledger += 30  # it is back
    await fleet.pass_time(40, other)
    await other.use(1)
    await fleet.pass_time(10, other)
    assert fleet.counter.settled == 60 == fleet.ledger


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
    assert fleet.calls <= 3  # envoyproxy/ratelimit#1018
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
    calls = fleet.calls
    fleet.go.clear()
    waiting = asyncio.create_task(a.ask())
    for _ in range(10):
        await asyncio.sleep(0)
    assert fleet.calls == calls + 1
    fleet.go.set()
    assert isinstance(await waiting, Ticket)


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
