"""Event ids: UUIDv7 (RFC 9562, 5.7), made at admission, the only dedupe key from the journal to the bill."""

import os
from typing import Final

from sidecar.core.clock import NS_PER_MS

_COUNTER_BITS: Final = 24
_COUNTER_MASK: Final = (1 << _COUNTER_BITS) - 1
# The last two hex digits of an id: formatting a whole one takes 2 us, and mostly only these change in a millisecond.
_LAST_BITS: Final = 8
_LAST_MASK: Final = 0xFF
_LAST: Final = [b"%02x" % number for number in range(_LAST_MASK + 1)]


class EventIds:
    """Makes UUIDv7 texts that sort by creation within this process.

    Layout: 48 bits of Unix milliseconds, version, 12 random bits fixed per process, variant, then 62 bits of which the
    low 24 count up and the rest are random per process. Two ids collide only if two processes drew the same 50 random
    bits and meet in the same millisecond at the same count.
    """

    __slots__ = ("_counter", "_front", "_mid", "_since_ns", "_until_ns")

    def __init__(self) -> None:
        random = int.from_bytes(os.urandom(8), "big")
        low = 1 << 39 | (random >> 12) & ((1 << 38) - 1)  # the variant and the random bits before the counter
        self._mid = b"-7%03x-%04x-%06x" % (random & 0xFFF, low >> 24, low & 0xFF_FFFF)
        self._counter = 0
        self._front = b""  # all but the last two digits, for wall times in [_since_ns, _until_ns)
        self._since_ns = self._until_ns = 0

    def next(self, wall_ns: int) -> bytes:
        """The next id as 36 ASCII bytes. ``wall_ns``: nanoseconds since the Unix epoch."""
        self._counter = counter = (self._counter + 1) & _COUNTER_MASK
        last = counter & _LAST_MASK
        if last == 0 or not self._since_ns <= wall_ns < self._until_ns:
            self._turn(wall_ns, counter)
        return self._front + _LAST[last]

    def _turn(self, wall_ns: int, counter: int) -> None:
        ms = wall_ns // NS_PER_MS
        self._since_ns = ms * NS_PER_MS
        self._until_ns = self._since_ns + NS_PER_MS
        time = b"%012x" % ms
        self._front = b"%b-%b%b%04x" % (time[:8], time[8:], self._mid, counter >> _LAST_BITS)
