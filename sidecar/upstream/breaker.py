"""The breaker of one target: after so many failures in a row it is left alone, then one request probes it.

How long doubles while it fails again soon after, so that a target that flaps costs fewer and fewer calls.
"""

from sidecar.core.clock import Clock
from sidecar.core.upstreams import Breaker


class BreakerState:
    """``closed``: requests pass. ``ready``: requests pass, or it is time for a probe."""

    __slots__ = ("_clock", "_closed_ns", "_failures", "_open_for_ns", "_opened_ns", "_probing", "_settings", "closed")

    def __init__(self, settings: Breaker, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._failures = 0
        self._opened_ns = 0
        self._open_for_ns = 0  # the last time; 0 before the first
        self._closed_ns = 0
        self._probing = False
        self.closed = True

    @property
    def ready(self) -> bool:
        if self.closed:
            return True
        return not self._probing and self._clock.monotonic_ns() - self._opened_ns >= self._open_for_ns

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    @property
    def word(self) -> str:
        """``closed``, ``open`` or ``half_open``."""
        return "closed" if self.closed else "half_open" if self._probing else "open"

    def allows(self) -> bool:
        """Whether this request may go; in half-open, one may."""
        if self.closed:
            return True
        if not self.ready:
            return False
        self._probing = True
        return True

    def failed(self, *, probe: bool = False, may_open: bool = True) -> None:
        """A connection could not be made, or the reply did not come or was not HTTP. ``probe``: for the request that
        was let through; others may still be under way from before. ``may_open``: whether a target that still gets calls
        may be left alone."""
        self._failures += 1
        if (probe and self._probing) or (self.closed and may_open and self._failures >= self._settings.failures):
            self._open()

    def _open(self) -> None:
        settings, now_ns = self._settings, self._clock.monotonic_ns()
        if self._open_for_ns and (self._probing or now_ns - self._closed_ns < self._open_for_ns):
            self._open_for_ns = min(2 * self._open_for_ns, settings.longest_ns)
        else:
            self._open_for_ns = settings.open_for_ns
        self.closed = self._probing = False
        self._opened_ns = now_ns

    def succeeded(self) -> None:
        """A reply's head came. Called on each reply, so it returns at once when nothing was wrong."""
        if self._failures:
            self._failures = 0
            if not self.closed:
                self.closed = True
                self._closed_ns = self._clock.monotonic_ns()
            self._probing = False

    def let_go(self) -> None:
        """The probe ended without an answer either way (its client went away): another may try."""
        self._probing = False
