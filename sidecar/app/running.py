"""One running sidecar: its rooms, opened in order and taken down in the opposite one."""

import asyncio
import contextlib
import logging
import os
import platform
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import aiohttp
from aiohttp import web

from sidecar.admin import (
    Build,
    Connections,
    RunningMargin,
    Sources,
    make_admin_app,
    make_public_app,
    make_waiting_app,
    read_admission,
    read_journal,
    read_upstreams,
)
from sidecar.admission import Admission
from sidecar.app.parts import close_store, open_journal, open_limits, open_store, operations, shipper_of
from sidecar.app.pools import Pools
from sidecar.app.reloading import Reloads, same_callers
from sidecar.billing import Payee, Reporting, open_payments, payee_of
from sidecar.config import Configuration
from sidecar.core.accounts import PaymentCounts
from sidecar.core.clock import NS_PER_S, Clock, SystemClock
from sidecar.core.errors import Conflict, StoreDown, StoreError
from sidecar.core.policy import Identity, Settings, Snapshot
from sidecar.gateway import Account, JournalUse, Lane, LaneRunner, Rules
from sidecar.identity import Peppers, Resolver, UpstreamSigner, admin_token, fetch_jwks, new_key, signing_key
from sidecar.ledger import done_extra
from sidecar.metering import Tallies

_POLL_S = 1.0  # a key revoked in the store by somebody else stops within this
_CATCH_UP_S = 5.0
_FAILING_S = 60  # a ledger that takes nothing for so long is worth a warning; calls go on
_RETRY_S = (0.5, 5.0)  # between attempts to reach a store that was never there: the first, the longest
_log = logging.getLogger("sidecar")


class App:
    """One running sidecar. ``start`` makes it ready, ``stop`` drains it; both once."""

    def __init__(
        self, snapshot: Snapshot, clock: Clock | None = None, configuration: Configuration | None = None
    ) -> None:
        """``configuration``: where ``snapshot`` came from; None: it stays as it is."""
        self.snapshot = snapshot
        self._clock = clock or SystemClock()
        self._rooms = contextlib.AsyncExitStack()
        self._pools = Pools(self._clock)
        self._draining = self._started = False
        self._tallies = Tallies()
        self._payee: Payee | None = None
        self._reporting: Reporting | None = None
        self._session: aiohttp.ClientSession | None = None
        self.reloads = Reloads(configuration, self._take, lambda: self.snapshot)

    async def start(self) -> None:
        """Opens the store, recovers the journal, and listens. SidecarError or OSError says what is in the way."""
        async with contextlib.AsyncExitStack() as rooms:
            self._rooms = rooms
            await self._open_stores(self.snapshot.settings)
            await self._open_lane(self.snapshot)
            self._open_billing()
            await self._open_admin(self.snapshot.settings)
            await self._listen(self.snapshot.settings)
            self._background(self.reloads.watch())
            self._rooms = rooms.pop_all()
        self._started = True

    async def stop(self) -> None:
        """Stops listening, lets replies under way end within ``drain``, ships the journal, closes everything."""
        self._draining = True
        await self._rooms.aclose()

    @property
    def listening(self) -> tuple[str, str]:
        """The ``host:port`` of the lane and of the admin port, as bound."""
        return _bound(self._lane_runner), _bound(self._admin_runner)

    async def _open_stores(self, settings: Settings) -> None:
        self._journal = open_journal(self.snapshot, self._clock)
        self._rooms.callback(self._journal.close)
        try:
            await self._reach_store(settings)
        except StoreDown as error:
            await self._wait_for_store(settings, error)
        self._shipper.start()
        self._rooms.push_async_callback(self._shipper.stop)

    async def _reach_store(self, settings: Settings) -> None:
        async with contextlib.AsyncExitStack() as rooms:
            self._store = await open_store(settings, self._journal.identity)
            rooms.push_async_callback(close_store, self._store)
            self._shipper = shipper_of(settings, self._journal, self._store, self._clock)
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

    async def _open_lane(self, snapshot: Snapshot) -> None:
        settings, identity = snapshot.settings, snapshot.settings.identity
        self._admission = Admission(self._clock, self._meter_total, limit_store=self._limits)
        self._rooms.push_async_callback(self._admission.close)
        self._admission.load(snapshot)
        if self._admission.keeper is not None:
            self._background(self._admission.keeper.run())
        signer = None
        if identity.upstream_jwt is not None:
            signer = UpstreamSigner(identity.upstream_jwt, signing_key(settings.data), self._clock)
        self._peppers = Peppers.from_settings(identity.api_key, settings.data)
        books = self._books = self._store if settings.billing.stripe is not None else None
        self._payments = open_payments(lambda: self.snapshot, books, self._mint, self._clock)
        pages = self._payments.routes() if self._payments else []
        public = web.AppRunner(make_public_app(signer.jwks() if signer else None, pages), access_log=None)
        await public.setup()
        self._rooms.push_async_callback(public.cleanup)
        assert public.server is not None
        self._rooms.push_async_callback(self._pools.close)
        pools = self._pools.planned(snapshot)
        self._pools.use(pools)
        self._lane = Lane(
            Rules(snapshot, pools),
            admission=self._admission,
            journal=self._journal,
            tallies=self._tallies,
            clock=self._clock,
            own_paths=public.server,
            signer=signer,
            use=JournalUse(
                sync=settings.journal.durability == "sync",
                serve_unbilled=settings.journal.on_full == "serve_unbilled",
            ),
        )
        self._resolver = await self._make_resolver(identity, self._peppers)
        self._rooms.push_async_callback(self._close_resolver)
        self._lane.resolver = self._resolver
        if self._payments is not None:
            self._rooms.push_async_callback(self._payments.close)
            self._payments.start()
        self._background(self._lane.sweeping(self._sweep_pools))
        self._background(self._poll())

    async def _make_resolver(self, identity: Identity, peppers: Peppers) -> Resolver[Account]:
        fetch = await self._fetcher(bool(identity.jwt))
        tenants, seat = lambda: self.snapshot.tenants, self._lane.seat
        made: Resolver[Account] = Resolver(
            identity, self._store, peppers, seat, tenants, self._clock, fetch, accounts=self._books
        )
        await made.poll()  # the first one forgets everything, so it comes before the first request
        return made

    async def _close_resolver(self) -> None:
        await self._resolver.close()

    async def _take(self, snapshot: Snapshot) -> None:
        """Brings ``snapshot`` into force, whole or not at all: nothing waits and nothing fails between the swaps.

        What lives on: counters, leases of quotas, metrics, connections of clients, and those of every upstream that
        stays as it was. Calls under way keep the rules that they began with.
        """
        if not self._started:
            raise Conflict("the sidecar is starting; it has read its configuration already")
        if not self._journal.widen(done_extra(snapshot.meters)):
            raise Conflict("the journal has no room for what the new meters need at the moment; try again")
        old, identity = self.snapshot, snapshot.settings.identity
        pools = self._pools.planned(snapshot)
        rules = await asyncio.to_thread(Rules, snapshot, pools)
        resolver, peppers = self._resolver, self._peppers
        tls = snapshot.settings.tls
        if identity != old.settings.identity:
            peppers = Peppers.from_settings(identity.api_key, snapshot.settings.data)
            resolver = await self._make_resolver(identity, peppers)
        if tls is not None and self._tls is not None:
            tls.put_into(self._tls)
        self.snapshot = snapshot
        self._admission.load(snapshot)
        self._lane.use(rules)
        if resolver is not self._resolver:
            self._lane.spawn(self._resolver.retire())
            self._resolver = self._lane.resolver = resolver
        elif same_callers(old, snapshot):
            for account in resolver.seats():
                account.renew()
        else:
            resolver.forget_all()
        self._peppers = peppers
        self._pools.use(pools)

    def _mint(self, **known: Any) -> Any:
        return new_key(self._peppers, self.snapshot.settings.identity.api_key.brand, **known)

    def _open_billing(self) -> None:
        self._payee = payee_of(self.snapshot, self._store, self._clock)
        if self._payee is not None:
            self._rooms.push_async_callback(self._payee.parts.close)
            node = f"{self._journal.identity}/{os.getpid()}"
            self._reporting = Reporting(self._store, self._payee.parts, node, self._clock)
            self._rooms.push_async_callback(self._reporting.close)
            self._background(self._reporting.run())

    async def _open_admin(self, settings: Settings) -> None:
        token = settings.admin.token or admin_token(settings.data)
        doing = operations(
            lambda: self.snapshot, self._store, self._mint, self._clock, self._changed, self._caught_up, self._payee
        )
        self._margin = RunningMargin(self._store, self._store, lambda: self.snapshot, self._clock)
        self._background(self._margin.run())
        told = self._unready, token, settings.admin, self._warnings, self.reloads.now
        admin = make_admin_app(doing, self._sources(), *told)
        self._admin_runner = web.AppRunner(admin, access_log=None, shutdown_timeout=2.0)
        await self._admin_runner.setup()
        self._rooms.push_async_callback(self._admin_runner.cleanup)
        await web.TCPSite(self._admin_runner, settings.admin.host, settings.admin.port).start()

    async def _listen(self, settings: Settings) -> None:
        self._lane_runner = LaneRunner(self._lane)
        await self._lane_runner.setup()
        self._rooms.push_async_callback(self._lane_runner.cleanup)
        self._tls = None if settings.tls is None else settings.tls.context()
        host, port = settings.listen_host, settings.listen_port
        await web.TCPSite(self._lane_runner, host, port, backlog=1024, ssl_context=self._tls).start()

    async def _fetcher(self, needed: bool) -> "Callable[[str], Awaitable[bytes]]":
        if not needed:
            return _no_fetch
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
            self._rooms.push_async_callback(self._session.close)
        return fetch_jwks(self._session)

    def _background(self, work: "Awaitable[None]") -> None:
        task = asyncio.ensure_future(work)
        self._rooms.push_async_callback(_end, task)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(_POLL_S)
            try:
                await self._resolver.poll()
            except StoreError as error:
                _log.warning("the store of keys does not answer: %s", error)

    async def _caught_up(self) -> None:
        """The ledger holds every call that has ended. StoreError when it does not get there."""
        try:
            async with asyncio.timeout(_CATCH_UP_S):
                await self._shipper.flush()
        except TimeoutError:
            raise StoreError("the ledger does not take what is in the journal; see the log, nothing is lost") from None

    async def _meter_total(self, tenant: str, meter: str, since_us: int, until_us: int, sandbox: bool) -> int:
        await self._caught_up()  # what is in the journal counts too
        return await self._store.meter_total(tenant, meter, since_us=since_us, until_us=until_us, sandbox=sandbox)

    def _changed(self, tenant: str | None, key_id: str | None) -> None:
        if key_id is not None:
            self._resolver.forget_key(key_id)
        elif tenant is not None:
            self._resolver.forget_tenant(tenant)
        else:
            self._resolver.forget_all()

    def _sweep_pools(self, now_ns: int) -> None:
        self._pools.sweep(now_ns)

    def _unready(self) -> list[str]:
        reasons = ["the sidecar is shutting down"] if self._draining else []
        reasons += [
            f"upstream {name} is not available" for name, pool in self._pools.current.items() if not pool.available
        ]
        return reasons

    def _warnings(self) -> list[str]:
        return self._ledger_warnings() + self._limit_warnings()

    def _limit_warnings(self) -> list[str]:
        keeper = self._admission.keeper
        return ["limits are decided without their store; see the log"] if keeper is not None and keeper.down else []

    def _ledger_warnings(self) -> list[str]:
        since_ns = self._shipper.readings().failing_since_ns
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

    def _sources(self) -> Sources:
        versions = version("sidecar"), platform.python_version()
        return Sources(
            tallies=self._tallies.read,
            admission=lambda: read_admission(self._admission.readings(), self.snapshot.plans),
            journal=lambda: read_journal(self._journal.readings(), self._shipper.readings()),
            upstreams=lambda: read_upstreams(t for pool in self._pools.current.values() for t in pool.readings()),
            connections=lambda: Connections(
                self._lane.reading().connections, self.snapshot.settings.bounds.max_connections
            ),
            build=lambda: Build(*versions, self.reloads.digest()),
            currency=lambda: self.snapshot.costs.currency,
            margin=self._margin.read,
            payments=self._payments.counts.read if self._payments else PaymentCounts,
            billing=lambda: None if self._reporting is None else self._reporting.read(),
            reloads=self.reloads.reading,
        )


def _bound(runner: web.BaseRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _no_fetch(url: str) -> bytes:
    raise StoreError("no issuer of tokens is configured")


async def _end(task: "asyncio.Future[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
