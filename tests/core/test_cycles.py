"""Periods in time zones, from anchors and from a payee's periods."""

from datetime import UTC, datetime, timedelta
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.accounts import Account, billing_cycle
from sidecar.core.billing import Period
from sidecar.core.clock import NS_PER_S
from sidecar.core.periods import Cycle, cycle_between, cycle_of, period_bounds
from sidecar.core.values import Anchor, Tenant

ZONES = sorted(available_timezones())
DAY_S = 86_400
moments = st.integers(-2_000_000_000, 6_000_000_000)  # 1906 to 2160
calendars = st.builds(
    lambda unit, zone: Cycle(unit, zone), st.sampled_from(["hour", "day", "week", "month"]), st.sampled_from(ZONES)
)
anchored = st.builds(
    lambda zone, day, second: Cycle("month", zone, day, second),
    st.sampled_from(ZONES),
    st.integers(1, 31),
    st.integers(0, DAY_S - 1),
)
yearly = st.builds(
    lambda day, second, step, phase: Cycle("month", "UTC", day, second, step, phase % step),
    st.integers(1, 31),
    st.integers(0, DAY_S - 1),
    st.sampled_from([2, 3, 6, 12, 36]),
    st.integers(0, 35),
)
spans = st.builds(lambda step, phase: Cycle("span", step=step, phase=phase), st.integers(60, 10**8), st.integers(0, 99))
cycles = st.one_of(calendars, anchored, yearly, spans)


def _s(year: int, month: int, day: int, *time: int) -> int:
    return int(datetime(year, month, day, *time, tzinfo=UTC).timestamp())


@given(cycle=cycles, wall_s=moments)
def test_periods_tile_time_and_hold_their_moment(cycle: Cycle, wall_s: int) -> None:
    """No gap, no overlap, whole minutes, whatever the clocks of the zone do (BerriAI/litellm#9098, #10288)."""
    start, end = cycle.bounds_s(wall_s)
    assert start <= wall_s < end
    assert start % 60 == end % 60 == 0
    assert cycle.bounds_s(start) == cycle.bounds_s(end - 1) == (start, end)
    assert cycle.bounds_s(end)[0] == end
    assert cycle.bounds_s(start - 1)[1] == start


@given(cycle=cycles, wall_s=moments)
def test_the_text_of_a_cycle_says_all_of_it(cycle: Cycle, wall_s: int) -> None:
    assert cycle_of(cycle.text).bounds_s(wall_s) == cycle.bounds_s(wall_s)
    start, end = period_bounds(cycle.text, wall_s * NS_PER_S + 1)
    assert (start, end) == tuple(bound * NS_PER_S for bound in cycle.bounds_s(wall_s))


@given(one=cycles, other=cycles)
def test_two_cycles_have_two_texts(one: Cycle, other: Cycle) -> None:
    """A text is part of a counter's key, so it is injective."""
    assert (one.text == other.text) == (one == other)


@given(day=st.integers(1, 31), second=st.integers(0, DAY_S - 1), wall_s=moments)
def test_the_same_date_next_month_or_its_last_day(day: int, second: int, wall_s: int) -> None:
    """BerriAI/litellm#4042, #4196; envoyproxy/envoy#22626: no drift to the 28th, and never a month left out."""
    cycle = Cycle("month", "UTC", day, second)
    month = datetime.fromtimestamp(wall_s, UTC)
    for _ in range(13):
        start, end = cycle.bounds_s(int(month.timestamp()))
        first = datetime.fromtimestamp(start - 59 if second % 60 else start, UTC)  # before it went to a whole minute
        following = (first.replace(day=1) + timedelta(days=31)).replace(day=1)
        last = (following - timedelta(days=1)).day
        assert first.day == min(day, last)
        assert 28 * DAY_S <= end - start <= 31 * DAY_S
        month = datetime.fromtimestamp(end, UTC)


@pytest.mark.parametrize(
    ("cycle", "at", "start", "end"),
    [
        # leap years
        (Cycle("month", "UTC", 31), (2024, 2, 29, 1), (2024, 2, 29), (2024, 3, 31)),
        (Cycle("month", "UTC", 30), (2023, 3, 1), (2023, 2, 28), (2023, 3, 30)),
        (Cycle("month", "UTC", 31), (2026, 4, 30), (2026, 4, 30), (2026, 5, 31)),
        # the clocks change: Berlin 2026-03-29 and 2026-10-25, New York midnight is 5 or 4 hours later than in UTC
        (Cycle("day", "Europe/Berlin"), (2026, 3, 29, 12), (2026, 3, 28, 23), (2026, 3, 29, 22)),
        (Cycle("day", "Europe/Berlin"), (2026, 10, 25, 12), (2026, 10, 24, 22), (2026, 10, 25, 23)),
        (Cycle("week", "America/New_York"), (2026, 3, 8, 12), (2026, 3, 2, 5), (2026, 3, 9, 4)),
        (Cycle("month", "America/New_York"), (2026, 3, 31, 12), (2026, 3, 1, 5), (2026, 4, 1, 4)),
        # 02:30 is skipped on 2026-03-29 in Berlin and shown twice on 2026-10-25
        (Cycle("month", "Europe/Berlin", 29, 9000), (2026, 3, 29, 2), (2026, 3, 29, 1, 30), (2026, 4, 29, 0, 30)),
        (Cycle("month", "Europe/Berlin", 25, 9000), (2026, 10, 25, 2), (2026, 10, 25, 0, 30), (2026, 11, 25, 1, 30)),
        # midnight is skipped in Sao Paulo on 2017-10-15; Apia has no 2011-12-30 at all
        (Cycle("day", "America/Sao_Paulo"), (2017, 10, 15, 12), (2017, 10, 15, 3), (2017, 10, 16, 2)),
        (Cycle("day", "Pacific/Apia"), (2011, 12, 30, 10), (2011, 12, 30, 10), (2011, 12, 31, 10)),
        # hours that are full at half past in UTC, and clocks that change by half an hour
        (Cycle("hour", "Asia/Kolkata"), (2026, 1, 1, 4), (2026, 1, 1, 3, 30), (2026, 1, 1, 4, 30)),
        (Cycle("hour", "Europe/Berlin"), (2026, 10, 25, 0, 59), (2026, 10, 25), (2026, 10, 25, 1)),
        (Cycle("hour", "Australia/Lord_Howe"), (2024, 10, 5, 15, 31), (2024, 10, 5, 15, 30), (2024, 10, 5, 16)),
        (Cycle("hour", "Australia/Lord_Howe"), (2024, 10, 5, 15, 29), (2024, 10, 5, 14, 30), (2024, 10, 5, 15, 30)),
    ],
)
def test_known_periods(cycle: Cycle, at: tuple[int, ...], start: tuple[int, ...], end: tuple[int, ...]) -> None:
    assert cycle.bounds_s(_s(*at)) == (_s(*start), _s(*end))


@given(day=st.integers(1, 31), second=st.integers(0, DAY_S - 1), wall_s=moments)
def test_one_month_of_the_payee_tells_all_of_them(day: int, second: int, wall_s: int) -> None:
    cycle = Cycle("month", "UTC", day, second)
    local = datetime.fromtimestamp(wall_s, UTC)
    number = local.year * 12 + local.month - 1
    assert cycle_between(cycle.start_s(number), cycle.start_s(number + 1)) == cycle


@given(start=moments, length=st.integers(1, 10**8))
def test_a_period_of_the_payee_is_a_period_of_its_cycle(start: int, length: int) -> None:
    """Weeks, a trial, a period that was cut short. It begins and ends on whole minutes, behind the edges."""
    first, last = -(-start // 60) * 60, -(-(start + length) // 60) * 60
    begin, end = cycle_between(start, start + length).bounds_s(first)
    if length >= 60:
        assert (begin, end) == (first, last)
    assert begin <= first < end


def test_years_and_quarters_of_the_payee_stay_what_they_are() -> None:
    year = cycle_between(_s(2025, 3, 15, 9), _s(2026, 3, 15, 9))
    assert year.bounds_s(_s(2030, 1, 1)) == (_s(2029, 3, 15, 9), _s(2030, 3, 15, 9))
    quarter = cycle_between(_s(2025, 11, 30), _s(2026, 2, 28))
    assert quarter.bounds_s(_s(2026, 3, 1)) == (_s(2026, 2, 28), _s(2026, 5, 30))


NOW = _s(2026, 11, 20)


@pytest.mark.parametrize(
    ("tenant", "periods", "text"),
    [
        (Tenant("a", "p"), None, "month"),
        (Tenant("a", "p"), (), "month"),
        (Tenant("a", "p", time_zone="Europe/Berlin"), None, "month:Europe/Berlin"),
        (Tenant("a", "p", anchor=Anchor(31)), None, "month:1:0:31:0:UTC"),
        (Tenant("a", "p", anchor=Anchor(1)), None, "month"),
        (Tenant("a", "p", anchor=Anchor(5, 570), time_zone="Asia/Tokyo"), None, "month:1:0:5:34200:Asia/Tokyo"),
        (Tenant("a", "p"), (Period(_s(2026, 11, 7), _s(2026, 12, 7)),), "month:1:0:7:0:UTC"),
        # the running one counts, not one that is announced
        (
            Tenant("a", "p"),
            (Period(_s(2026, 11, 7), _s(2026, 12, 7)), Period(_s(2026, 12, 9), _s(2027, 1, 9))),
            "month:1:0:7:0:UTC",
        ),
        # what is written wins over what the payee says
        (Tenant("a", "p", anchor=Anchor(5)), (Period(_s(2026, 11, 7), _s(2026, 12, 7)),), "month:1:0:5:0:UTC"),
    ],
)
def test_whose_billing_period_counts(tenant: Tenant, periods: tuple[Period, ...] | None, text: str) -> None:
    account = None if periods is None else Account("a", "cus_1", periods=periods)
    assert billing_cycle(tenant, account, NOW) == text


@pytest.mark.parametrize("text", ["", "year", "month:1:0:31", "span:60", "day:Europe/Berlin:1"])
def test_a_text_that_is_no_cycle_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a period"):
        cycle_of(text)
