"""Segments that are made ahead of need, in a thread, and the bound that all segments of a journal are held to."""

import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import JournalFull
from sidecar.core.policy import JournalSettings
from sidecar.ledger.ballast import Ballast
from sidecar.ledger.factory import NO_ROOM, SegmentFactory
from sidecar.ledger.segment import Segment

_log = logging.getLogger("sidecar.ledger")
_RETRY_NS = NS_PER_S  # after a full disk, how long until the next attempt to reserve blocks
_KEPT = 2  # segments that are used again are kept, more than are written between two releases


class Spares:
    """The empty segments of ``folder``, each numbered above those before it.

    A ``bound`` is in bytes and counts every segment there is: ``limit`` for what has to be written whatever comes, and
    ``for_calls``, a segment less, for what new calls may take, which leaves one for carrying long calls forward.
    """

    def __init__(
        self,
        folder: Path,
        size: int,
        settings: JournalSettings,
        live: deque[Segment],
        clock: Clock,
        files: ThreadPoolExecutor,
    ) -> None:
        """``size``: bytes of a segment; ``live``: those that are in use; ``files``: the thread that makes them."""
        self._folder = folder
        self._size = size
        self.limit = settings.max_bytes
        self.for_calls = self.limit - size
        self._live = live
        self._clock = clock
        self._files = files
        self._lasting = settings.durability != "process"  # what is written has to outlast a power cut
        self._factory = SegmentFactory(folder, size, named=self._lasting)
        self.ballast = Ballast(folder, min(settings.ballast_bytes, self.limit // 4), files)
        self._ready: deque[Segment] = deque()
        self._preparing: deque[Future[Segment]] = deque()  # by their numbers, all above those that are ready
        self._retry_ns = 0

    def number_from(self, number: int) -> None:
        """The first segment gets this number."""
        self._factory.number = number

    def __len__(self) -> int:
        """How many are ready."""
        return len(self._ready)

    def take(self) -> Segment:
        """The next one; IndexError when none is ready."""
        return self._ready.popleft()

    @property
    def bytes(self) -> int:
        """Of all segments, used, ready and being made."""
        return (len(self._live) + len(self._ready) + len(self._preparing)) * self._size

    def prepare(self) -> bool:
        """One more is made in the thread, for new calls, if they may have one. Whether one is made: then ``make`` does
        not wait."""
        if self._preparing:
            return self._preparing[0].done()
        if self._may_make(self.for_calls):
            self._preparing.append(self._files.submit(self._factory.create, self._factory.take_number()))
        return False

    def _may_make(self, bound: int) -> bool:
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._retry_ns:
            return False
        if bound < self.limit and not self.ballast.there:
            self.ballast.restore()  # what room there is becomes ballast first
            if not self.ballast.there:
                self._retry_ns = now_ns + _RETRY_NS
                return False
        return self.bytes + self._size <= bound

    def retire(self, old: Segment) -> None:
        """Makes ``old``, all of which is in the ledger, a spare where one is wanted and nothing has to outlast a power
        cut; else deletes it."""
        wanted = len(self._ready) + len(self._preparing) < _KEPT and not self._lasting and self.ballast.there
        if wanted and self.bytes + self._size <= self.for_calls:
            self._preparing.append(self._files.submit(self._factory.again, old, self._factory.take_number()))
        else:
            self._files.submit(old.delete)

    def make(self, bound: int) -> None:
        """One more is ready: the one being prepared, else a new one. JournalFull when the disk or ``bound`` says no."""
        try:
            if self._preparing:
                spare = self._preparing.popleft().result()
            elif self.bytes + self._size <= bound:
                spare = self._factory.create_at_once(self.ballast if bound >= self.limit else None)
            else:
                raise JournalFull(f"the journal in {self._folder} has reached its bound of {self.limit} bytes")
        except OSError as error:
            self._retry_ns = self._clock.monotonic_ns() + _RETRY_NS
            reason = "its disk is full" if error.errno in NO_ROOM else error.strerror
            raise JournalFull(f"the journal in {self._folder} cannot grow: {reason}") from error
        self._ready.append(spare)

    def try_make(self, bound: int) -> bool:
        """As ``make``, unless the disk was full a moment ago; whether there is one more."""
        if not self._preparing and not self._may_make(bound):
            return False
        try:
            self.make(bound)
        except JournalFull as error:
            _log.error("%s", error)
            return False
        return True

    def close(self) -> None:
        """Deletes them all. The thread has come to its end."""
        self._ready.extend(future.result() for future in self._preparing if future.exception() is None)
        self._preparing.clear()
        while self._ready:
            self._ready.popleft().delete()
