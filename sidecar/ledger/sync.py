"""Group fsync: one fsync in a thread covers everything written since the last one; nobody waits on the event loop."""

import asyncio
import logging
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

from sidecar.core.clock import NS_PER_S
from sidecar.core.errors import JournalFull
from sidecar.ledger.segment import Segment

_log = logging.getLogger("sidecar.ledger")
_MAX_DELAY_S = 1.0
_GIVE_UP = 12  # failed rounds in a row: some five seconds with rounds every 5 ms


class GroupSync:
    """Runs a round ``group_ns`` after the first write that no round covers yet.

    A failed fsync is never repeated on the same file, because the kernel has dropped the pages' dirty marks and the
    next one would succeed without having written them (Rebello et al., "Can Applications Recover from fsync Failures?",
    USENIX ATC 2020). ``rewrite`` copies what may be lost to a new segment; the next round covers that, after a delay
    that doubles up to one second while the disk keeps failing. After 12 rounds who waits gets JournalFull, and ``hold``
    is told to let nothing begin; it is told again when the disk is back.
    """

    def __init__(
        self,
        group_ns: int,
        thread: ThreadPoolExecutor,
        segments: Collection[Segment],
        rewrite: Callable[[Segment], bool],
        fsync: Callable[[int], None],
        hold: Callable[[bool], None] | None = None,
    ) -> None:
        self._group_s = group_ns / NS_PER_S
        self._thread = thread
        self._segments = segments
        self._rewrite = rewrite
        self._fsync = fsync
        self._hold = hold
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._running = False
        self._failing = 0  # rounds in a row that failed
        self._unsafe: list[Segment] = []  # failed, and there was no room to write them again
        self._closed = False
        self.scheduled = False  # a round will start that covers what is written now
        self.failures = 0

    def schedule(self) -> None:
        """Something was written. Needs a running event loop."""
        self.scheduled = True
        if not self._running:
            self._arm()

    def wait(self) -> asyncio.Future[None]:
        """Done once everything written before this call is on the disk."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self.scheduled and not self._running and not self._dirty():
            future.set_result(None)
            return future
        self._waiting.append(future)
        if not self.scheduled:
            self.schedule()
        return future

    def close(self) -> None:
        """Writes out what is left, on the calling thread, and starts no more rounds."""
        self.scheduled = self._running = self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for future in self._waiting:
            future.cancel()
        for segment, _ in self._dirty():
            try:
                self._fsync(segment.fd)
            except OSError as error:
                self.failures += 1
                _log.error("fsync of %s failed at close: %s", segment.path, error.strerror)

    def _dirty(self) -> list[tuple[Segment, int]]:
        return [(s, s.written) for s in self._segments if s.durable < s.written and s not in self._unsafe]

    def _arm(self) -> None:
        delay = min(self._group_s * 2**self._failing, _MAX_DELAY_S) if self._failing else self._group_s
        self._timer = asyncio.get_running_loop().call_later(delay, self._start)

    def _start(self) -> None:
        self.scheduled, self._running = False, True
        waiting, self._waiting = self._waiting, []
        # A segment that is gone is wholly in the ledger, and its mapping is closed: there is nothing to write again.
        self._unsafe = [s for s in self._unsafe if s in self._segments and not self._rewrite(s)]
        loop = asyncio.get_running_loop()
        dirty = self._dirty()
        work = self._thread.submit(self._round, [segment for segment, _ in dirty])
        work.add_done_callback(
            lambda done: loop.call_soon_threadsafe(self._finish, dirty, done.result(), waiting)  # _round does not raise
        )

    def _round(self, segments: list[Segment]) -> list[OSError | None]:
        results: list[OSError | None] = []
        for segment in segments:
            try:
                self._fsync(segment.fd)
                results.append(None)
            except OSError as error:
                results.append(error)
        return results

    def _finish(
        self, dirty: list[tuple[Segment, int]], results: list[OSError | None], waiting: list[asyncio.Future[None]]
    ) -> None:
        if self._closed:
            return
        self._running = False
        failed = False
        for (segment, written), error in zip(dirty, results, strict=True):
            if error is None:
                segment.durable = max(segment.durable, written)
            else:
                failed = True
                self._on_failure(segment, error)
        before, self._failing = self._failing, min(self._failing + 1, 30) if failed or self._unsafe else 0
        if self._hold is not None and (before >= _GIVE_UP) != (self._failing >= _GIVE_UP):
            self._hold(self._failing >= _GIVE_UP)
        if self._failing >= _GIVE_UP:
            self._give_up(waiting)
        elif self._failing:
            self._waiting = waiting + self._waiting
        else:
            for future in waiting:
                if not future.done():
                    future.set_result(None)
        if self._failing or self._waiting:
            self.scheduled = True
        if self.scheduled:
            self._arm()

    def _give_up(self, waiting: list[asyncio.Future[None]]) -> None:
        for future in waiting:
            if not future.done():
                future.set_exception(JournalFull("the journal's disk does not keep what is written"))

    def _on_failure(self, segment: Segment, error: OSError) -> None:
        self.failures += 1
        if segment not in self._segments:
            outcome = "the ledger has its records"
        elif self._rewrite(segment):
            outcome = "its records were written again to a new segment"
        else:
            self._unsafe.append(segment)
            outcome = "there is no room yet to write its records again"
        _log.error("fsync of %s failed: %s; %s", segment.path, error.strerror, outcome)
