"""The journal: what was served, on disk before the client has all of it, in half a microsecond per call.

A call is two records: ``begin`` takes its intent before the first byte goes upstream, ``end`` its done record before
the last byte goes to the client. Both are plain calls on the event loop. A record is in a page of a shared mapping when
``flush`` returns, so it survives kill -9; fsync, where it is wanted, runs in a thread (``sync.GroupSync``). Until then
nothing may be sent for the calls: they are written together, with code and memory that the first has brought near.

**Room.** ``begin`` refuses (JournalFull) unless the done records of all open calls still fit, so that ``end`` never has
to. With S the segment size, F the largest frame and ``extra`` the number of bytes by which a done record may be longer
than its intent (nine numbers of 20 digits, an outcome, the meters)::

    usable(segment) = S - header - F                      at most F bytes are lost where a frame does not fit
    owed(call)      = 16 + len(intent) + extra
    free            = sum of usable over allocated segments - frames written - sum of owed over open calls
    begin needs       free >= 16 + len(intent) + owed(call)

Segments are made ahead of need, in a thread, when ``free`` falls under half a segment. Their files never pass
``max_bytes``; the last segment of that is kept for carrying, see next. The ballast comes on top of it.

**Long calls.** A segment is deleted or used again, the oldest first, once it is wholly in the ledger. Calls that began
in it and are still open (tunnels, streams) would hold it back, and a few dozen could fill the bound; so their intents
are copied forward first, under the same event id. ``progress`` writes how far a call is, which stands for the intent.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from librt.strings import BytesWriter, write_i16_le
from mypy_extensions import i64

from sidecar.core.clock import Clock
from sidecar.core.errors import JournalFull
from sidecar.core.policy import JournalSettings
from sidecar.core.ports import Position
from sidecar.core.records import BETWEEN_WORD
from sidecar.ledger.entry import Entry, newest
from sidecar.ledger.folder import enter
from sidecar.ledger.open_calls import OpenCalls
from sidecar.ledger.readings import JournalReadings, unshipped_bytes
from sidecar.ledger.segment import FRAME_BYTES, HEADER, MAX_PAYLOAD, SUFFIX, Segment, frame_head, number_of
from sidecar.ledger.spares import Spares
from sidecar.ledger.sync import GroupSync
from sidecar.ledger.tail import Tail

_log = logging.getLogger("sidecar.ledger")
_CARRY_SLICE = 500  # intents copied forward per call of release, about 0.4 ms
_NEVER = 1 << 62
_BEGUN: Final = 1 << 60  # the segment of a call whose intent is not written; a larger literal would be an object


class Journal:
    """The one writer of ``folder``. ``recover()`` of the Shipper comes first, it calls ``open``."""

    def __init__(
        self,
        folder: Path,
        settings: JournalSettings,
        clock: Clock,
        *,
        extra: int = 1024,
        fsync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        """Takes the folder's lock. StoreLocked: another process has it. StoreError: the folder cannot be used.

        ``extra``: bytes by which a done record may be longer than its intent; ``fsync`` gets a file descriptor.
        """
        self._folder = folder
        self._clock = clock
        # Four segments at least: the one written, the one prepared, the one being shipped, the one kept for carrying.
        self._size = max(min(settings.segment_bytes, settings.max_bytes // 4), 4096)
        self.max_payload: i64 = min(MAX_PAYLOAD, self._size // 8)
        self._usable = self._size - HEADER.size - FRAME_BYTES - self.max_payload
        self._low: i64 = self._usable // 2
        self._owed: i64 = FRAME_BYTES + extra
        self._lock, self.identity = enter(folder)
        self.leftovers = tuple(sorted(folder.glob("[0-9]" * 16 + SUFFIX)))
        self._files = ThreadPoolExecutor(1, thread_name_prefix="sidecar-journal")
        self._segments: deque[Segment] = deque()  # oldest first, the one that is written is the last
        self._segment: Segment  # that one; set by open
        self._spares = Spares(folder, self._size, settings, self._segments, clock, self._files)
        self._free: i64 = -1  # nothing may begin before open
        self._calls = OpenCalls()
        self._text = BytesWriter()  # the next frame's: intents, then done records; memory that is used again
        self._done: i64 = 0  # how many of these
        self._spared: i64 = 0  # what was kept free for that text, each record as a frame of its own
        self._recorded = self._released = self._refused = self._carried_count = 0
        self._shipped = Position()
        self._shipped_at_ns = clock.monotonic_ns()
        self.tail = Tail(self._segments)
        self._sync: GroupSync | None = None
        if settings.durability != "process":
            hold = self._hold if settings.durability == "sync" else None
            self._sync = GroupSync(settings.group_ns, self._files, self._segments, self._rewrite, fsync, hold)

    def open(self, after: int = 0) -> None:
        """Starts writing in a new segment numbered above ``after`` and above every leftover, once. JournalFull."""
        if self._segments:
            return
        self._spares.number_from(max(after, number_of(self.leftovers[-1]) if self.leftovers else 0) + 1)
        self._free = 0
        self._grow(self._spares.limit)
        self._advance()
        self._spares.ballast.make()

    def begin(self, call: Entry, size: i64) -> None:
        """Takes a call whose intent has up to ``size`` bytes, to be given to ``end`` exactly once. JournalFull, and
        ValueError where that is no byte or more than ``max_payload``: the call is not taken."""
        need: i64 = FRAME_BYTES + size + self._owed + size
        if self._free - need < self._low or not 0 < size <= self.max_payload:
            self._make_room(need, size)
        self._free -= need
        call.reserved = size
        call.segment = _BEGUN
        self._calls.add(call)

    def end(self, call: Entry) -> None:
        """The call is done. KeyError: it is not open, it ended before."""
        if call.segment <= 0:
            raise KeyError(call.segment)
        self._calls.end(call)

    def progress(self, call: Entry, record: bytes) -> bool:
        """Writes how far an open call is: what it counts as, should its end never be written. False when there is no
        room for it now. Nothing is written on KeyError, as in ``end``, and ValueError, as in ``begin``."""
        if call.segment <= 0:
            raise KeyError(call.segment)
        size = len(record)
        self._check_size(size)
        need = FRAME_BYTES + 2 * size - call.reserved  # the frame, and by how much more the end may take
        if not self._has_room(need):
            return False
        self.flush()
        if call.segment <= 0:  # it ended in there
            raise KeyError(call.segment)
        self._frame(record)
        self._free -= size - call.reserved
        call.newest, call.reserved = record, size
        self._calls.move(call, self._segment.number)
        return True

    def flush(self) -> None:
        """Writes what began and ended since the last one, in one frame where it fits. Raised what may: it waits on."""
        self._write()
        if self._calls.waiting is not None:
            self._put_intents()
        if self._calls.ended is not None:
            self._put_done()
        self._write()

    def _put_intents(self) -> None:
        text, calls, said = self._text, self._calls, b""
        start: i64 = 0
        segment: i64 = self._segment.number  # where they will stand, or behind it
        call = calls.waiting
        try:
            while call is not None:
                start = len(text)
                if start:
                    write_i16_le(text, BETWEEN_WORD)
                said = call.put_intent(text, said)
                if len(text) > self.max_payload:
                    text.truncate(start)  # what stands before it is a frame
                    self._write()
                    start = 0
                    said = call.put_intent(text, b"")
                    self._check_size(len(text))
                self._spared += FRAME_BYTES + call.reserved
                calls.written(call, segment)
                call = calls.waiting
        except BaseException:
            text.truncate(start)
            raise

    def _put_done(self) -> None:
        text, calls = self._text, self._calls
        call = calls.ended
        while call is not None:
            start: i64 = len(text)
            try:
                if start:
                    write_i16_le(text, BETWEEN_WORD)
                call.put_done(text)
                if len(text) > self.max_payload:
                    text.truncate(start)
                    self._write()
                    start = 0
                    call.put_done(text)
                    self._check_size(len(text))
            except JournalFull:
                raise
            except Exception:  # a fault of ours in one record: the others are written
                _log.exception("a record cannot be written")
                text.truncate(start)
                calls.reopen(call)
                call.unwritten()
            else:
                calls.remove(call)
                self._done += 1
                self._spared += self._owed + call.reserved
            call = calls.ended

    def _write(self) -> None:
        text = self._text
        if len(text):
            self._frame(text.getvalue(), self._done)
            text.truncate(0)
            self._recorded += self._done
        self._free += self._spared
        self._spared = self._done = 0

    def _frame(self, payload: bytes, done: int = 0) -> None:
        size = len(payload)
        segment = self._segment
        if segment.written + FRAME_BYTES + size > segment.size or not 0 < size <= self.max_payload:
            self._check_size(size)
            segment = self._advance()
        start = segment.written
        stop = start + FRAME_BYTES + size
        segment.map[start : start + FRAME_BYTES] = frame_head(payload, done, segment.mark)
        segment.map[start + FRAME_BYTES : stop] = payload
        segment.written = stop
        self._free -= FRAME_BYTES + size
        if self._sync is not None and not self._sync.scheduled:
            self._sync.schedule()

    def _check_size(self, size: int) -> None:
        if not 0 < size <= self.max_payload:
            raise ValueError(f"a record of {size} bytes is not between 1 and {self.max_payload}")

    def _advance(self) -> Segment:
        """Goes on in the next segment, which is there but for records longer than was owed to them."""
        if not len(self._spares):
            self._grow(1 << 63)
        if self._segments:
            old = self._segment
            old.seal()
            self._free += old.written - HEADER.size - self._usable  # what of the slack was used, or left unused
        self._segment = segment = self._spares.take()
        self._segments.append(segment)
        return segment

    def _make_room(self, need: int, size: int) -> None:
        """The slow part of begin: under half a segment is free."""
        self._check_size(size)
        if not self._segments:
            raise JournalFull("the journal is not open")
        if self._low == _NEVER:
            self._refused += 1
            raise JournalFull(f"the disk of {self._folder} does not keep what is written; see the log")
        if self._free >= need:
            if self._spares.prepare():
                self._try_grow(self._spares.for_calls)
        elif not self._has_room(need):
            self._refused += 1
            raise JournalFull(f"the journal in {self._folder} has reached its bound or its disk is full")

    def _has_room(self, need: int) -> bool:
        while self._free < need:
            if not self._try_grow(self._spares.for_calls):
                return False
        return True

    def _try_grow(self, bound: int) -> bool:
        made = self._spares.try_make(bound)
        if made:
            self._free += self._usable
        return made

    def _grow(self, bound: int) -> None:
        self._spares.make(bound)
        self._free += self._usable

    @property
    def position(self) -> Position:
        """The end of what is written."""
        return Position(self._segment.number, self._segment.written)

    def release(self, position: Position, records: int, at_ns: int) -> None:
        """Everything before ``position`` is in the ledger: ``records`` done records more than at the last release.

        ``at_ns`` is the monotonic time at which they were taken. Deletes the oldest segments where it can; calls that
        began there are carried forward, at most 500 per release, the rest at the next one.
        """
        self._released += records
        self._shipped = position
        self._shipped_at_ns = at_ns
        self._spares.ballast.restore(shipped=True)
        self._write_rest()
        while self._segments[0].number < position.segment and self._carry(self._segments[0]):
            self._spares.retire(self._segments.popleft())  # all of it counted as used since it was left
            self._write_rest()

    def _write_rest(self) -> None:
        """What a full disk did not take, if it does now: no other record of its calls outlives their segment."""
        try:
            self._write()
        except JournalFull as error:
            _log.error("the last calls' ends are not written yet: %s", error)

    def _carry(self, old: Segment) -> bool:
        """Copies the records of calls that are open in ``old`` forward; whether none is left there."""
        left = _CARRY_SLICE
        while (call := self._calls.standing_in(old.number)) is not None:
            record = newest(call)
            if left == 0 or (self._free < FRAME_BYTES + len(record) and not self._try_grow(self._spares.limit)):
                return False
            self._frame(record)
            self._calls.move(call, self._segment.number)
            self._carried_count += 1
            left -= 1
        return True

    def widen(self, extra: int) -> bool:
        """Owes each call ``extra`` from now on, where that is more than before; False: there is no room for that."""
        more, calls = max(0, FRAME_BYTES + extra - self._owed), self._calls.count
        if not self._has_room(more * calls):
            return False
        self._free -= more * calls
        self._owed += more
        return True

    def make_room(self) -> bool:
        """The ledger's disk is full: lets the ballast go; False when it is gone already."""
        return self._spares.ballast.lend()

    def synced(self) -> asyncio.Future[None]:
        """Done once everything written before this call is on the disk; with durability ``process``, at once. Ends in
        JournalFull when the disk has refused for seconds."""
        self.flush()
        if self._sync is None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_result(None)
            return future
        return self._sync.wait()

    def _hold(self, failing: bool) -> None:
        """With durability ``sync``: nothing begins while the disk keeps nothing. ``begin`` looks at one number only."""
        self._low = _NEVER if failing else self._usable // 2

    def _rewrite(self, failed: Segment) -> bool:
        """After a failed fsync of ``failed``: its frames that are not known to be durable, once more in a new segment.

        They are read from the mapping at once, while its pages still hold them. Whether there was room to do it.
        """
        size = failed.written - failed.durable
        if not len(self._spares) and not self._try_grow(self._spares.limit):
            return False
        if failed is self._segment or self._segment.written + size > self._size:
            self._advance()
        self._recorded += self._segment.take_over(failed)  # they are shipped twice
        self._free -= size
        return True

    def readings(self) -> JournalReadings:
        """How full it is and how far the ledger lags."""
        records = self._recorded - self._released
        return JournalReadings(
            bytes_used=self._spares.bytes,
            max_bytes=self._spares.limit,
            segments=len(self._segments),
            open_calls=self._calls.count,
            unshipped_bytes=unshipped_bytes(self._segments, self._shipped),
            unshipped_records=records,
            oldest_unshipped_ns=self._clock.monotonic_ns() - self._shipped_at_ns if records else 0,
            fsync_failures=self._sync.failures if self._sync is not None else 0,
            refused=self._refused,
            carried=self._carried_count,
        )

    def forget_leftovers(self) -> None:
        """Deletes the segments of earlier processes; the ledger has all of them."""
        for path in self.leftovers:
            path.unlink(missing_ok=True)
        self.leftovers = ()

    def close(self) -> None:
        """Lets go of files and lock. Nothing is deleted but when all is shipped and no call is open. May block."""
        if self._lock < 0:
            return
        try:
            self.flush()
        except JournalFull as error:
            _log.error("what the last calls left cannot be written, and none of them was answered: %s", error)
        if self._sync is not None:
            self._sync.close()
        self._files.shutdown()
        clean = bool(self._segments) and self._shipped == self.position and not (self._calls.count or len(self._text))
        self._spares.close()
        for segment in self._segments:
            segment.delete() if clean else segment.close()
        self._segments.clear()
        self._free = -1
        os.close(self._lock)
        self._lock = -1
