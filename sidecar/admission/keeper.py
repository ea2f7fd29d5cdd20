"""Who asks the store of shared limits: one call at a time for the same limits, and no storm when it is gone.

Bounds: the requests that wait are those in flight; a call carries at most ``_BATCH`` of them; after ``_FAILURES`` calls
in a row without an answer nobody calls any more, and one task looks for the store, at intervals that double up to
``_LONGEST_S``, each made shorter by chance so that nodes do not come back all at once.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeAlias

from sidecar.admission.leases import Lease, Page, answered, ask_for, unanswered
from sidecar.core.clock import Clock
from sidecar.core.errors import StoreError
from sidecar.core.leases import Ask
from sidecar.core.ports import LimitStore

_BATCH: Final = 256
_FAILURES: Final = 3
_SHORTEST_S: Final = 0.1
_LONGEST_S: Final = 5.0
_SWEEP_S: Final = 0.1
_RETURNS: Final = 64  # calls per sweep that only give back
_CLOSE_S: Final = 1.0
_DeskKey: TypeAlias = tuple[int, tuple[int, ...]]
_log = logging.getLogger(__name__)


class _Desk:
    """Those who wait for the same leases with requests of the same weight."""

    def __init__(self, page: Page, leases: tuple[Lease, ...], units: int) -> None:
        self.page = page
        self.leases = leases
        self.units = units
        self.waiting: list[asyncio.Future[bool]] = []


class Keeper:
    """``down``: the store is not asked now. ``calls`` and ``failures`` count since the start."""

    def __init__(self, store: LimitStore, clock: Clock) -> None:
        self.down = False
        self.calls = 0
        self.failures = 0
        self._store = store
        self._clock = clock
        self._row = 0  # failures in a row
        self._desks: dict[_DeskKey, _Desk] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._looker: asyncio.Task[object] | None = None
        self._out: dict[Lease, None] = {}

    async def fetch(self, leases: Sequence[Lease], units: int) -> bool:
        """Brings units for one request into all of these leases, or their refusal. False: the store did not answer."""
        pages: dict[Page, list[Lease]] = {}
        for lease in leases:
            pages.setdefault(lease.page, []).append(lease)
        came = [self._wait(page, tuple(group), units) for page, group in pages.items()]
        return all(await asyncio.gather(*came))

    async def look(self, leases: Sequence[Lease], units: int) -> bool:
        """Brings what is known of these leases up to date for one request of ``units``, and takes nothing. False: the
        store did not answer."""
        pages: dict[Page, list[Lease]] = {}
        for lease in dict.fromkeys(leases):
            pages.setdefault(lease.page, []).append(lease)
        there = not self.down
        for page, group in pages.items():
            if there:
                sent = self._clock.monotonic_ns()
                ask = ask_for(page, group, 0, 0, sent)._replace(units=units)
                there = await self._send(page, tuple(group), ask, sent)
        return there

    def prefetch(self, leases: Sequence[Lease], units: int) -> None:
        """Fetches the next slice of each lease that runs low, while nobody waits."""
        if not self.down:
            for lease in leases:
                self._ask_aside(lease, units)

    def beside(self, work: Coroutine[Any, Any, object]) -> None:
        """Runs what no request waits for; ``close`` ends it."""
        self._spawn(work)

    async def run(self) -> None:
        """Gives back what was not spent in time, until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            if not self.down:
                self.sweep(self._clock.monotonic_ns())

    def sweep(self, now: int) -> None:
        """One round of giving back."""
        calls = 0
        for lease in list(self._out):
            if now >= lease.next_ns:
                lease.expire(now)
            if lease.returns and not lease.flights and calls < _RETURNS:
                calls += 1
                self._ask_aside(lease, 0)
            elif not lease.out:
                del self._out[lease]

    async def close(self) -> None:
        """Gives everything back that is in hand, as far as the store answers at once."""
        if self._looker is not None:
            self._looker.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                if self._tasks:
                    await asyncio.wait(self._tasks)  # what they bring goes back too
                for lease in [] if self.down else list(self._out):
                    lease.give_up(self._clock.monotonic_ns())
                    if lease.returns:
                        await self._call(lease.page, (lease,), 0, 0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ask_aside(self, lease: Lease, units: int) -> None:
        # Made here and not in the task, so that the lease knows of the call before the next request looks.
        sent = self._clock.monotonic_ns()
        ask = ask_for(lease.page, (lease,), units, 0, sent)
        self._spawn(self._send(lease.page, (lease,), ask, sent))

    async def _wait(self, page: Page, leases: tuple[Lease, ...], units: int) -> bool:
        key = (units, tuple(id(lease) for lease in leases))
        desk = self._desks.get(key)
        if desk is None:
            desk = self._desks[key] = _Desk(page, leases, units)
            self._spawn(self._serve(key, desk))
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        desk.waiting.append(future)
        return await future

    async def _serve(self, key: _DeskKey, desk: _Desk) -> None:
        try:
            while desk.waiting:
                batch, desk.waiting = desk.waiting[:_BATCH], desk.waiting[_BATCH:]
                came = not self.down and await self._call(desk.page, desk.leases, desk.units, len(batch))
                for future in batch:
                    if not future.done():
                        future.set_result(came)
        finally:
            del self._desks[key]
            for future in desk.waiting:
                future.cancel()

    async def _call(self, page: Page, leases: tuple[Lease, ...], units: int, requests: int) -> bool:
        sent = self._clock.monotonic_ns()
        return await self._send(page, leases, ask_for(page, leases, units, requests, sent), sent)

    async def _send(self, page: Page, leases: tuple[Lease, ...], ask: Ask, sent: int) -> bool:
        self.calls += 1
        try:
            answer = await self._store.lease(ask)
        except StoreError as error:
            unanswered(leases)
            self._failed(error)
            return False
        except BaseException:
            unanswered(leases)
            raise
        self._row = 0
        answered(page, leases, ask, answer, sent, self._clock.monotonic_ns())
        self._out.update((lease, None) for lease in leases if lease.out)
        return True

    def _failed(self, error: StoreError) -> None:
        self.failures += 1
        self._row += 1
        if self._row >= _FAILURES and not self.down:
            self.down = True
            _log.warning("limits are decided without their store: %s", error)
            self._looker = self._spawn(self._look())

    async def _look(self) -> None:
        wait_s = _SHORTEST_S
        while True:
            await asyncio.sleep(wait_s * random.uniform(0.5, 1))  # noqa: S311 - spreads nodes, guards nothing
            try:
                await self._store.ready()
            except StoreError:
                wait_s = min(2 * wait_s, _LONGEST_S)
            else:
                self.down = False
                self._row = 0
                _log.warning("the store of limits answers again")
                return

    def _spawn(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("asking the store of limits failed", exc_info=task.exception())
