"""The office of a process: store, ledger, billing and the admin port. A parent of workers is this alone."""

import asyncio
import contextlib
import logging
import platform
from abc import abstractmethod
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from aiohttp import web

from sidecar.admin import (
    Build,
    Connections,
    RunningMargin,
    Sources,
    WorkersReading,
    make_admin_app,
    make_waiting_app,
    read_admission,
    read_journal,
    read_upstreams,
)
from sidecar.admission import Admission
from sidecar.app.journals import numbers, recover
from sidecar.app.merging import added, still
from sidecar.app.parts import (
    Store,
    close_store,
    journal_folder,
    open_journal,
    open_limits,
    open_store,
    operations,
    shipper_of,
)
from sidecar.app.process import Process
from sidecar.app.readings import LaneSources
from sidecar.app.reloading import Reloads
from sidecar.app.sockets import Group, adopted, bind_groups, close_all
from sidecar.app.takeover import Door, Handed
from sidecar.billing import Payee, Reporting, open_notices, open_payments, payee_of
from sidecar.config import Configuration, policy_set
from sidecar.core.accounts import PaymentCounts
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import SidecarError, StoreDown, StoreError, StoreLocked
from sidecar.core.policy import JournalSettings, Settings, Snapshot
from sidecar.core.ports import LimitStore
from sidecar.identity import admin_token
from sidecar.ledger import Journal, Shipper, ShipperReadings, is_free
from sidecar.storage import SqliteStore

_ADOPT_S = 5.0  # between looks at journals that nobody has
_CATCH_UP_S = 5.0
_FAILING_S = 60  # a ledger that takes nothing for so long is worth a warning; calls go on
_RETRY_S = (0.5, 5.0)  # between attempts to reach a store that was never there: the first, the longest
_log = logging.getLogger("sidecar")


def _nobody() -> None:
    """Nobody wants to know."""


class Office(Process):
    """The store's half."""

    _journal: Journal
    _shipper: Shipper
    _store: Store
    _limits: LimitStore | None

    def __init__(
        self,
        snapshot: Snapshot,
        clock: Clock | None = None,
        configuration: Configuration | None = None,
        *,
        handed: Handed | None = None,
        left: Callable[[], None] = _nobody,
    ) -> None:
        """``configuration``: where ``snapshot`` came from; None: it stays as it is. ``handed``: from the process that
        this one takes over from; ``left`` is called when another has taken over from this one."""
        super().__init__(snapshot, clock)
        self._payee: Payee | None = None
        self._reporting: Reporting | None = None
        self._counters: Admission | None = None
        self._handed = handed
        self._left = left
        self._office = contextlib.AsyncExitStack()
        self._found: list[ShipperReadings] = []  # of journals of others
        self._number = 0  # of the journal
        self._released = False
        self._door: Door | None = None
        self._answering: asyncio.Task[None] | None = None
        self._groups: list[Group] = []
        self._admin_sockets: Group = []
        self._notice_counts = PaymentCounts()  # where nobody pays
        self.reloads = Reloads(configuration, self._take, lambda: self.snapshot)

    @abstractmethod
    async def _take(self, snapshot: Snapshot) -> None:
        """Brings ``snapshot`` into force, whole or not at all. SidecarError."""

    @abstractmethod
    async def _changed(self, tenant: str | None, key_id: str | None) -> None:
        """Has every lane forget what it knows of a key, a tenant or (both None) everybody."""

    @abstractmethod
    def _lane_sources(self) -> LaneSources:
        """What the lane says of itself, or all lanes."""

    def _counting(self) -> Admission:
        """Whose counters explain what a request would be answered: here some of its own, beside those that nodes share,
        for it has no lane."""
        if self._counters is None:
            self._counters = Admission(self._clock, self._meter_total, limit_store=self._limits)
            self._rooms.push_async_callback(self._counters.close)
        if self._counters.snapshot is not self.snapshot:
            self._counters.load(self.snapshot)
        return self._counters

    async def _refresh(self) -> None:
        """Brings what the lane's sources show up to this moment."""

    def _workers(self) -> WorkersReading:
        return WorkersReading()

    def _unready(self) -> list[str]:
        return ["the sidecar is shutting down"] if self._draining else []

    async def _open_stores(self, settings: Settings, journal: JournalSettings) -> None:
        if self._handed is not None:  # the one before still ends its calls in its own
            await asyncio.to_thread(self._handed.release)
            while not is_free(journal_folder(self.snapshot, self._number)):
                self._number += 1
        self._journal = open_journal(self.snapshot, self._clock, journal, self._number)
        self._rooms.callback(self._journal.close)
        try:
            await self._reach_store(settings)
        except StoreDown as error:
            await self._wait_for_store(settings, error)
        self._shipper.start()
        self._rooms.push_async_callback(self._end_shipping)

    async def _reach_store(self, settings: Settings) -> None:
        async with contextlib.AsyncExitStack() as rooms:
            self._store = await open_store(settings, self._journal.identity)
            rooms.push_async_callback(close_store, self._store)
            sink = self._store.sink(self._number) if isinstance(self._store, SqliteStore) else self._store
            self._shipper = shipper_of(settings, self._journal, sink, self._clock)
            await self._shipper.recover()
            self._limits = open_limits(settings)
            if self._limits is not None:
                rooms.push_async_callback(self._limits.close)
                await self._limits.ready()
            self._rooms.push_async_callback(rooms.pop_all().aclose)

    async def _wait_for_store(self, settings: Settings, error: StoreDown) -> None:
        """A store that is not there yet is waited for, alive and not ready, instead of dying in a loop."""
        reasons = [str(error)]
        runner = web.AppRunner(make_waiting_app(lambda: reasons[-1]), access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.admin.host, settings.admin.port).start()
            delay_s = _RETRY_S[0]
            while True:
                _log.warning("not ready, the next attempt is in %g s: %s", delay_s, reasons[-1])
                await asyncio.sleep(delay_s)
                try:
                    await self._reach_store(settings)
                    return
                except StoreDown as again:
                    reasons[:] = [str(again)]
                    delay_s = min(2 * delay_s, _RETRY_S[1])
        finally:
            await runner.cleanup()

    def _open_payments(self) -> list[web.RouteDef]:
        """The pages of payment on the public port."""
        books = self._store if self.snapshot.settings.billing.stripe is not None else None
        self._payments = open_payments(lambda: self.snapshot, books, self._mint, self._journal.identity, self._clock)
        return self._payments.routes() if self._payments else []

    def _open_billing(self) -> None:
        if self._payments is not None:
            self._rooms.push_async_callback(self._payments.close)
            self._payments.start()
        else:
            self._send_notices()
        self._payee = payee_of(self.snapshot, self._store, self._clock)
        if self._payee is not None:
            self._rooms.push_async_callback(self._payee.parts.close)
            self._reporting = Reporting(self._store, self._payee.parts, self._journal.identity, self._clock)
            self._rooms.push_async_callback(self._reporting.close)
            self._background(self._reporting.run())

    def _send_notices(self) -> None:
        notices = open_notices(lambda: self.snapshot, self._store, self._clock, self._notice_counts)
        if notices is not None:
            self._rooms.push_async_callback(notices.close)
            self._background(notices.run())

    async def _open_admin(self, settings: Settings) -> None:
        token = settings.admin.token or admin_token(settings.data)
        doing = operations(
            lambda: self.snapshot,
            self._store,
            self._mint,
            self._clock,
            self._changed,
            self._caught_up,
            self._payee,
            self._counting,
        )
        self._margin = RunningMargin(self._store, self._store, lambda: self.snapshot, self._clock)
        self._background(self._margin.run())
        told = self._unready, token, settings.admin, self._warnings, self.reloads.now, self._policies
        admin = make_admin_app(doing, self._sources(self._lane_sources()), *told)
        self._admin_runner = web.AppRunner(admin, access_log=None, shutdown_timeout=2.0)
        await self._admin_runner.setup()
        self._rooms.push_async_callback(self._admin_runner.cleanup)
        for sock in self._admin_sockets:
            await web.SockSite(self._admin_runner, adopted(sock.fileno())).start()

    async def _open_office(self, settings: Settings) -> None:
        """What goes first when another process takes over: billing, the admin port, looking at files."""
        self._rooms.push_async_callback(self._office.aclose)
        outer, self._rooms = self._rooms, self._office
        try:
            self._open_billing()
            await self._open_admin(settings)
            self._background(self.reloads.watch())
        finally:
            self._rooms = outer

    async def _end_shipping(self) -> None:
        if not self._released:
            await self._shipper.stop()

    async def _adopting(self) -> None:
        """Journals whose process has left, until cancelled."""
        while True:
            await asyncio.sleep(_ADOPT_S)
            if not self._released:
                await self._adopt()

    async def _adopt(self) -> None:
        """Ships what other processes have left behind."""
        for number in set(numbers(self.snapshot.settings.data)) - self._taken():
            try:
                found = await recover(self.snapshot, self._clock, self._store, number)
            except StoreLocked:
                continue
            except (SidecarError, OSError) as error:
                _log.error("the journal %d could not be shipped: %s", number, error)
                continue
            if found is not None:
                self._keep(found)

    def _taken(self) -> set[int]:
        """The journals that are in use here."""
        return {self._number}

    def _keep(self, found: ShipperReadings) -> None:
        self._found = [added([*map(still, self._found), still(found)])]

    def _bind(self, settings: Settings) -> None:
        """The sockets of the lane and of the admin port: those that a process before this one gave, or new ones."""
        handed, workers = self._handed, settings.workers
        if handed is None:
            self._admin_sockets = bind_groups(settings.admin.host, settings.admin.port, 1)[0]
            self._rooms.callback(close_all, [self._admin_sockets])
            self._groups = bind_groups(settings.listen_host, settings.listen_port, workers)
        else:
            self._admin_sockets, self._groups = handed.admin, list(handed.groups)
            self._rooms.callback(close_all, [self._admin_sockets])
            missing = workers - len(self._groups)
            if missing > 0:
                port = self._groups[0][0].getsockname()[1]
                self._groups += bind_groups(settings.listen_host, port, missing, joining=True)
        self._rooms.callback(close_all, self._groups)

    def _open_door(self) -> None:
        """From now on another process may take over."""
        door = self._door = Door(
            self.snapshot.settings.data, self._groups, self._admin_sockets, self.release, self._left
        )
        self._answering = asyncio.ensure_future(door.run())

    async def stop(self) -> None:
        if self._door is not None:
            self._door.close()
        if self._answering is not None and not self._released:
            self._answering.cancel()
        await super().stop()
        if self._answering is not None:
            await asyncio.gather(self._answering, return_exceptions=True)

    @abstractmethod
    async def release(self) -> None:
        """For a successor: accepts no more, and lets go of the store. Calls under way go on."""

    async def _policies(self) -> dict[str, Any]:
        return await asyncio.to_thread(policy_set, self.snapshot)

    async def _caught_up(self) -> None:
        """The ledger holds every call that has ended. StoreError when it does not get there."""
        try:
            async with asyncio.timeout(_CATCH_UP_S):
                await self._flush()
        except TimeoutError:
            raise StoreError("the ledger does not take what is in the journal; see the log, nothing is lost") from None

    async def _flush(self) -> None:
        await self._shipper.flush()

    async def _meter_total(self, tenant: str, meter: str, since_us: int, until_us: int, sandbox: bool) -> int:
        await self._caught_up()  # what is in the journal counts too
        return await self._store.meter_total(tenant, meter, since_us=since_us, until_us=until_us, sandbox=sandbox)

    def _warnings(self) -> list[str]:
        return self._ledger_warnings() + self._limit_warnings()

    def _limit_warnings(self) -> list[str]:
        blind = self._lane_sources().blind()
        return ["limits are decided without their store; see the log"] if blind else []

    def _ledger_warnings(self) -> list[str]:
        since_ns = self._lane_sources().shipper().failing_since_ns
        failing_s = 0 if since_ns is None else (self._clock.monotonic_ns() - since_ns) // NS_PER_S
        told = [f"the ledger has taken nothing for {failing_s} s; see the log"] if failing_s >= _FAILING_S else []
        if self._reporting is not None:
            billing = self._reporting.read()
            told += [f"usage is not reported: {fault}" for fault in billing.faults]
            if billing.catalogue_fault:
                told.append(f"prices are not compared with the policies: {billing.catalogue_fault}")
        if self.reloads.reading().refused_last:
            told.append("the configuration on the disk was refused and the last good one is in force; see the log")
        if self._payments is not None:
            faults = self._payments.counts.faults.items()
            told += [f"access does not follow payment, {what} cannot be read: {fault}" for what, fault in faults]
        return told

    def _sources(self, lane: LaneSources) -> Sources:
        versions = version("sidecar"), platform.python_version()
        return Sources(
            tallies=lane.tallies,
            admission=lambda: read_admission(lane.admission(), self.snapshot.plans),
            journal=lambda: read_journal(lane.journal(), lane.shipper()),
            upstreams=lambda: read_upstreams(lane.upstreams()),
            connections=lambda: Connections(lane.connections(), self.snapshot.settings.bounds.max_connections),
            build=lambda: Build(*versions, self.reloads.digest()),
            currency=lambda: self.snapshot.costs.currency,
            margin=self._margin.read,
            payments=(self._payments.counts if self._payments else self._notice_counts).read,
            billing=lambda: None if self._reporting is None else self._reporting.read(),
            reloads=self.reloads.reading,
            refresh=self._refresh,
            workers=self._workers,
        )
