"""Budgets in money that nodes share: exact over all nodes, held and settled, and free routes stay open."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from sidecar.admission import Asker, Pending, Refused
from sidecar.core.budgets import NODE_US
from sidecar.core.leases import Book
from sidecar.core.policy import Limit, MeterPrice, Plan, Quota, SpendCap, Tier
from tests.admission.money_fleet import CHAT, FREE, PAID, MoneyFleet, capped, priced, usd

Make = Callable[..., MoneyFleet]
PREPAID = Plan("p", price=priced(), prepaid=True)


@pytest.fixture
async def fleet() -> AsyncIterator[Make]:
    made: list[MoneyFleet] = []

    def make(plan: Plan, count: int = 3) -> MoneyFleet:
        made.append(MoneyFleet(plan, count))
        return made[-1]

    yield make
    for one in made:
        await one.close_nodes()


async def test_a_cap_holds_exactly_over_all_nodes(fleet: Make) -> None:
    """BerriAI/litellm#34732: each node counted for itself, and together they let pass three times as much."""
    f = fleet(capped("1.00"))
    passed = await asyncio.gather(*(node.use(20) for node in f.nodes))
    assert sum(passed) == 10
    assert [await node.code() for node in f.nodes] == ["spend_cap_reached"] * 3
    assert [await node.code(FREE) for node in f.nodes] == [None] * 3, "what costs nothing passes"
    refused = await f.nodes[0].ask()
    assert isinstance(refused, Refused)
    assert refused.problem.extra["spent"] == refused.problem.extra["limit"] == "1.00 USD"
    assert f.nodes[0].room.readings().refused["p", "spend_cap"] >= 10


async def test_who_is_refused_costs_few_calls_and_who_passes_few_more(fleet: Make) -> None:
    f = fleet(capped("100.00"), 2)
    for _ in range(20):
        await f.nodes[0].use(40)
        await f.pass_time(1)
    assert f.calls < 100, "800 calls of the API"
    await f.nodes[1].use(300)
    before = f.calls
    assert await f.nodes[1].use(500) == 0
    assert f.calls - before < 10


async def test_credits_are_burned_by_all_nodes_and_a_top_up_opens_all_of_them(fleet: Make) -> None:
    f = fleet(PREPAID)
    assert [await node.code() for node in f.nodes] == ["credits_exhausted"] * 3
    f.grant("0.55")
    for node in f.nodes:
        await node.seated()
    assert sum([await node.use(4) for node in f.nodes]) == 5
    f.grant("0.25", "b")
    for node in f.nodes:
        await node.seated()
    assert sum([await node.use(4) for node in f.nodes]) == 3, "0.05 of the first and 0.25 of the second"
    f.grant("1.00", "c")
    for node in f.nodes:
        await node.seated()
    assert await f.nodes[0].use(2) == 2
    f.revoke("c")
    await f.pass_time(60)
    for node in f.nodes:
        await node.seated()
    assert sum([await node.use(4) for node in f.nodes]) == 0


async def test_an_estimate_resizes_to_the_headroom_and_locks_nobody_out(fleet: Make) -> None:
    """BerriAI/litellm#38647: two nodes, one account, and 0.90 USD for calls that are estimated at 0.50 USD."""
    quota = Quota("q", "tokens", 10**9, "month", overage="allow", estimate=500)
    plan = replace(PREPAID, price=priced("0.00", "1.00"), quotas=(quota,))
    f = fleet(plan, 2)
    f.grant("0.90")
    a, b = f.nodes
    assert await a.begin(CHAT, tokens=600)
    assert await b.begin(CHAT, tokens=400)
    assert [await node.code(CHAT) for node in f.nodes] == ["credits_exhausted"] * 2
    b.end()
    assert await b.code(CHAT) == "credits_exhausted", "0.50 held, 0.40 used"
    a.end()
    await f.pass_time(2)
    assert f.total("tokens", 0, 2**62) == 1000, "0.10 more than there was: what a call used beyond its estimate"
    assert [await node.code(CHAT) for node in f.nodes] == ["credits_exhausted"] * 2


async def test_what_a_call_did_not_use_of_its_estimate_is_there_again_on_every_node(fleet: Make) -> None:
    plan = capped("1.00", priced("0.00", "1.00"), quotas=(Quota("q", "tokens", 10**9, "month", estimate=1000),))
    f = fleet(plan, 2)
    a, b = f.nodes
    assert await a.begin(CHAT, tokens=10)
    assert await b.code(CHAT) == "spend_cap_reached"
    a.end()
    await f.pass_time(3)
    assert await b.code(CHAT) is None


@pytest.mark.parametrize(
    ("price", "cap", "passes"),
    [
        (MeterPrice("calls", 7, 1, usd("0.10")), "1.00", 17),
        (MeterPrice("calls", 0, 4, usd("0.40"), "package"), "1.00", 8),
        (MeterPrice("calls", 0, 1, usd("0"), "graduated", (Tier(3, usd("0.20")), Tier(None, usd("0.05")))), "1.00", 11),
        (MeterPrice("calls", 0, 3, usd("0.10")), "0.50", 15),
    ],
    ids=["included", "packages", "steps", "thirds"],
)
async def test_the_price_is_that_of_the_sum_whichever_node_used_it(
    fleet: Make, price: MeterPrice, cap: str, passes: int
) -> None:
    f = fleet(capped(cap, priced(price)))
    assert sum(await asyncio.gather(*(node.use(20) for node in f.nodes))) == passes


async def test_two_meters_share_one_ceiling(fleet: Make) -> None:
    f = fleet(capped("1.00", priced("0.10", "0.10")), 2)
    a, b = f.nodes
    assert await a.use(3, CHAT, calls=1, tokens=1000) == 3
    await f.pass_time(2)
    assert await b.use(9) == 4
    assert await a.code(CHAT) == await a.code() == "spend_cap_reached"


async def test_a_raised_cap_opens_and_a_lowered_one_closes_at_once(fleet: Make) -> None:
    f = fleet(capped("0.50"))
    assert sum([await node.use(9) for node in f.nodes]) == 5
    f.load(capped("0.80"))
    assert sum([await node.use(9) for node in f.nodes]) == 3
    f.load(capped("0.10"))
    assert sum([await node.use(9) for node in f.nodes]) == 0


async def test_a_caps_period_begins_anew_within_that_of_the_price(fleet: Make) -> None:
    f = fleet(capped("0.50", period="hour"))
    assert sum([await node.use(4) for node in f.nodes]) == 5
    await f.pass_time(3600)
    for hour in range(3):
        assert sum([await node.use(4) for node in f.nodes]) == 5, hour
        await f.pass_time(1)
        f.clock.advance(3600)
        for node in f.nodes:
            await node.seated()


async def test_while_the_store_is_gone_money_is_denied_and_free_routes_pass(fleet: Make) -> None:
    f = fleet(capped("1.00"), 2)
    await f.nodes[0].use(1)
    await f.pass_time(3)
    f.down = True
    for _ in range(12):
        await f.nodes[1].code()
    assert await f.nodes[1].code() == "limits_unavailable"
    assert await f.nodes[1].code(FREE) is None
    assert f.nodes[1].room.readings().blind["p", "spend_cap", "deny"] >= 12


async def test_a_cap_may_allow_while_the_store_is_gone_within_what_is_known(fleet: Make) -> None:
    f = fleet(replace(capped(), spend_cap=SpendCap(usd("0.50"), "month", on_store_error="allow")), 1)
    assert await f.nodes[0].use(2) == 2
    f.down = True
    assert await f.nodes[0].use(9) == 3


async def test_a_store_that_lost_its_data_is_filled_from_the_ledger(fleet: Make) -> None:
    """unkeyed/unkey#403."""
    f = fleet(capped("1.00"))
    assert sum([await node.use(2) for node in f.nodes]) == 6
    await f.pass_time(2)
    f.book = Book()
    assert sum([await node.use(9) for node in f.nodes]) == 4
    f.book = Book()
    f.ledger_down = True
    assert await f.nodes[0].code() in ("limits_unavailable", "spend_cap_reached")


async def test_what_a_crashed_node_held_comes_back(fleet: Make) -> None:
    """BerriAI/litellm#27639."""
    f = fleet(capped("0.50"), 2)
    a, b = f.nodes
    for _ in range(5):
        assert await a.begin()
    a.boot()
    assert await b.use(3) == 0
    await f.pass_time(NODE_US // 1_000_000)
    assert await b.use(1) == 0, "the store forgets it now, and has b ask the ledger"
    await f.pass_time(8)
    assert await b.use(9) == 5


async def test_a_refusal_consumes_nothing_of_either(fleet: Make) -> None:
    f = fleet(capped("0.20", limits=(Limit("steady", 4, 60_000_000_000),)), 2)
    a, b = f.nodes
    assert await a.use(9) == 2
    assert await b.code() == "spend_cap_reached"
    f.load(replace(f.plan, spend_cap=SpendCap(usd("5.00"))))
    assert sum([await a.use(9), await b.use(9)]) == 2, "the two that money refused took nothing of the limit"
    assert await a.code() == "limit_exceeded"
    await f.pass_time(3)
    assert f.total("calls", 0, 2**62) == 4


async def test_a_route_that_ignores_the_budget_passes_and_is_counted(fleet: Make) -> None:
    f = fleet(capped("0.30"), 2)
    a, b = f.nodes
    assert await a.use(5, replace(PAID, budget="ignore")) == 5
    await f.pass_time(2)
    assert await b.code() == "spend_cap_reached"


async def test_two_plans_of_one_tenant_have_accounts_of_the_same_use(fleet: Make) -> None:
    f = fleet(capped("0.30"), 2)
    dear = replace(capped("1.00", priced("0.20")), name="q")
    for node in f.nodes:
        node.room.load(replace(node.room.snapshot, plans={"p": f.plan, "q": dear}))
    a, b = f.nodes
    assert await a.use(2) == 2
    await f.pass_time(2)
    await b.seated("q")
    assert await b.use(9) == 3, "two at the other plan, and three: five for 1.00"
    assert await a.code() == "spend_cap_reached"


async def test_terms_that_a_reload_brings_are_read_before_they_count(fleet: Make) -> None:
    f = fleet(capped("1.00"), 1)
    (a,) = f.nodes
    assert await a.use(4) == 4
    seat = a.seat
    a.room.load(replace(a.room.snapshot, plans={"p": capped("0.50")}))
    f.ledger_down = True
    decided = seat.gate(PAID).admit("GET", "192.0.2.1", lambda _: None)
    assert isinstance(decided, Pending)
    refused = await decided.wait()
    assert isinstance(refused, Refused)
    assert refused.problem.code == "store_unavailable"
    f.ledger_down = False
    assert await a.use(5) == 1


async def test_explaining_asks_the_store_and_consumes_nothing(fleet: Make) -> None:
    f = fleet(capped("0.50"), 2)
    a, b = f.nodes
    assert await a.use(3) == 3
    await f.pass_time(2)
    await b.seated()
    told = await b.room.explain(b.seat.principal, PAID, Asker())
    assert [(check.says, check.code) for check in told.checks if check.name == "budget"] == [
        ("0.30 USD of 0.50 USD spent", None)
    ]
    assert await a.use(9) == 2
    await f.pass_time(2)
    told = await b.room.explain(b.seat.principal, PAID, Asker())
    assert told.answer is not None
    assert told.answer.problem.code == "spend_cap_reached"
