"""Periods by name: a tenant's own, and those of the calendar."""

import re
from typing import NamedTuple
from zoneinfo import available_timezones

from sidecar.admin.spans import Span
from sidecar.core.clock import NS_PER_S, NS_PER_US
from sidecar.core.periods import period_bounds

OWN = ("billing", "previous")  # the tenant's billing period that runs, and the one before it
_CALENDAR = re.compile(r"(?:hour|day|week|month)(?::[A-Za-z0-9_+/-]{1,64})?")


def calendar_cycle(text: str) -> str:
    """``day`` or ``month:Europe/Berlin`` as core.periods takes it. ValueError says what to write."""
    if _CALENDAR.fullmatch(text) and (":" not in text or text.partition(":")[2] in available_timezones()):
        return text
    raise ValueError(f"{text!r} is no period; write billing, previous, day, month:Europe/Berlin or the like")


def own_bounds(period: str, cycle: str, wall_ns: int) -> tuple[int, int]:
    """The period of a tenant whose billing periods are ``cycle``, at ``wall_ns``; Unix nanoseconds."""
    start, end = period_bounds(cycle, wall_ns)
    return period_bounds(cycle, start - NS_PER_S) if period == "previous" else (start, end)


class Stretch(NamedTuple):
    """What time a margin is of: ``span``; or, with a ``period`` of OWN, each tenant's own as it was just before
    ``span`` ended, up to there."""

    span: Span
    period: str | None = None

    def of(self, cycle: str) -> Span:
        """For tenants whose billing periods are ``cycle``."""
        if self.period is None:
            return self.span
        start, end = own_bounds(self.period, cycle, (self.span.until_us - 1) * NS_PER_US)
        return Span(start // NS_PER_US, min(end // NS_PER_US, self.span.until_us))
