"""Time as an argument: rooms receive a clock, tests advance one by hand and never sleep."""

import time
from typing import Final, Protocol

NS_PER_US: Final = 1_000
NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000


class Clock(Protocol):
    """Two clocks not to be mixed: durations and windows use ``monotonic_ns``, records and periods ``wall_ns``."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary start; never goes back."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC; may jump."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()
    monotonic_ns = staticmethod(time.monotonic_ns)
    wall_ns = staticmethod(time.time_ns)


class ManualClock:
    """A clock that stands still until it is advanced."""

    __slots__ = ("_monotonic_ns", "_wall_ns")

    def __init__(self, *, wall_ns: int = 1_760_000_000 * NS_PER_S, monotonic_ns: int = 0) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def wall_ns(self) -> int:
        return self._wall_ns

    def advance(self, seconds: float) -> None:
        """Moves both clocks forward by ``seconds``."""
        step = round(seconds * NS_PER_S)
        if step < 0:
            raise ValueError("a monotonic clock cannot go back; use jump_wall")
        self._monotonic_ns += step
        self._wall_ns += step

    def jump_wall(self, seconds: float) -> None:
        """Moves the wall clock alone, either way, as NTP or an operator does."""
        self._wall_ns += round(seconds * NS_PER_S)
