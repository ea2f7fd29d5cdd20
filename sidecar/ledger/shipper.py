"""Moves records from the journal to the ledger, in order, in batches, and never loses one.

A batch and the journal position after it go into the ledger in one transaction; a batch that failed is kept and tried
again, for ever, while the journal grows to its bound. The ledger ignores event ids that it knows.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sidecar.core.batches import Batch
from sidecar.core.clock import NS_PER_S, NS_PER_US, Clock
from sidecar.core.errors import JournalFull, StoreError, StoreFull
from sidecar.core.ports import JournalSink, Position
from sidecar.ledger.journal import Journal
from sidecar.ledger.readings import ShipperReadings
from sidecar.ledger.recovery import Recovered, ship_leftovers
from sidecar.ledger.segment import CORRUPT

_log = logging.getLogger("sidecar.ledger")
_EVERY_S = 0.2  # the longest a record waits for its batch
_BATCH = 8192  # a batch takes no more from the journal once it has this many, so it has less than twice as many
_BACKOFF_S = (0.05, 5.0)
_FORGET_EVERY_NS = 60 * NS_PER_S
_FORGET_AT_MOST = 10_000  # single events per transaction, more than a batch, so that deleting keeps up with shipping


@dataclass(frozen=True, slots=True)
class Retention:
    """How long, in nanoseconds, the ledger keeps single events, sums per minute and sums per hour."""

    events_ns: int
    minutes_ns: int
    hours_ns: int


class Shipper:
    """One asyncio task. ``recover`` once, before anything is journalled; then ``start``, and ``stop`` at the end."""

    def __init__(
        self,
        journal: Journal,
        ledger: JournalSink,
        clock: Clock,
        *,
        keep: Retention,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``keep``: for how long the ledger keeps what. ``jitter`` draws from [0, 1)."""
        self._journal = journal
        self._ledger = ledger
        self._clock = clock
        self._keep = keep
        self._jitter = jitter
        self._position = Position()
        self._taken: deque[tuple[Batch, Position, int]] = deque()  # not yet in the ledger; and since when
        self._step = asyncio.Lock()
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._forget_at_ns = 0
        self._recovered = Recovered()
        self._indeterminate = self._shipped = self._new = self._rejected = self._failures = self._forgotten = 0
        self._failed_in_row = 0
        self._failing_since_ns: int | None = None

    async def recover(self) -> None:
        """Ships what an earlier process left, reports its calls without an end as ``indeterminate``, opens the journal.

        StoreError when the ledger fails, JournalFull when there is no room for a first segment: nothing is deleted then
        and it can be called again, in this process or the next.
        """
        found = self._recovered = await ship_leftovers(self._journal.leftovers, self._ledger)
        self._journal.open(after=(await self._ledger.position()).segment)
        unfinished = found.unfinished()
        self._position = self._journal.position
        self._new += await self._ledger.append(unfinished, self._position)
        self._indeterminate = len(unfinished)
        self._journal.release(self._position, 0, self._clock.monotonic_ns())
        for path in found.corrupt:
            path.replace(path.with_suffix(CORRUPT))
        self._journal.forget_leftovers()
        self._rejected = await self._ledger.rejected()
        if found.records or unfinished:
            _log.info("recovered %d records, %d calls without an end", found.records, len(unfinished))

    def start(self) -> None:
        """Ships from now on. Needs a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="shipper")

    async def flush(self) -> None:
        """Returns once everything journalled before this call is in the ledger, however long the ledger fails."""
        self._journal.flush()
        target = self._journal.position
        while self._position < target:
            if await self._ship() is None:
                await asyncio.sleep(self._backoff_s())

    async def stop(self, timeout_s: float = 10.0) -> bool:
        """Ships what is left and ends the task. False after ``timeout_s``, or where the journal has no room for
        the last calls: the rest stays in the journal."""
        self._stopping = True
        self._wake.set()
        try:
            async with asyncio.timeout(timeout_s):
                if self._task is not None:
                    await self._task
                await self.flush()
        except TimeoutError:
            left = self._journal.readings().unshipped_records
            _log.error("the ledger did not take the last %d records; they stay in the journal", left)
            return False
        except JournalFull as error:
            _log.error(
                "what is not in the ledger stays in the journal, which has no room for the last calls: %s", error
            )
            return False
        return True

    def readings(self) -> ShipperReadings:
        """How it is going."""
        return ShipperReadings(
            position=self._position,
            shipped=self._shipped,
            new=self._new,
            rejected=self._rejected,
            failures=self._failures,
            failing_since_ns=self._failing_since_ns,
            recovered=self._recovered.records,
            indeterminate=self._indeterminate,
            torn_bytes=self._recovered.torn_bytes,
            corrupt_segments=len(self._recovered.corrupt),
            forgotten=self._forgotten,
        )

    async def _run(self) -> None:
        while not self._stopping:
            shipped = await self._ship()
            if shipped is None:
                await self._nap(self._backoff_s())
                continue
            await self._forget()
            if shipped < _BATCH:
                await self._nap(_EVERY_S)

    async def _nap(self, seconds: float) -> None:
        self._wake.clear()
        if self._stopping:
            return
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        await self._wake.wait()
        timer.cancel()

    async def _ship(self) -> int | None:
        """One batch: how many records the ledger took, None when it failed. While it takes them, the next batch is read
        where there is one. What was taken from the journal is kept until the ledger has it, whatever becomes of this
        call."""
        async with self._step:
            if not self._taken:
                await self._collect()
            records, position, _ = self._taken[0]
            ahead = None
            if len(self._taken) == 1 and self._journal.tail.more:
                ahead = asyncio.create_task(self._collect())
            try:
                if records:
                    await self._append(records, position)
                self._on_shipped()
                if ahead is not None:
                    await ahead
            except Exception as error:  # a bug in a store must not end shipping: the journal would fill in silence
                self._on_failure(error)
                return None
            finally:
                if ahead is not None:
                    ahead.cancel()  # it takes no more, and the next call finds what it took
            return len(records)

    async def _collect(self) -> None:
        tail = self._journal.tail
        at_ns = self._clock.monotonic_ns()
        records, position = tail.take()
        self._taken.append((records, position, at_ns))
        while tail.more and len(records) < _BATCH:
            await asyncio.sleep(0)  # the lane goes first: what is read at a time is small
            more, position = tail.take()
            records.extend(more.blocks)
            self._taken[-1] = (records, position, at_ns)

    def _on_shipped(self) -> None:
        records, position, at_ns = self._taken.popleft()
        self._failed_in_row, self._failing_since_ns = 0, None
        self._position = position
        self._shipped += len(records)
        self._journal.release(position, len(records), at_ns)

    async def _append(self, records: Batch, position: Position) -> None:
        new = await self._ledger.append(records, position)
        self._new += new
        if new < len(records):
            known = self._rejected
            self._rejected = await self._ledger.rejected()
            if self._rejected > known:
                _log.error("the ledger set %d malformed records aside", self._rejected - known)

    def _on_failure(self, error: Exception) -> None:
        self._failures += 1
        self._failed_in_row += 1
        if self._failing_since_ns is None:
            self._failing_since_ns = self._clock.monotonic_ns()
            unexpected = not isinstance(error, StoreError)
            _log.error("the ledger does not take records, they stay in the journal: %s", error, exc_info=unexpected)
        if isinstance(error, StoreFull):
            self._journal.make_room()

    def _backoff_s(self) -> float:
        """Full jitter, so that replicas do not march in step (Brooker, "Exponential Backoff And Jitter", 2015)."""
        first, cap = _BACKOFF_S
        return self._jitter() * min(cap, first * (1 << min(self._failed_in_row, 16)))

    async def _forget(self) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._forget_at_ns:
            return
        wall_ns, keep = self._clock.wall_ns(), self._keep
        try:
            gone = await self._ledger.forget_events(
                before_us=(wall_ns - keep.events_ns) // NS_PER_US, at_most=_FORGET_AT_MOST
            )
            sums = await self._ledger.forget_sums(
                minutes_before_us=(wall_ns - keep.minutes_ns) // NS_PER_US,
                hours_before_us=(wall_ns - keep.hours_ns) // NS_PER_US,
                at_most=_FORGET_AT_MOST,
            )
        except StoreError as error:
            _log.warning("what is old was not deleted, the next attempt is in a minute: %s", error)
            gone = sums = 0
        self._forgotten += gone
        if max(gone, sums) < _FORGET_AT_MOST:
            self._forget_at_ns = now_ns + _FORGET_EVERY_NS
