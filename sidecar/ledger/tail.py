"""The journal's tail: done records kept in memory until they are shipped, so that shipping reads no frame twice.

At most 160 blocks of 128 KiB are kept, some 20 MB; a ledger that lags more is fed from the mapped segments instead,
20 frames at a time, until it has caught up.
"""

import logging
from collections import deque

from librt.strings import BytesWriter
from mypy_extensions import i64

from sidecar.core.batches import BETWEEN, BLOCK_BYTES, Batch
from sidecar.core.ports import Position
from sidecar.core.records import is_done
from sidecar.ledger.segment import HEADER, Segment, read_frames, records_in

_log = logging.getLogger("sidecar.ledger")
FULL = BLOCK_BYTES
MAX_BLOCKS = 160
_AT_ONCE = 10  # blocks in one take: some 4,500 records
_SLICE = 20  # frames read in one go: where many calls share each, some 600 records and 0.3 ms on the event loop


class Tail:
    """Hands out done records in order, each with the position after it; see the module's docstring."""

    __slots__ = ("_behind", "_blocks", "_count", "_full", "_live", "_taken", "_text")

    def __init__(self, live: deque[Segment]) -> None:
        self._live = live
        self._full: i64 = FULL
        self._text = BytesWriter()  # the block that grows: one piece of memory, used again and again
        self._count: i64 = 0
        self._blocks: deque[tuple[bytes, int, Position]] = deque()
        self._behind = False
        self._taken = Position()  # where to read on, once it is behind

    def add(self, records: bytes, count: int, segment: Segment) -> None:
        """Done records were written, one or a block of some; ``segment`` ends with them."""
        if self._behind:
            return
        text = self._text
        if self._count:
            text.write(BETWEEN)
        text.write(records)
        self._count += count
        if len(text) >= self._full:
            self._turn(Position(segment.number, segment.written))

    def _turn(self, position: Position) -> None:
        if len(self._blocks) < MAX_BLOCKS:
            self._blocks.append((self._text.getvalue(), int(self._count), position))
        else:
            self._taken = self._blocks[-1][2]
            self._behind = True
        self._clear()

    def _clear(self) -> None:
        self._text.truncate(0)
        self._count = 0

    @property
    def more(self) -> bool:
        """Whether a take would bring records from before the last few milliseconds."""
        return bool(self._blocks) or self._behind

    def take(self) -> tuple[Batch, Position]:
        """The next done records and the position after them; there may be none although there are ``more``."""
        if self._blocks:
            taken = [self._blocks.popleft() for _ in range(min(_AT_ONCE, len(self._blocks)))]
            return Batch((text, count) for text, count, _ in taken), taken[-1][2]
        if self._behind:
            return self._read()
        batch = Batch()
        if self._count:
            batch.add(self._text.getvalue(), int(self._count))
            self._clear()
        last = self._live[-1]
        return batch, Position(last.number, last.written)

    def _read(self) -> tuple[Batch, Position]:
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
        return Batch.of([r for payload in frames.payloads for r in records_in(payload) if is_done(r)]), self._taken
