"""Periods by which quotas are counted: of the calendar, in UTC or a time zone, or from an anchor.

A cycle of periods is known by a text, which every node derives alike and which is part of a counter's key:

====================================  =================================================================================
``hour``, ``day``, ``week``, ``month``  of the calendar in UTC; weeks start on Monday (ISO 8601)
``day:Europe/Berlin``                 of the calendar there; a day has 23 or 25 hours where the clocks change
``month:1:0:31:34200:Europe/Berlin``  every month from the 31st (or its last day), 34,200 s into the day by the clock
                                      there; ``month:12:3:...``: every 12 months, from the fourth of a year on
``span:1209600:3600``                 every 1,209,600 s, one of them at 3,600 s after the Unix epoch
====================================  =================================================================================

Periods tile the time line and begin on whole minutes, because the ledger's sums are per minute: a beginning between two
minutes counts from the later one. A beginning that the clocks skip comes as much later as they skip; of one that they
show twice the first counts.
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sidecar.core.clock import NS_PER_S

PERIODS = ("hour", "day", "week", "month")
_HOUR_NS = 3600 * NS_PER_S
_DAY_NS = 24 * _HOUR_NS
_DAY_S = 86_400
_EPOCH = date(1970, 1, 1)
_EPOCH_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_MONDAY_OFFSET_DAYS = 3  # 1970-01-01 was a Thursday
_SECOND = timedelta(seconds=1)


class Cycle(NamedTuple):
    """``unit``: one of PERIODS or ``span``. Months: every ``step`` of them, those with ``phase`` as the rest of year *
    12 + month - 1, on ``day`` (or the month's last), ``second`` of the day. Spans: of ``step`` seconds, from ``phase``.
    """

    unit: str
    zone: str = "UTC"
    day: int = 1
    second: int = 0
    step: int = 1
    phase: int = 0

    @property
    def text(self) -> str:
        if self.unit == "span":
            return f"span:{self.step}:{self.phase}"
        if self.unit == "month" and (self.day, self.second, self.step) != (1, 0, 1):
            return f"month:{self.step}:{self.phase}:{self.day}:{self.second}:{self.zone}"
        return self.unit if self.zone == "UTC" else f"{self.unit}:{self.zone}"

    def bounds_s(self, wall_s: int) -> tuple[int, int]:
        """The period that holds ``wall_s`` as [start, end), Unix seconds on whole minutes."""
        if self.unit == "span":
            number = (wall_s - self.phase) // self.step
            start, end = (_whole_minute(self.phase + (number + more) * self.step) for more in (0, 1))
            return (start, end) if start <= wall_s else (_whole_minute(self.phase + (number - 1) * self.step), start)
        zone = ZoneInfo(self.zone)
        if self.unit == "hour":
            return _hour(wall_s, zone)
        number = self._number(datetime.fromtimestamp(wall_s, zone))
        while (start := _whole_minute(self.start_s(number))) > wall_s:
            number -= 1
        while (end := _whole_minute(self.start_s(number + 1))) <= wall_s:
            number, start = number + 1, end
        return start, end

    def _number(self, local: datetime) -> int:
        """Of the period, give or take one."""
        if self.unit == "month":
            return (local.year * 12 + local.month - 1 - self.phase) // self.step
        return local.toordinal() if self.unit == "day" else (local.toordinal() - 1) // 7

    def start_s(self, number: int) -> int:
        """When the period of this number begins, of a day, week or month; Unix seconds, not yet on a whole minute."""
        if self.unit == "month":
            year, month = divmod(number * self.step + self.phase, 12)
            first = date(year, month + 1, 1)
            last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
            begin = first.replace(day=min(self.day, last.day))
        else:
            begin = date.fromordinal(number if self.unit == "day" else number * 7 + 1)
        midnight = datetime(begin.year, begin.month, begin.day, tzinfo=ZoneInfo(self.zone))
        local = midnight + timedelta(seconds=self.second)  # by the clock there
        return (local - _EPOCH_TIME) // _SECOND


def period_bounds(period: str, wall_ns: int) -> tuple[int, int]:
    """The period that holds ``wall_ns`` as [start, end), Unix nanoseconds. ``period``: a cycle's text.

    ValueError when it is none.
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
    start, end = cycle_of(period).bounds_s(wall_ns // NS_PER_S)
    return start * NS_PER_S, end * NS_PER_S


@lru_cache(4096)
def cycle_of(text: str) -> Cycle:
    """The inverse of ``Cycle.text``. ValueError."""
    unit, *rest = text.split(":")
    if unit in PERIODS and len(rest) <= 1:
        return Cycle(unit, rest[0] if rest else "UTC")
    if unit == "month" and len(rest) == 5:
        step, phase, day, second = map(int, rest[:4])
        return Cycle(unit, rest[4], day, second, step, phase)
    if unit == "span" and len(rest) == 2:
        return Cycle(unit, step=int(rest[0]), phase=int(rest[1]))
    raise ValueError(f"{text!r} is not a period; write one of {', '.join(PERIODS)}")


def months_of(text: str) -> int:
    """How many months a period of the cycle has; 0: no number of them. ValueError."""
    cycle = cycle_of(text)
    return cycle.step if cycle.unit == "month" else 0


def cycle_between(start_s: int, end_s: int) -> Cycle:
    """The cycle of which [start_s, end_s) is one period, Unix seconds, as a payee keeps it: whole months in UTC, on the
    day of the anchor or the month's last; what is no whole number of months repeats by its length.

    Of two months in a row at least one has 31 days, so the later day of both ends is the anchor's.
    """
    start, end = datetime.fromtimestamp(start_s, UTC), datetime.fromtimestamp(end_s, UTC)
    first = start.year * 12 + start.month - 1
    step = end.year * 12 + end.month - 1 - first
    if step > 0:
        cycle = Cycle("month", "UTC", max(start.day, end.day), start_s % _DAY_S, step, first % step)
        number = first // step
        if (cycle.start_s(number), cycle.start_s(number + 1)) == (start_s, end_s):
            return cycle
    length = max(60, end_s - start_s)
    return Cycle("span", step=length, phase=start_s % length)


def _whole_minute(second: int) -> int:
    """The first whole minute at or after it."""
    return -(-second // 60) * 60


def _hour(wall_s: int, zone: ZoneInfo) -> tuple[int, int]:
    """From one full hour of the clock there to the next; where the clocks change by half an hour, up to the change."""
    now = wall_s // 60

    def shift(minute: int) -> int:
        """What the clock there is ahead at this Unix minute, in minutes."""
        offset = datetime.fromtimestamp(minute * 60, zone).utcoffset()
        return 0 if offset is None else offset // timedelta(minutes=1)

    start = now - (now + shift(now)) % 60
    end = start + 60
    if not shift(start) == shift(now) == shift(end):
        changes = [at for at in range(start + 1, end) if (shift(at) - shift(at - 1)) % 60]
        start = max([start, *(at for at in changes if at <= now)])
        end = min([end, *(at for at in changes if at > now)])
    return start * 60, end * 60
