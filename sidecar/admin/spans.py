"""Ranges of time as people write them, and what the kept sums can answer of them."""

import re
from datetime import UTC, datetime
from typing import NamedTuple

from sidecar.admin.shapes import instant_us, time_text
from sidecar.core.clock import NS_PER_S, NS_PER_US
from sidecar.core.periods import period_bounds

_MINUTE_US = 60_000_000
_HOUR_US = 3_600_000_000


class Span(NamedTuple):
    """[since_us, until_us), Unix microseconds."""

    since_us: int
    until_us: int

    def texts(self) -> dict[str, str]:
        """``since`` and ``until`` in RFC 3339."""
        return {"since": time_text(self.since_us * NS_PER_US), "until": time_text(self.until_us * NS_PER_US)}


def exact_span(since: str, until: str | None, now_us: int) -> Span:
    """Between two instants, each a duration before now or an ISO 8601 time; None is now. ValueError when empty."""
    span = Span(instant_us(since, now_us), now_us if until is None else instant_us(until, now_us))
    if span.since_us >= span.until_us:
        raise ValueError(f"since ({since}) is not before until ({until or 'now'})")
    return span


def summed_span(since: str, until: str | None, now_us: int, minute_sums_ns: int) -> Span:
    """The same, widened to what sums can answer: whole minutes, or whole hours when it begins before the oldest
    minute that is kept."""
    span = exact_span(since, until, now_us)
    return _widened(span, _MINUTE_US if has_minutes(span, now_us, minute_sums_ns) else _HOUR_US)


def has_minutes(span: Span, now_us: int, minute_sums_ns: int) -> bool:
    """Whether each minute of the span is still kept by itself."""
    return span.since_us >= now_us - minute_sums_ns // NS_PER_US


def month_span(month: str, now_us: int) -> Span:
    """``2026-11`` as the calendar month (UTC), the running one up to now. ValueError says what to write."""
    match = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", month)
    if match is None or match[1] < "1970":
        raise ValueError(f"{month!r} is not a month; write one such as 2026-11")
    at = datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC)
    now_us = running_minute_us(now_us)
    if int(at.timestamp()) * NS_PER_S >= now_us * NS_PER_US:
        raise ValueError(f"{month} has not begun")  # said before asking for its end: that of 9999-12 is no date
    start_ns, end_ns = period_bounds("month", int(at.timestamp()) * NS_PER_S)
    return Span(start_ns // NS_PER_US, min(end_ns // NS_PER_US, now_us))


def running_minute_us(now_us: int) -> int:
    """The end of the minute that runs."""
    return (now_us // _MINUTE_US + 1) * _MINUTE_US


def whole_hours(span: Span) -> Span:
    """The span widened to whole hours."""
    return _widened(span, _HOUR_US)


def _widened(span: Span, step_us: int) -> Span:
    return Span(span.since_us // step_us * step_us, -(-span.until_us // step_us) * step_us)
