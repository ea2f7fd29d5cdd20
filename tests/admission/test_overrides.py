"""A tenant's own numbers in place of its plan's."""

from typing import Any

from sidecar.admission import Seat
from sidecar.core.overrides import overridden
from sidecar.core.policy import Concurrency, Limit, Origin, Plan, Quota
from sidecar.core.values import Override, Overrides, Principal

PLAN = Plan(
    "p",
    limits=(Limit("steady", 2, 60_000_000_000),),
    concurrency=(Concurrency("parallel", 1),),
    quotas=(Quota("daily", "requests", 3, "day"),),
    test_keys="p",
)


def changed(**numbers: int) -> Overrides:
    return Overrides(
        limits={name: Override(name, limit) for name, limit in numbers.items() if name == "steady"},
        concurrency={name: Override(name, limit) for name, limit in numbers.items() if name == "parallel"},
        quotas={name: Override(name, limit) for name, limit in numbers.items() if name == "daily"},
    )


async def seated(desk: Any, overrides: Overrides | None, *, tenant: str = "acme", sandbox: bool = False) -> Seat:
    seat: Seat = await desk.room.seat(Principal(tenant, "k", "p", sandbox=sandbox, overrides=overrides))
    return seat


def passed(desk: Any, seat: Seat, times: int) -> int:
    """How many calls pass, none of which ends."""
    found = 0
    for _ in range(times):
        if desk.passes(seat.gate(desk.route)):
            found += 1
    return found


async def test_only_what_is_named_is_another(desk: Any) -> None:
    desk.load(PLAN)
    seat = await seated(desk, changed(parallel=100))
    assert passed(desk, seat, 10) == 2
    assert {use.name: use.limit for use in desk.room.usage_of("acme")} == {"steady": 2, "parallel": 100, "daily": 3}


async def test_a_raised_limit_holds_at_once_and_what_was_used_stays_used(desk: Any) -> None:
    """envoyproxy/ratelimit#185, TykTechnologies/tyk#265: with a number of the tenant's own, too."""
    desk.load(PLAN)
    assert passed(desk, await seated(desk, changed(parallel=100)), 10) == 2
    assert passed(desk, await seated(desk, changed(parallel=100, steady=100)), 10) == 1, "the quota has one left"
    assert passed(desk, await seated(desk, changed(parallel=100, steady=100, daily=8)), 10) == 5
    assert passed(desk, await seated(desk, None), 10) == 0


async def test_a_plan_change_keeps_what_was_used_of_an_overridden_quota(desk: Any) -> None:
    """The new plan's quota has another name: the override says nothing of it, the counter is the same."""
    desk.load(Plan("p", quotas=PLAN.quotas), Plan("big", quotas=(Quota("all", "requests", 10, "day"),)))
    assert passed(desk, await seated(desk, changed(daily=6)), 10) == 6
    big = await desk.room.seat(Principal("acme", "k", "big", overrides=changed(daily=6)))
    assert passed(desk, big, 10) == 4


async def test_other_tenants_and_test_keys_keep_the_plans_numbers(desk: Any) -> None:
    desk.load(PLAN)
    more = changed(parallel=100, steady=100, daily=100)
    assert passed(desk, await seated(desk, more), 10) == 10
    assert passed(desk, await seated(desk, None, tenant="other"), 10) == 1
    assert passed(desk, await seated(desk, more, sandbox=True), 10) == 1


def test_an_override_says_where_it_stands_and_may_change_the_overage_alone() -> None:
    override = Override("daily", overage="allow", origin=Origin("a.yaml", 7))
    quota = overridden(PLAN, Overrides(quotas={"daily": override})).quotas[0]
    assert (quota.limit, quota.overage, quota.origin) == (3, "allow", Origin("a.yaml", 7))
    assert overridden(PLAN, None) is PLAN
