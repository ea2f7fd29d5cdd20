"""What may be tried again: a share of the requests, so that a failing upstream does not get a multiple of its load."""

from typing import Final

from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.upstreams import Retries

CELL_NS: Final = 5 * NS_PER_S


class RetryBudget:
    """``percent`` of the requests of this cell of five seconds and the one before may be tried again, and
    ``reserve`` a second besides, so that a quiet upstream may too.

    The requests are counted by their owner, who tells how many there were since the start: a request that succeeds
    pays nothing. ``roll`` is to be called at least once per cell. ``taken`` and ``refused`` count since the start.
    """

    __slots__ = ("_before", "_clock", "_mark", "_mark_before", "_now", "_settings", "_since_ns", "refused", "taken")

    def __init__(self, settings: Retries, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._since_ns = clock.monotonic_ns()
        self._mark = self._mark_before = 0  # requests at the start of this cell and of the one before
        self._now = self._before = 0  # retries in them
        self.taken = 0
        self.refused = 0

    def roll(self, requests: int) -> None:
        """Begins a new cell when it is time."""
        elapsed_ns = self._clock.monotonic_ns() - self._since_ns
        if elapsed_ns < CELL_NS:
            return
        whole = elapsed_ns // CELL_NS
        self._since_ns += whole * CELL_NS
        # After more than one cell unseen nobody knows when the requests came: they earn nothing.
        self._mark_before, self._before = (self._mark, self._now) if whole == 1 else (requests, 0)
        self._mark, self._now = requests, 0

    def take(self, requests: int) -> bool:
        """Whether one more attempt may be made. ``requests``: how many there were since the start."""
        self.roll(requests)
        settings = self._settings
        share = (requests - self._mark_before) * settings.percent // 100
        if self._now + self._before >= share + settings.reserve * CELL_NS // NS_PER_S:
            self.refused += 1
            return False
        self._now += 1
        self.taken += 1
        return True
