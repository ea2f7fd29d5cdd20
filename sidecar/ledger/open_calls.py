"""The calls that began and have not ended, each with its newest record: what it counts as if its end never comes."""

from typing import Final

_SLOTS: Final = 256  # a power of two; more calls than that at once are looked up in a dict instead
_MASK: Final = _SLOTS - 1


class OpenCalls:
    """At most one entry per open call. ``add`` numbers the calls from 1 on.

    The newest calls stand in a ring. One that is still open when the ring comes round to it moves to a dict, as does
    one whose record was carried forward to a newer segment: the number of that one stands beside it, else 0. Whose
    record stands in a place of the ring is known from the number of the latest call, and so stands nowhere.
    """

    __slots__ = ("_moved", "_records", "count", "latest")

    def __init__(self) -> None:
        self._records: list[bytes | None] = [None] * _SLOTS
        self._moved: dict[int, tuple[int, bytes]] = {}
        self.count = 0
        self.latest = 0

    def add(self, record: bytes) -> int:
        """A call that begins with ``record``; its number."""
        self.latest = call = self.latest + 1
        slot = call & _MASK
        held = self._records[slot]
        if held is not None:
            self._moved[call - _SLOTS] = (0, held)
        self._records[slot] = record
        self.count += 1
        return call

    def newest(self, call: int) -> bytes:
        """KeyError: the call is not open."""
        held = self._in_ring(call)
        return self._moved[call][1] if held is None else held

    def remove(self, call: int) -> None:
        """KeyError: the call is not open."""
        if self._in_ring(call) is not None:
            self._records[call & _MASK] = None
        else:
            del self._moved[call]
        self.count -= 1

    def replace(self, call: int, record: bytes, number: int) -> None:
        """Of an open call; ``number``: the segment that ``record`` stands in. Its first record stays where it was."""
        if self._in_ring(call) is not None:
            self._records[call & _MASK] = record
        else:
            self._moved[call] = (number if self._moved[call][0] else 0, record)

    def carry(self, call: int, record: bytes, number: int) -> None:
        """Of an open call: its ``record`` was copied to segment ``number``, and nothing older of it is needed."""
        if self._in_ring(call) is not None:
            self._records[call & _MASK] = None
        self._moved[call] = (number, record)

    def standing_in(self, number: int, boundary: int) -> list[tuple[int, bytes]]:
        """The calls whose record would go with the segments up to ``number``; ``boundary``: the first call that began
        after those. A look at every open call."""
        found = [(c, record) for c, (at, record) in self._moved.items() if (at <= number if at else c < boundary)]
        for call in range(max(1, self.latest - _MASK), self.latest + 1):
            held = self._in_ring(call)
            if held is not None and call < boundary:
                found.append((call, held))
        return found

    def _in_ring(self, call: int) -> bytes | None:
        """The record of an open call that stands in the ring."""
        return self._records[call & _MASK] if 0 <= self.latest - call < _SLOTS else None
