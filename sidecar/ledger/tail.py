"""The journal's tail: done records kept in memory until they are shipped, so that shipping reads no frame twice.

At most 16 chunks of 4,096 records are kept (at 300 bytes each, 20 MB); a ledger that lags more is fed from the mapped
segments instead, 200 frames at a time, until it has caught up.
"""

import logging
from collections import deque

from sidecar.core.ports import Position
from sidecar.core.records import is_done
from sidecar.ledger.segment import HEADER, Segment, read_frames

_log = logging.getLogger("sidecar.ledger")
CHUNK = 4096
MAX_CHUNKS = 16
_SLICE = 200  # frames read in one go: about 0.2 ms on the event loop


class Tail:
    """Hands out done records in order, each with the position after it; see the module's docstring."""

    __slots__ = ("_behind", "_chunk", "_chunks", "_live", "_records", "_taken")

    def __init__(self, live: deque[Segment]) -> None:
        self._live = live
        self._chunk = CHUNK
        self._records: list[bytes] = []
        self._chunks: deque[tuple[list[bytes], Position]] = deque()
        self._behind = False
        self._taken = Position()  # where to read on, once it is behind

    def add(self, record: bytes, segment: Segment) -> None:
        """A done record was written; ``segment`` ends with it."""
        if self._behind:
            return
        self._records.append(record)
        if len(self._records) >= self._chunk:
            self._turn(Position(segment.number, segment.written))

    def _turn(self, position: Position) -> None:
        if len(self._chunks) < MAX_CHUNKS:
            self._chunks.append((self._records, position))
        else:
            self._taken = self._chunks[-1][1]
            self._behind = True
        self._records = []

    @property
    def more(self) -> bool:
        """Whether a take would bring records from before the last few milliseconds."""
        return bool(self._chunks) or self._behind

    def take(self) -> tuple[list[bytes], Position]:
        """The next done records and the position after them; the list may be empty although there are ``more``."""
        if self._chunks:
            return self._chunks.popleft()
        if self._behind:
            return self._read()
        records, self._records = self._records, []
        last = self._live[-1]
        return records, Position(last.number, last.written)

    def _read(self) -> tuple[list[bytes], Position]:
        segment = next(s for s in self._live if s.number >= self._taken.segment)
        start = self._taken.offset if segment.number == self._taken.segment else HEADER.size
        frames = read_frames(segment.map, segment.number, start, segment.written, _SLICE)
        offset = frames.offset
        if frames.bad:  # somebody else wrote into the file: nothing here can be told apart any more
            segment.keep_aside()
            _log.error("%s is damaged at byte %d; it is kept aside, its rest cannot be shipped", segment.path, offset)
            offset = segment.written
        self._taken = Position(segment.number, offset)
        if offset >= segment.written:
            if segment is self._live[-1]:
                self._behind = False
            else:
                self._taken = Position(segment.number + 1, HEADER.size)
        return [p for p in frames.payloads if is_done(p)], self._taken
