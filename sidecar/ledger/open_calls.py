"""The calls that began and have not ended, so that what stands of them in a segment can outlive it."""

from typing import Final, cast

from mypy_extensions import i64

from sidecar.ledger.entry import Entry

_SLOTS: Final = 256  # a power of two; more calls than that at once are looked up in a dict instead
_MASK: Final = _SLOTS - 1


class OpenCalls:
    """At most one place per open call. ``add`` numbers the calls from 1 on.

    The newest calls stand in a ring. One that is still open when the ring comes round to it moves to a dict, as does
    one whose record was carried forward to a newer segment: the number of that one stands beside it, else 0. Whose
    record stands in a place of the ring is known from the number of the latest call, and so stands nowhere.
    """

    __slots__ = ("_moved", "_ring", "count", "latest")

    def __init__(self) -> None:
        self._ring: list[object] = [None] * _SLOTS  # of Entry; compiled code would look at the type each time
        self._moved: dict[int, tuple[int, Entry]] = {}
        self.count: i64 = 0
        self.latest: i64 = 0

    def add(self, call: Entry) -> i64:
        """A call that begins; its number."""
        self.latest = number = self.latest + 1
        slot = number & _MASK
        held = self._ring[slot]
        if held is not None:
            self._moved[number - _SLOTS] = (0, cast(Entry, held))
        self._ring[slot] = call
        self.count += 1
        return number

    def remove(self, number: i64) -> None:
        """KeyError: the call is not open."""
        if self._in_ring(number) is not None:
            self._ring[number & _MASK] = None
        else:
            del self._moved[number]
        self.count -= 1

    def progressed(self, number: int, segment: int) -> None:
        """Of an open call: its newest record stands in ``segment``, its first one where it was."""
        if self._in_ring(number) is None and self._moved[number][0]:
            self._moved[number] = (segment, self._moved[number][1])

    def carry(self, number: int, call: Entry, segment: int) -> None:
        """Of an open call: its record was copied to ``segment``, and nothing older of it is needed."""
        if self._in_ring(number) is not None:
            self._ring[number & _MASK] = None
        self._moved[number] = (segment, call)

    def standing_in(self, segment: int, boundary: int) -> list[tuple[int, Entry]]:
        """The calls whose record would go with the segments up to ``segment``; ``boundary``: the first call that began
        after those. A look at every open call."""
        found = [(n, call) for n, (at, call) in self._moved.items() if (at <= segment if at else n < boundary)]
        for number in range(max(1, self.latest - _MASK), self.latest + 1):
            held = self._in_ring(number)
            if held is not None and number < boundary:
                found.append((number, cast(Entry, held)))
        return found

    def _in_ring(self, number: i64) -> object:
        """The open call that stands in the ring."""
        return self._ring[number & _MASK] if 0 <= self.latest - number < _SLOTS else None
