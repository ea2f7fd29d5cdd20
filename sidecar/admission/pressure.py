"""Says in the log what memory for counters had to give up: at most one line a minute, whatever happens."""

import logging
from typing import Final

from sidecar.admission.buckets import Buckets
from sidecar.core.clock import NS_PER_S

PAUSE_NS: Final = 60 * NS_PER_S
_NAMED: Final = 3
_log = logging.getLogger("sidecar")


class Pressure:
    """Looks at ``buckets`` now and then. Idle counters that make room are no news; callers that share one are."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._overflows = 0
        self._evictions = 0
        self._by_policy: dict[tuple[str, str], int] = {}
        self._quiet_until: int | None = None

    def look(self, now: int) -> None:
        """Logs what came since the last line."""
        buckets = self._buckets
        shared = buckets.overflows - self._overflows
        if not shared or (self._quiet_until is not None and now < self._quiet_until):
            return
        evicted = buckets.evictions - self._evictions
        more = {policy: count - self._by_policy.get(policy, 0) for policy, count in buckets.overflowed.items()}
        most = sorted((policy for policy in more if more[policy]), key=lambda policy: -more[policy])[:_NAMED]
        _log.warning(
            "memory for limits is full: %d of %d counters; %d look-ups shared a counter and %d idle ones made room; "
            "most of it: %s",
            len(buckets),
            buckets.max_buckets,
            shared,
            evicted,
            ", ".join(f"{name} of plan {plan} ({more[plan, name]})" for plan, name in most),
        )
        self._overflows, self._evictions = buckets.overflows, buckets.evictions
        self._by_policy = dict(buckets.overflowed)
        self._quiet_until = now + PAUSE_NS
