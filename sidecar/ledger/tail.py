"""The journal's tail: what stands in its segments and was not taken yet, read where it stands.

The segments are mapped, and what was written a moment ago is still in a cache: a copy kept beside them would cost the
hot path more than reading costs here, and a ledger that lags by hours is fed no other way than one that does not.
"""

import logging
from collections import deque
from typing import Final

from librt.strings import BytesWriter, write_i16_le
from mypy_extensions import i64

from sidecar.core.batches import BLOCK_BYTES, Batch
from sidecar.core.ports import Position
from sidecar.core.records import BETWEEN_WORD, done_in
from sidecar.ledger.segment import FRAME_BYTES, HEADER, Segment, frame_at

_log = logging.getLogger("sidecar.ledger")
ENOUGH: Final = BLOCK_BYTES  # bytes of frames in one take: some 400 records and 50 us, where many calls share a frame


class Tail:
    """Hands out done records in order, each with the position after it."""

    __slots__ = ("_live", "_taken", "_text")

    def __init__(self, live: deque[Segment]) -> None:
        self._live = live
        self._taken = Position()
        # One text for all frames of a take: texts of a frame each, kept until the ledger has them, would make every
        # allocation of the lane slower.
        self._text = BytesWriter()

    @property
    def more(self) -> bool:
        """Whether a take would bring records from before the last few milliseconds."""
        last = self._live[-1]
        return self._taken.segment < last.number or last.written - self._taken.offset >= ENOUGH

    def take(self) -> tuple[Batch, Position]:
        """The next done records and the position after them; there may be none although there are ``more``."""
        self._text.truncate(0)
        taken = self._taken
        left: i64 = ENOUGH
        count: i64 = 0
        while left > 0:
            segment, start = self._behind(taken)
            offset, found = self._gather(segment, start, left)
            left -= offset - start
            count += found
            taken = Position(segment.number, offset)
            if offset >= segment.written and segment is self._live[-1]:
                break
        batch = Batch([(self._text.getvalue(), count)] if count else ())
        self._taken = taken
        return batch, taken

    def _gather(self, segment: Segment, start: i64, enough: i64) -> tuple[i64, i64]:
        """Adds to the text what stands in a segment from ``start`` on, until that is ``enough`` bytes of frames: where
        it ended, and the number of records."""
        text, offset, written = self._text, start, segment.written
        count: i64 = 0
        while offset < written and offset - start < enough:
            payload, done = frame_at(segment.map, segment.number, offset, written)
            if not payload:  # somebody else wrote there: nothing behind it can be told apart any more
                _log.error("%s is damaged at byte %d; its rest is not shipped", segment.path, offset)
                segment.keep_aside()
                return written, count
            if done:
                if len(text):
                    write_i16_le(text, BETWEEN_WORD)
                text.write(done_in(payload))
                count += done
            offset += FRAME_BYTES + len(payload)
        return offset, count

    def _behind(self, taken: Position) -> tuple[Segment, int]:
        """The segment to read on in, and where."""
        number, offset = taken.segment, taken.offset
        for segment in self._live:
            if segment.number > number:
                return segment, HEADER.size
            if segment.number == number and (offset < segment.written or segment is self._live[-1]):
                return segment, offset
        raise AssertionError("nothing is taken twice or before it is written")
