"""The journal: what was served, on disk before the client has all of it, in about a microsecond per call.

A call is two records: ``begin`` writes its intent before the first byte goes upstream, ``end`` its done record before
the last byte goes to the client. Both are plain calls on the event loop. A record is in a page of a shared mapping when
the call returns, so it survives kill -9; fsync, where it is wanted, runs in a thread (``sync.GroupSync``). A journal
that writes ``by_turns`` gathers them until ``flush``, before which nothing may be sent for them.

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
are copied forward first. A copy has the same event id, so it is the same call. ``progress`` writes how far a call is;
the newest such record stands for the intent from then on, here and in a recovery.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from xxhash import xxh3_64_digest

from sidecar.core.batches import BETWEEN
from sidecar.core.clock import Clock
from sidecar.core.errors import JournalFull
from sidecar.core.policy import JournalSettings
from sidecar.core.ports import Position
from sidecar.ledger.folder import enter
from sidecar.ledger.open_calls import OpenCalls
from sidecar.ledger.readings import JournalReadings, unshipped_bytes
from sidecar.ledger.segment import FRAME_BYTES, HEADER, MAX_PAYLOAD, SUFFIX, Segment, number_of, packer
from sidecar.ledger.spares import Spares
from sidecar.ledger.sync import GroupSync
from sidecar.ledger.tail import Tail

_log = logging.getLogger("sidecar.ledger")
_digest: Final = xxh3_64_digest
_CARRY_SLICE = 500  # intents copied forward per call of release, about 0.4 ms
_NEVER = 1 << 62


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
        by_turns: bool = False,
    ) -> None:
        """Takes the folder's lock. StoreLocked: another process has it. StoreError: the folder cannot be used.

        ``extra``: bytes by which a done record may be longer than its intent; ``fsync`` gets a file descriptor.
        ``by_turns``: what ``begin`` and ``end`` write waits for ``flush``, before which nothing may be sent for it.
        """
        self._folder = folder
        self._clock = clock
        # Four segments at least: the one written, the one prepared, the one being shipped, the one kept for carrying.
        self._size = max(min(settings.segment_bytes, settings.max_bytes // 4), 4096)
        self.max_payload = min(MAX_PAYLOAD, self._size // 8)
        self._usable = self._size - HEADER.size - FRAME_BYTES - self.max_payload
        self._low = self._usable // 2
        self._owed = FRAME_BYTES + extra
        self._lock, self.identity = enter(folder)
        self.leftovers = tuple(sorted(folder.glob("[0-9]" * 16 + SUFFIX)))
        self._files = ThreadPoolExecutor(1, thread_name_prefix="sidecar-journal")
        self._segments: deque[Segment] = deque()  # oldest first, the one that is written is the last
        self._segment: Segment  # that one; set by open
        self._spares = Spares(folder, self._size, settings, self._segments, clock, self._files)
        self._free = -1  # nothing may begin before open
        self._by_turns = by_turns
        self._waiting: list[bytes] = []  # records, at most as many bytes as a frame takes
        self._waiting_bytes = 0
        self._done: list[bytes] = []  # those of them that are done
        self._calls = OpenCalls()
        self._ended = self._released = self._refused = self._carried_count = 0
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

    def begin(self, intent: bytes) -> int:
        """Writes an intent; returns the call, to be given to ``end`` exactly once. Nothing is written on JournalFull
        and on ValueError, the record has no byte or more than ``max_payload``."""
        size = len(intent)
        need = FRAME_BYTES + size + self._owed + size
        if self._free - need < self._low:
            self._make_room(need, size)
        self._write(intent, size)
        self._free -= need
        return self._calls.add(intent)

    def end(self, call: int, done: bytes) -> None:
        """Writes the call's done record. Nothing is written on KeyError, the call is not open (it ended before), and
        ValueError, the record has no byte or more than ``max_payload``."""
        held = len(self._calls.newest(call))
        size = len(done)
        self._write(done, size)
        self._calls.remove(call)
        self._free += self._owed + held - FRAME_BYTES - size
        self._ended += 1
        if self._by_turns:
            self._done.append(done)
        else:
            self.tail.add(done, 1, self._segment)

    def progress(self, call: int, record: bytes) -> bool:
        """Writes how far an open call is: what it counts as, should its end never be written. False when there is no
        room for it now. Nothing is written on KeyError and ValueError, as in ``end``."""
        old = self._calls.newest(call)
        size = len(record)
        self._check_size(size)
        need = FRAME_BYTES + 2 * size - len(old)  # the frame, and by how much more the end may take
        while self._free < need:
            if not self._try_grow(self._spares.for_calls):
                return False
        self.flush()
        self._append(record, size)
        self._free -= need
        self._calls.replace(call, record, self._segment.number)
        return True

    def _write(self, record: bytes, size: int) -> None:
        if not self._by_turns:
            self._append(record, size)
            return
        self._check_size(size)
        if self._waiting_bytes + size > self.max_payload:
            self.flush()
        self._waiting.append(record)
        self._waiting_bytes += size + len(BETWEEN)

    def flush(self) -> None:
        """Writes what waits since the last flush as one frame. Whatever is raised, all of it waits on."""
        waiting, done = self._waiting, self._done
        if not waiting:
            return
        payload = BETWEEN.join(waiting)
        self._append(payload, len(payload))
        self._free += (len(waiting) - 1) * (FRAME_BYTES - len(BETWEEN))  # a frame of its own was taken off for each
        waiting.clear()
        self._waiting_bytes = 0
        if done:
            self.tail.add(BETWEEN.join(done), len(done), self._segment)
            done.clear()

    def _append(self, payload: bytes, size: int) -> None:
        segment = self._segment
        start = segment.written
        stop = start + FRAME_BYTES + size
        if stop > segment.size or not 0 < size <= self.max_payload:
            self._check_size(size)
            segment = self._advance()
            start = segment.written
            stop = start + FRAME_BYTES + size
        packer(size)(segment.map, start, _digest(payload), size, segment.mark, payload)
        segment.written = stop
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
        segment.first_call = self._calls.latest + 1
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
        bound = self._spares.for_calls
        if self._free >= need:
            if self._spares.prepare():
                self._try_grow(bound)
            return
        while self._free < need:
            if not self._try_grow(bound):
                self._refused += 1
                raise JournalFull(f"the journal in {self._folder} has reached its bound or its disk is full")

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
        while self._segments[0].number < position.segment and self._carry(self._segments[0], self._segments[1]):
            self._spares.retire(self._segments.popleft())
            # its usable bytes were all counted as used when the journal turned the page: nothing to give back

    def _carry(self, old: Segment, following: Segment) -> bool:
        """Copies the intents of calls that are open in ``old`` forward; whether none is left there."""
        left = _CARRY_SLICE
        for call, intent in self._calls.standing_in(old.number, following.first_call):
            if left == 0 or (self._free < FRAME_BYTES + len(intent) and not self._try_grow(self._spares.limit)):
                return False
            self._append(intent, len(intent))
            self._free -= FRAME_BYTES + len(intent)
            self._calls.carry(call, intent, self._segment.number)
            self._carried_count += 1
            left -= 1
        return True

    def widen(self, extra: int) -> bool:
        """Owes each call ``extra`` from now on, where that is more than before; False: there is no room for that."""
        more, calls = max(0, FRAME_BYTES + extra - self._owed), self._calls.count
        while self._free < more * calls:
            if not self._try_grow(self._spares.for_calls):
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
        self._segment.take_over(failed)
        self._free -= size
        return True

    def readings(self) -> JournalReadings:
        """How full it is and how far the ledger lags."""
        records = max(self._ended - self._released, 0)  # what a failed fsync made us write twice is released twice
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
        self.flush()
        if self._sync is not None:
            self._sync.close()
        self._files.shutdown()
        clean = bool(self._segments) and self._shipped == self.position and not self._calls.count
        self._spares.close()
        for segment in self._segments:
            segment.delete() if clean else segment.close()
        self._segments.clear()
        self._free = -1
        os.close(self._lock)
        self._lock = -1
