"""Who asks the store of shared limits and budgets: one call at a time for the same ones, and no storm when it is gone.

Bounds: the requests that wait are those in flight; a call carries at most ``_BATCH`` of them; after ``_FAILURES`` calls
in a row without an answer nobody calls any more, and one task looks for the store, at intervals that double up to
``_LONGEST_S``, each made shorter by chance so that nodes do not come back all at once.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias

from sidecar.admission.budgets import Purse, SharedPeriod, Want
from sidecar.admission.leases import Lease, Page, answered, ask_for, unanswered
from sidecar.core.clock import NS_PER_MS, NS_PER_S, Clock
from sidecar.core.errors import StoreError
from sidecar.core.leases import Ask
from sidecar.core.ports import LimitStore

_BATCH: Final = 256
_FAILURES: Final = 3
_SHORTEST_S: Final = 0.1
_LONGEST_S: Final = 5.0
_SWEEP_S: Final = 0.1
_RETURNS: Final = 64  # calls per sweep that only give back
_TELLS: Final = 200  # calls per sweep that only tell what was used
_READS: Final = 8  # of the ledger at a time
_UNREAD_NS: Final = NS_PER_S  # after a reading that failed: those who wait behind it are not made to wait for another
_SEEDS: Final = 4  # how often a call that the store cannot decide without the ledger is made
_AT_ONCE_NS: Final = 10 * NS_PER_MS  # a call that fails faster met a connection that had ended before
# By then every node has told and shipped what it had settled before; and one that holds something and is not heard of
# since is taken for dead (core.budgets.FRESH_US).
_COMPARE_NS: Final = 6 * NS_PER_S
_CLOSE_S: Final = 1.0
_DeskKey: TypeAlias = tuple[int, tuple[int, ...], tuple[tuple[int, int, int, int, int], ...]]
ReadLedger: TypeAlias = Callable[[SharedPeriod], Awaitable[int]]
_log = logging.getLogger(__name__)


class _Desk:
    """Those who wait for the same leases with requests of the same weight."""

    def __init__(self, page: Page, leases: tuple[Lease, ...], units: int, wants: tuple[Want, ...]) -> None:
        self.page = page
        self.leases = leases
        self.units = units
        self.wants = wants
        self.waiting: list[asyncio.Future[bool]] = []


class Keeper:
    """``down``: the store is not asked now. ``calls`` and ``failures`` count since the start.

    ``ledger``: reads the total of a budget, this node's usage included; ``late``: whether the ledger does not take this
    node's usage at the moment. ``active``: budgets of which there is something to tell.
    """

    def __init__(
        self, store: LimitStore, clock: Clock, ledger: ReadLedger, late: Callable[[], bool] = lambda: False
    ) -> None:
        self.active: list[SharedPeriod] = []
        self.down = False
        self.calls = 0
        self.failures = 0
        self._store = store
        self._clock = clock
        self._ledger = ledger
        self._late = late
        self._reading = asyncio.Semaphore(_READS)
        self._row = 0  # failures in a row
        self._desks: dict[_DeskKey, _Desk] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._looker: asyncio.Task[object] | None = None
        self._out: dict[Lease, None] = {}

    async def fetch(self, leases: Sequence[Lease], units: int, wants: Sequence[Want] = ()) -> bool:
        """Brings what one request needs into all of these leases and budgets, or their refusal. False: the store did
        not answer, or a budget's use could not be read."""
        pages: dict[Page, tuple[list[Lease], list[Want]]] = {}
        for lease in leases:
            pages.setdefault(lease.page, ([], []))[0].append(lease)
        for want in wants:
            pages.setdefault(want.period.page, ([], []))[1].append(want)
        came = [self._wait(page, tuple(some), units, tuple(more)) for page, (some, more) in pages.items()]
        return all(await asyncio.gather(*came))

    async def look(self, leases: Sequence[Lease], units: int, periods: Sequence[SharedPeriod] = ()) -> bool:
        """Brings what is known of these leases and budgets up to date for one request of ``units``, and takes nothing.
        False: the store did not answer, or a budget's use could not be read."""
        pages: dict[Page, list[Lease]] = {}
        for lease in dict.fromkeys(leases):
            pages.setdefault(lease.page, []).append(lease)
        there = not self.down
        for page, group in pages.items():
            if there:
                sent = self._clock.monotonic_ns()
                ask = ask_for(page, group, 0, 0, sent)._replace(units=units)
                there = await self._send(page, tuple(group), ask, sent)
        for period in dict.fromkeys(periods):
            there = there and await self._call(period.page, (), 0, 0, (period.tell,))
        return there

    def prefetch(self, leases: Sequence[Lease], units: int) -> None:
        """Fetches the next slice of each lease that runs low, while nobody waits."""
        if not self.down:
            for lease in leases:
                self._ask_aside(lease, units)

    def beside(self, work: Coroutine[Any, Any, object]) -> None:
        """Runs what no request waits for; ``close`` ends it."""
        self._spawn(work)

    def aside(self, want: Want) -> None:
        """Fetches the next slice of a budget, or tells of it, while nobody waits."""
        if not self.down:
            want.period.flights += 1  # here and not in the task: the next request looks before that begins
            self._spawn(self._aside(want))

    async def _aside(self, want: Want) -> None:
        try:
            await self._call(want.period.page, (), 0, 0, (want,))
        finally:
            want.period.flights -= 1

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
        self._tell(now)

    def _tell(self, now: int) -> None:
        late, calls = self._late(), 0
        self.active[:] = [period for period in self.active if not period.idle_after(now)]
        for period in self.active:
            if calls < _TELLS and period.due(now, late):
                calls += 1
                self.aside(period.tell)
            if period.compared is not None and now >= period.compared[2] and not period.checking:
                period.checking = True
                self._spawn(self._compare(period, *period.compared[:2]))

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
                for period in [] if self.down else list(self.active):
                    period.give_up()
                    await self._call(period.page, (), 0, 0, (period.tell,))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ask_aside(self, lease: Lease, units: int) -> None:
        # Made here and not in the task, so that the lease knows of the call before the next request looks.
        sent = self._clock.monotonic_ns()
        ask = ask_for(lease.page, (lease,), units, 0, sent)
        self._spawn(self._send(lease.page, (lease,), ask, sent))

    async def _wait(self, page: Page, leases: tuple[Lease, ...], units: int, wants: tuple[Want, ...]) -> bool:
        key = (units, tuple(id(lease) for lease in leases), tuple((id(want.period), *want[1:]) for want in wants))
        desk = self._desks.get(key)
        if desk is None:
            desk = self._desks[key] = _Desk(page, leases, units, wants)
            self._spawn(self._serve(key, desk))
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        desk.waiting.append(future)
        return await future

    async def _serve(self, key: _DeskKey, desk: _Desk) -> None:
        batch: list[asyncio.Future[bool]] = []
        try:
            while desk.waiting:
                batch, desk.waiting = desk.waiting[:_BATCH], desk.waiting[_BATCH:]
                came = not self.down and await self._call(desk.page, desk.leases, desk.units, len(batch), desk.wants)
                for future in batch:
                    if not future.done():
                        future.set_result(came)
        except Exception:  # a fault, of a store or ours: whoever waits decides without, instead of waiting for ever
            for future in (*batch, *desk.waiting):
                if not future.done():
                    future.set_result(False)
            raise
        finally:
            del self._desks[key]
            for future in desk.waiting:
                future.cancel()

    async def _call(
        self,
        page: Page,
        leases: tuple[Lease, ...],
        units: int,
        requests: int,
        wants: tuple[Want, ...] = (),
        floor: int = 0,
        lower: int = 0,
    ) -> bool:
        if not wants:
            sent = self._clock.monotonic_ns()
            return await self._send(page, leases, ask_for(page, leases, units, requests, sent), sent)
        purse = next((want.period.purse for want in wants if want.least and want.period.purse is not None), None)
        if purse is not None:
            wants = purse.members(wants)
        for want in wants:
            want.period.flights += 1
        try:
            lock = page.lock = page.lock or asyncio.Lock()
            async with lock:
                return await self._account(page, leases, units, requests, wants, purse, floor, lower)
        finally:
            for want in wants:
                want.period.flights -= 1

    async def _account(
        self,
        page: Page,
        leases: tuple[Lease, ...],
        units: int,
        requests: int,
        wants: tuple[Want, ...],
        purse: Purse | None,
        floor: int,
        lower: int,
    ) -> bool:
        """A call with budgets, and again with the ledger's total of those that the store does not know."""
        late, again = self._late(), False
        for _ in range(_SEEDS):
            sent, wall = self._clock.monotonic_ns(), self._clock.wall_ns()
            ask = ask_for(page, leases, units, requests, sent)
            budgets = [want.period.request(want, requests, sent, wall, late, floor, lower) for want in wants]
            ask = ask._replace(budgets=tuple(budgets), purse=None if purse is None else purse.ask(wants))
            if not await self._send(page, leases, ask, sent, wants):
                # Another call is another account: should the first one have arrived, nothing counts twice of budgets.
                if again or self.down or self._clock.monotonic_ns() - sent > _AT_ONCE_NS:
                    return False
                again = True
                continue
            unknown = [want.period for want in wants if not want.period.known]
            if not unknown:
                return True
            floor = lower = 0  # they were for the counter that is lost
            if not all([await self._seed(period, wall) for period in unknown]):
                return False
        return False

    async def _send(
        self, page: Page, leases: tuple[Lease, ...], ask: Ask, sent: int, wants: tuple[Want, ...] = ()
    ) -> bool:
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
        now = self._clock.monotonic_ns()
        answered(page, leases, ask, answer, sent, now)
        self._out.update((lease, None) for lease in leases if lease.out)
        for want, asked, standing in zip(wants, ask.budgets, answer.budgets, strict=True):
            period = want.period
            period.answered(asked, standing, answer.passed, now)
            period.check_due = period.check_due or standing.check > 0
            self._check(period)
        return True

    async def _seed(self, period: SharedPeriod, wall: int) -> bool:
        if wall >= period.close_ns:
            period.forget()
            return True
        if self._clock.monotonic_ns() < period.unread_ns:
            return False
        before = period.total
        total = await self._read(period)
        if total is not None:
            period.seed(total, before)
        else:
            period.unread_ns = self._clock.monotonic_ns() + _UNREAD_NS
        return total is not None

    async def _read(self, period: SharedPeriod) -> int | None:
        try:
            async with self._reading:
                return await self._ledger(period)
        except StoreError as error:
            _log.warning("what %r used of %r cannot be read: %s", period.key.tenant, period.key.meter, error)
            return None

    def _check(self, period: SharedPeriod) -> None:
        if period.check_due and not period.checking and period.compared is None:
            period.checking, period.check_due = True, False
            self._spawn(self._look_first(period))

    async def _look_first(self, period: SharedPeriod) -> None:
        """Notes what the ledger has and what is settled, to be compared when both must have caught up."""
        try:
            total = await self._read(period)
            # A counter that was just seeded may lack what others had not shipped: then the ledger counts at once.
            floor = total if total is not None and period.seeded else 0
            if total is not None and await self._call(period.page, (), 0, 0, (period.tell,), floor):
                period.seeded = False
                period.compared = total, period.settled, self._clock.monotonic_ns() + _COMPARE_NS
                period.enter()
        finally:
            period.checking = False

    async def _compare(self, period: SharedPeriod, ledger: int, settled: int) -> None:
        """What the ledger had then must be settled now, and what was settled then must be in the ledger now."""
        try:
            total = await self._read(period)
            if total is None or not await self._call(period.page, (), 0, 0, (period.tell,)):
                return
            if period.settled < ledger or (period.settled >= settled > total):
                lower = settled - total if period.settled >= settled > total else 0
                before = period.settled
                await self._call(period.page, (), 0, 0, (period.tell,), ledger, lower)
                if period.settled != before:
                    what = period.key.tenant, period.key.meter, period.settled, before
                    _log.info("what %r used of %r goes by the ledger: %d, not %d", *what)
        finally:
            period.compared = None
            period.checking = False
            self._check(period)

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
