"""Calendar periods against the standard library's calendar."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.clock import NS_PER_S
from sidecar.core.periods import PERIODS, period_bounds


def _ns(year: int, month: int, day: int, *time: int) -> int:
    return int(datetime(year, month, day, *time, tzinfo=UTC).timestamp()) * NS_PER_S


@pytest.mark.parametrize(
    ("period", "at", "start", "end"),
    [
        ("hour", (2026, 3, 29, 1, 59, 59), (2026, 3, 29, 1), (2026, 3, 29, 2)),
        ("day", (2024, 2, 29, 12), (2024, 2, 29), (2024, 3, 1)),
        ("week", (2026, 1, 1), (2025, 12, 29), (2026, 1, 5)),
        ("week", (2025, 12, 29), (2025, 12, 29), (2026, 1, 5)),
        ("week", (2026, 1, 4, 23, 59, 59), (2025, 12, 29), (2026, 1, 5)),
        ("month", (2024, 2, 29, 23, 59, 59), (2024, 2, 1), (2024, 3, 1)),
        ("month", (2023, 2, 28), (2023, 2, 1), (2023, 3, 1)),
        ("month", (2025, 12, 31, 23, 59, 59), (2025, 12, 1), (2026, 1, 1)),
        ("month", (2026, 1, 31), (2026, 1, 1), (2026, 2, 1)),
    ],
)
def test_known_periods(period: str, at: tuple[int, ...], start: tuple[int, ...], end: tuple[int, ...]) -> None:
    """BerriAI/litellm#9098, #10288; envoyproxy/envoy#22626."""
    assert period_bounds(period, _ns(*at)) == (_ns(*start), _ns(*end))


@given(wall=st.integers(0, 4_102_444_800 * NS_PER_S), period=st.sampled_from(PERIODS))
def test_periods_tile_time(wall: int, period: str) -> None:
    start, end = period_bounds(period, wall)
    assert start <= wall < end
    assert period_bounds(period, start) == (start, end)
    assert period_bounds(period, end - 1) == (start, end)
    assert period_bounds(period, end)[0] == end
    first = datetime.fromtimestamp(start // NS_PER_S, UTC)
    if period == "week":
        assert first.weekday() == 0
        assert end - start == timedelta(days=7).total_seconds() * NS_PER_S
    if period == "month":
        assert (first.day, first.hour) == (1, 0)


def test_an_unknown_period_is_refused() -> None:
    with pytest.raises(ValueError, match="hour, day, week, month"):
        period_bounds("fortnight", 0)
