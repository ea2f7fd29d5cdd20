"""Calendar periods in UTC, by which quotas are counted."""

from datetime import UTC, date, datetime, timedelta

from sidecar.core.clock import NS_PER_S

PERIODS = ("hour", "day", "week", "month")
_HOUR_NS = 3600 * NS_PER_S
_DAY_NS = 24 * _HOUR_NS
_EPOCH = date(1970, 1, 1)
_MONDAY_OFFSET_DAYS = 3  # 1970-01-01 was a Thursday


def period_bounds(period: str, wall_ns: int) -> tuple[int, int]:
    """The period that holds ``wall_ns`` as [start, end), Unix nanoseconds. Weeks start on Monday (ISO 8601).

    ValueError when ``period`` is none of PERIODS.
    """
    if period == "hour":
        start = wall_ns - wall_ns % _HOUR_NS
        return start, start + _HOUR_NS
    if period == "day":
        start = wall_ns - wall_ns % _DAY_NS
        return start, start + _DAY_NS
    if period == "week":
        day = wall_ns // _DAY_NS
        start = (day - (day + _MONDAY_OFFSET_DAYS) % 7) * _DAY_NS
        return start, start + 7 * _DAY_NS
    if period == "month":
        today = datetime.fromtimestamp(wall_ns // NS_PER_S, UTC).date()
        first = today.replace(day=1)
        after = (first + timedelta(days=31)).replace(day=1)
        return (first - _EPOCH).days * _DAY_NS, (after - _EPOCH).days * _DAY_NS
    raise ValueError(f"{period!r} is not a period; write one of {', '.join(PERIODS)}")
