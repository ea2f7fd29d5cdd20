"""Event ids: UUIDv7 (RFC 9562, 5.7), made at admission, the only dedupe key from the journal to the bill."""

import os

_COUNTER_BITS = 24
_COUNTER_MASK = (1 << _COUNTER_BITS) - 1


class EventIds:
    """Makes UUIDv7 texts that sort by creation within this process.

    Layout: 48 bits of Unix milliseconds, version, 12 random bits fixed per process, variant, then 62 bits of which the
    low 24 count up and the rest are random per process. Two ids collide only if two processes drew the same 50 random
    bits and meet in the same millisecond at the same count.
    """

    __slots__ = ("_counter", "_low", "_mid")

    def __init__(self) -> None:
        random = int.from_bytes(os.urandom(8), "big")
        self._mid = b"-7%03x-" % (random & 0xFFF)
        self._low = (random >> 12) & ((1 << (62 - _COUNTER_BITS)) - 1)
        self._counter = 0

    def next(self, wall_ns: int) -> bytes:
        """The next id as 36 ASCII bytes. ``wall_ns``: nanoseconds since the Unix epoch."""
        self._counter = counter = (self._counter + 1) & _COUNTER_MASK
        ms = wall_ns // 1_000_000
        tail = 1 << 63 | self._low << _COUNTER_BITS | counter
        return b"%08x-%04x%b%04x-%012x" % (ms >> 16, ms & 0xFFFF, self._mid, tail >> 48, tail & 0xFFFF_FFFF_FFFF)
