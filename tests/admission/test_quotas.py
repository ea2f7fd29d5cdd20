"""Quotas: read once, counted on, held and settled, per calendar period."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from sidecar.admission.quotas import Period, QuotaCounter, QuotaKey
from sidecar.core.errors import StoreError
from sidecar.core.periods import Cycle, period_bounds
from sidecar.core.policy import Limit, Plan, Quota, Route
from sidecar.core.values import Principal

DAY_US = 86_400_000_000
DAILY = Plan("p", quotas=(Quota("daily", "requests", 3, "day"),))


async def test_what_was_used_before_is_read_once_for_all_keys(desk: Any) -> None:
    desk.load(DAILY)
    desk.ledger.totals["acme", "requests", False] = 2
    gates = await asyncio.gather(*(desk.gate(key=f"k{i}") for i in range(20)))
    start = desk.clock.wall_ns() // 1000 // DAY_US * DAY_US
    assert desk.ledger.asked == [("acme", "requests", start, start + DAY_US, False)]
    assert [desk.passes(gate) for gate in gates[:3]] == [True, False, False]
    assert desk.passes(await desk.gate(tenant="other"))


async def test_a_slow_read_is_shared_and_survives_a_caller_that_gives_up(desk: Any) -> None:
    desk.load(DAILY)
    desk.ledger.totals["acme", "requests", False] = 3
    desk.ledger.go.clear()
    first = asyncio.create_task(desk.gate(key="a"))
    second = asyncio.create_task(desk.gate(key="b"))
    await desk.turn()
    first.cancel()
    await desk.turn()
    desk.ledger.go.set()
    assert not desk.passes(await second)
    assert len(desk.ledger.asked) == 1


async def test_a_failed_read_is_a_failure_and_is_tried_again(desk: Any) -> None:
    """Never a guess: without the sum nobody is seated (unkeyed/unkey#403)."""
    desk.load(DAILY)
    desk.ledger.down = True
    with pytest.raises(StoreError):
        await desk.gate()
    desk.ledger.down = False
    desk.ledger.totals["acme", "requests", False] = 3
    assert not desk.passes(await desk.gate())


async def test_live_and_test_usage_are_two(desk: Any) -> None:
    desk.load(Plan("p", quotas=DAILY.quotas, test_keys="p"))
    desk.ledger.totals["acme", "requests", True] = 3
    test = (await desk.room.seat(Principal("acme", "t", "p", sandbox=True))).gate(desk.route)
    assert not desk.passes(test)
    assert desk.passes(await desk.gate())


async def test_a_plan_change_and_a_reload_keep_what_was_used(desk: Any) -> None:
    desk.load(DAILY, Plan("big", quotas=(Quota("q", "requests", 4, "day"),)))
    gate = await desk.gate()
    assert [desk.passes(gate) for _ in range(4)] == [True, True, True, False]
    big = await desk.gate("big")
    assert [desk.passes(big) for _ in range(2)] == [True, False]
    assert len(desk.ledger.asked) == 1


async def test_a_quota_added_by_a_reload_is_read_behind_running_requests(desk: Any) -> None:
    """What is admitted while the read is under way is not lost; until it ends the quota counts blindly."""
    desk.load(Plan("p"))
    seat = await desk.room.seat(Principal("acme", "k", "p"))
    desk.ledger.totals["acme", "requests", False] = 1
    desk.ledger.go.clear()
    desk.load(DAILY)
    assert desk.passes(seat.gate(desk.route))
    await desk.turn()
    desk.ledger.go.set()
    await desk.turn()
    assert [desk.passes(seat.gate(desk.route)) for _ in range(2)] == [True, False]
    assert desk.room.readings().quota_blind == 1
    await desk.room.close()


async def test_a_background_read_that_fails_is_tried_once_a_second(desk: Any) -> None:
    desk.load(Plan("p"))
    seat = await desk.room.seat(Principal("acme", "k", "p"))
    desk.ledger.down = True
    desk.load(Plan("p", quotas=(Quota("daily", "requests", 1000, "day"),)))
    for _ in range(10):
        assert desk.passes(seat.gate(desk.route))
        await desk.turn()
    assert len(desk.ledger.asked) == 1
    desk.clock.advance(1)
    desk.passes(seat.gate(desk.route))
    await desk.turn()
    assert len(desk.ledger.asked) == 2
    await desk.room.close()


async def test_closing_stops_a_read_under_way(desk: Any) -> None:
    desk.load(Plan("p"))
    seat = await desk.room.seat(Principal("acme", "k", "p"))
    desk.ledger.go.clear()
    desk.load(DAILY)
    desk.passes(seat.gate(desk.route))
    await desk.turn()
    assert desk.room._quotas._loading
    await desk.room.close()
    assert not desk.room._quotas._loading


async def test_held_amounts_are_replaced_once(desk: Any) -> None:
    """BerriAI/litellm#35569: settled twice counts once. A call that is not billable gives everything back."""
    desk.load(Plan("p", quotas=(Quota("u", "units", 10, "day"),)))
    seat = await desk.room.seat(Principal("acme", "k", "p"))
    gate = seat.gate(Route("search", "/", "api", units=4))

    def used() -> int:
        return int(desk.room.usage_of("acme")[0].used)

    first, second = desk.ticket(gate), desk.ticket(gate)
    assert used() == 8
    assert not desk.passes(gate)
    first.settle({"units": 4})
    first.settle({"units": 4})
    second.settle({})
    second.settle({"units": 4})
    assert used() == 4
    desk.ticket(gate).release()
    assert used() == 4


async def test_meters_known_afterwards_block_when_the_quota_is_used_up(desk: Any) -> None:
    desk.load(Plan("p", quotas=(Quota("b", "bytes", 100, "day"),)))
    gate = await desk.gate()
    desk.ticket(gate).settle({"bytes": 99})
    desk.ticket(gate).settle({"bytes": 500})
    refused = desk.refusal(gate).problem
    assert refused.code == "quota_exceeded"
    assert dict(refused.headers)["Retry-After"] == str(12 * 3600)
    desk.clock.advance(12 * 3600)
    assert desk.passes(gate)


async def test_routes_that_a_meter_does_not_cover_stay_open(desk: Any) -> None:
    """BerriAI/litellm#10973 (field-bugs 16)."""
    desk.load(Plan("p", quotas=(Quota("q", "paid", 1, "day"),)))
    assert desk.passes(await desk.gate())
    assert not desk.passes(await desk.gate())
    free = await desk.gate(route=Route("status", "/status", "api"))
    assert desk.passes(free)
    assert desk.ticket(free).headers == b""


@pytest.mark.parametrize("overage", ["allow", "bill"])
async def test_overage_passes_and_is_counted(desk: Any, overage: str) -> None:
    desk.load(Plan("p", quotas=(Quota("q", "requests", 1, "day", overage),)))
    seat = await desk.room.seat(Principal("acme", "k", "p"))
    gate = seat.gate(desk.route)
    for _ in range(5):
        desk.ticket(gate).settle({"requests": 1})
    assert (desk.room.usage_of("acme")[0].used, desk.room.usage_of("acme")[0].remaining) == (5, 0)


async def test_two_quotas_of_one_meter_and_period_count_once(desk: Any) -> None:
    desk.load(Plan("p", quotas=(Quota("soft", "requests", 2, "day", "bill"), Quota("hard", "requests", 4, "day"))))
    gate = await desk.gate()
    for _ in range(4):
        desk.ticket(gate).settle({"requests": 1})
    assert desk.refusal(gate).problem.extra["violated-policies"] == ["hard"]


async def test_a_request_belongs_to_the_period_of_its_admission(desk: Any) -> None:
    desk.load(Plan("p", quotas=(Quota("u", "units", 1, "day"),)))
    seat = await desk.room.seat(Principal("acme", "k", "p"))
    gate = seat.gate(desk.route)
    late = desk.ticket(gate)
    desk.clock.advance(12 * 3600)
    assert desk.room.usage_of("acme")[0].used == 0
    late.settle({"units": 1})
    assert desk.room.usage_of("acme")[0].used == 0
    assert desk.passes(gate)


async def test_a_quota_smaller_than_the_request_says_so(desk: Any) -> None:
    desk.load(Plan("p", quotas=(Quota("u", "units", 3, "day"),)))
    refused = desk.refusal(await desk.gate(route=Route("r", "/", "api", units=4))).problem
    assert "needs more" in refused.detail
    assert "Retry-After" not in dict(refused.headers)


async def test_a_refusal_by_a_limit_holds_no_quota(desk: Any) -> None:
    """Kong/developer.konghq.com#6691 (field-bugs 18)."""
    desk.load(Plan("p", limits=(Limit("l", 0, 1000),), quotas=DAILY.quotas))
    seat = await desk.room.seat(Principal("acme", "k", "p"))
    assert not desk.passes(seat.gate(desk.route))
    assert {use.name: use.used for use in desk.room.usage_of("acme")} == {"daily": 0, "l": 0}


def test_a_wall_clock_that_jumps_over_the_boundary_and_back_goes_on_counting() -> None:
    hour = 3_600_000_000_000
    counter = QuotaCounter(QuotaKey("acme", False, "requests", "hour"), 10 * hour)
    counter.at(10 * hour).used = 5
    assert counter.at(11 * hour).used == 0
    assert counter.at(11 * hour - 1).used == 5
    assert counter.at(11 * hour).used == 0
    assert counter.at(3 * hour) is not None


def test_period_lengths_are_whole_seconds() -> None:
    assert Period(*period_bounds("month", 0)).length_s == 31 * 86_400


async def test_counters_that_hold_what_the_ledger_may_not_know_are_never_dropped(
    make_desk: Callable[..., Any],
) -> None:
    desk = make_desk(max_quotas=2)
    desk.load(DAILY)
    await desk.gate(tenant="idle")
    desk.ticket(await desk.gate(tenant="a")).settle({"requests": 3})
    desk.ticket(await desk.gate(tenant="b")).settle({"requests": 3})
    with pytest.raises(StoreError, match="full"):
        await desk.gate(tenant="c")
    assert not desk.passes(await desk.gate(tenant="a"))
    desk.clock.advance(86_400)
    assert desk.passes(await desk.gate(tenant="c"))
    assert desk.room.readings().quota_counters <= 2


async def test_a_gate_whose_counter_was_dropped_looks_it_up_again(make_desk: Callable[..., Any]) -> None:
    desk = make_desk(max_quotas=2)
    desk.load(DAILY)
    old = await desk.gate(tenant="a")
    for tenant in ("b", "c"):
        await desk.gate(tenant=tenant)
    desk.ledger.totals["a", "requests", False] = 2
    new = await desk.gate(tenant="a")
    assert desk.passes(old)
    assert not desk.passes(new)
    assert not desk.passes(old)


async def test_a_request_in_flight_keeps_its_counter(make_desk: Callable[..., Any]) -> None:
    """It holds nothing of a meter known afterwards, and yet its value must not be lost."""
    desk = make_desk(max_quotas=2)
    desk.load(Plan("p", quotas=(Quota("b", "bytes", 100, "day"),)))
    ticket = desk.ticket(await desk.gate(tenant="a"))
    for tenant in ("b", "c", "d"):
        await desk.gate(tenant=tenant)
    ticket.settle({"bytes": 100})
    assert not desk.passes(await desk.gate(tenant="a"))


async def test_a_billing_quota_goes_by_the_tenants_own_period(desk: Any) -> None:
    """Anchored on the 31st at noon in Berlin: January's period began on 31 December, February's ends on the 28th
    (BerriAI/litellm#10288). Another tenant's counter starts anew when its own period does."""
    desk.load(Plan("p", quotas=(Quota("q", "requests", 2, "billing"),)))
    berlin = Principal("acme", "k", "p", billing_cycle=Cycle("month", "Europe/Berlin", 31, 43_200).text)
    gate = (await desk.room.seat(berlin)).gate(desk.route)
    other = await desk.gate(tenant="other")
    start = int(datetime(2025, 12, 31, 11, tzinfo=UTC).timestamp()) * 1_000_000
    end = int(datetime(2026, 1, 31, 11, tzinfo=UTC).timestamp()) * 1_000_000
    assert desk.ledger.asked[0] == ("acme", "requests", start, end, False)
    assert [desk.passes(gate) for _ in range(3)] == [True, True, False]
    assert [desk.passes(other) for _ in range(3)] == [True, True, False]
    assert "allows 2 per billing period" in str(desk.refusal(gate).problem.detail)
    desk.clock.advance(29 * 86_400 + 22 * 3600)
    assert not desk.passes(gate)
    desk.clock.advance(3600)
    assert desk.passes(gate)
    assert not desk.passes(other)


async def test_quotas_of_two_time_zones_are_two_counters(desk: Any) -> None:
    """2026-01-01 12:00 UTC is the second of January in Kiritimati (UTC+14)."""
    here, there = (
        Quota("here", "requests", 1, "day"),
        Quota("there", "requests", 1, "day", time_zone="Pacific/Kiritimati"),
    )
    desk.load(Plan("p", quotas=(here, there)))
    gate = await desk.gate()
    assert [desk.passes(gate) for _ in range(2)] == [True, False]
    desk.clock.advance(12 * 3600)
    refused = desk.refusal(gate)
    assert refused.problem.extra["violated-policies"] == ["there"]
