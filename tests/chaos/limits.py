"""Whether a limit held, from what the ledger says was admitted and when.

The store admits at most L units in any W. A call is sent right after it was admitted, but for what stops the process in
between; so in any interval that is shorter than W by what that can take, at most L units are sent.
"""

from collections.abc import Iterable

from sidecar.core.records import UsageRecord

TENANT = "thrifty"
UNITS = 100
WINDOW_S = 5
_LATE_S = 1  # the longest SIGSTOP is 0.4 s


def limit_broken(events: Iterable[UsageRecord]) -> str:
    """A sentence, or nothing when the limit held. Calls whose end is not known count what they are billed, at least."""
    within_s = WINDOW_S - _LATE_S
    most = most_within([(_sent_us(e), e.units) for e in events if e.tenant == TENANT], within_s * 10**6)
    return f"{most} units of {TENANT} within {within_s} s, of {UNITS} in {WINDOW_S} s" if most > UNITS else ""


def most_within(sent: list[tuple[int, int]], span_us: int) -> int:
    """The most units in any interval of that length; ``sent`` holds times in microseconds and units."""
    sent = sorted(sent)
    most = within = first = 0
    for at, units in sent:
        within += units
        while sent[first][0] <= at - span_us:
            within -= sent[first][1]
            first += 1
        most = max(most, within)
    return most


def _sent_us(event: UsageRecord) -> int:
    return event.started_us + event.total_us - event.upstream_us
