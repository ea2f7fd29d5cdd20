"""The composition root: makes the rooms, connects them, and takes them down in order. The only one that names a store.

::

    data/
      sidecar.db        tenants, keys, ledger (SQLite); sidecar.db.lock is held by the one process that writes
      journal/          usage that is not yet in the ledger
      pepper            what API keys are hashed with
      admin.token       the admin API's token, unless the configuration names one
      identity.key      signs the identity for the upstream, when that is switched on
      run.json          where the running process listens
"""

import asyncio
import contextlib
import logging
import platform
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import aiohttp
from aiohttp import web

from sidecar.admin import (
    Build,
    Connections,
    Operations,
    Sources,
    make_admin_app,
    make_public_app,
    read_admission,
    read_journal,
    read_upstreams,
)
from sidecar.admission import Admission
from sidecar.core.clock import Clock, SystemClock
from sidecar.core.errors import StoreError
from sidecar.core.policy import Settings, Snapshot
from sidecar.gateway import Account, JournalUse, Lane, LaneRunner, Rules
from sidecar.identity import Peppers, Resolver, UpstreamSigner, admin_token, fetch_jwks, new_key, signing_key
from sidecar.ledger import Journal, Shipper
from sidecar.metering import Tallies
from sidecar.storage import SqliteStore
from sidecar.upstream import HealthChecks, UpstreamPool

_POLL_S = 1.0  # a key revoked in the store by somebody else stops within this
_CATCH_UP_S = 5.0
_log = logging.getLogger("sidecar")


class App:
    """One running sidecar. ``start`` makes it ready, ``stop`` drains it; both once."""

    def __init__(self, snapshot: Snapshot, clock: Clock | None = None) -> None:
        self.snapshot = snapshot
        self._clock = clock or SystemClock()
        self._rooms = contextlib.AsyncExitStack()
        self._pools: dict[str, UpstreamPool] = {}
        self._draining = False
        self._tallies = Tallies()

    async def start(self) -> None:
        """Opens the store, recovers the journal, and listens. SidecarError or OSError says what is in the way."""
        async with contextlib.AsyncExitStack() as rooms:
            self._rooms = rooms
            await self._open_stores(self.snapshot.settings)
            await self._open_lane(self.snapshot)
            await self._open_admin(self.snapshot.settings)
            await self._listen(self.snapshot.settings)
            self._rooms = rooms.pop_all()

    async def stop(self) -> None:
        """Stops listening, lets replies under way end within ``drain``, ships the journal, closes everything."""
        self._draining = True
        await self._rooms.aclose()

    @property
    def listening(self) -> tuple[str, str]:
        """The ``host:port`` of the lane and of the admin port, as bound."""
        return _bound(self._lane_runner), _bound(self._admin_runner)

    async def _open_stores(self, settings: Settings) -> None:
        self._store = _open_store(settings)
        self._rooms.callback(self._store.close)
        self._journal, self._shipper = _journal_of(settings, self._store, self._clock)
        self._rooms.callback(self._journal.close)
        await self._shipper.recover()
        self._shipper.start()
        self._rooms.push_async_callback(self._shipper.stop)

    async def _open_lane(self, snapshot: Snapshot) -> None:
        settings, identity = snapshot.settings, snapshot.settings.identity
        self._admission = Admission(self._clock, self._meter_total)
        self._rooms.push_async_callback(self._admission.close)
        self._admission.load(snapshot)
        signer = None
        if identity.upstream_jwt is not None:
            signer = UpstreamSigner(identity.upstream_jwt, signing_key(settings.data), self._clock)
        public = web.AppRunner(make_public_app(signer.jwks() if signer else None), access_log=None)
        await public.setup()
        self._rooms.push_async_callback(public.cleanup)
        assert public.server is not None
        self._pools = {name: UpstreamPool(upstream, self._clock) for name, upstream in snapshot.upstreams.items()}
        for pool in self._pools.values():
            self._rooms.callback(pool.abort)
        self._lane = Lane(
            Rules(snapshot, self._pools),
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
        self._peppers = Peppers.from_settings(identity.api_key, settings.data)
        self._resolver: Resolver[Account] = Resolver(
            identity,
            self._store,
            self._peppers,
            self._lane.seat,
            lambda: self.snapshot.tenants,
            self._clock,
            await self._fetcher(bool(identity.jwt)),
        )
        self._rooms.push_async_callback(self._resolver.close)
        await self._resolver.poll()  # the first one forgets everything, so it comes before the first request
        self._lane.resolver = self._resolver
        self._background(self._lane.sweeping(self._sweep_pools))
        self._background(self._poll())
        self._background(HealthChecks(list(self._pools.values())).run())

    async def _open_admin(self, settings: Settings) -> None:
        token = settings.admin.token or admin_token(settings.data)
        operations = _operations(self.snapshot, self._store, self._peppers, self._clock, self._changed, self._caught_up)
        admin = make_admin_app(operations, self._sources(), self._unready, token, settings.admin)
        self._admin_runner = web.AppRunner(admin, access_log=None, shutdown_timeout=2.0)
        await self._admin_runner.setup()
        self._rooms.push_async_callback(self._admin_runner.cleanup)
        await web.TCPSite(self._admin_runner, settings.admin.host, settings.admin.port).start()

    async def _listen(self, settings: Settings) -> None:
        self._lane_runner = LaneRunner(self._lane, shutdown_timeout=settings.drain_ns / 1e9)
        await self._lane_runner.setup()
        self._rooms.push_async_callback(self._lane_runner.cleanup)
        await web.TCPSite(self._lane_runner, settings.listen_host, settings.listen_port, backlog=1024).start()

    async def _fetcher(self, needed: bool) -> "Callable[[str], Awaitable[bytes]]":
        if not needed:
            return _no_fetch
        session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        self._rooms.push_async_callback(session.close)
        return fetch_jwks(session)

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
        for pool in self._pools.values():
            pool.sweep(now_ns)

    def _unready(self) -> list[str]:
        reasons = ["the sidecar is shutting down"] if self._draining else []
        reasons += [f"upstream {name} is not available" for name, pool in self._pools.items() if not pool.available]
        return reasons

    def _sources(self) -> Sources:
        policy = sha256(repr((self.snapshot.routes, self.snapshot.plans)).encode()).hexdigest()[:12]
        build = Build(version("sidecar"), platform.python_version(), policy)
        bound = self.snapshot.settings.bounds.max_connections
        return Sources(
            tallies=self._tallies.read,
            admission=lambda: read_admission(self._admission.readings(), self.snapshot.plans),
            journal=lambda: read_journal(self._journal.readings(), self._shipper.readings()),
            upstreams=lambda: read_upstreams(t for pool in self._pools.values() for t in pool.readings()),
            connections=lambda: Connections(self._lane.reading().connections, bound),
            build=lambda: build,
            currency=lambda: self.snapshot.costs.currency,
        )


@contextlib.asynccontextmanager
async def open_offline(snapshot: Snapshot) -> AsyncIterator[Operations]:
    """The operations on the store itself, for commands while no sidecar runs. StoreLocked when one does.

    What a killed sidecar left in its journal is moved to the ledger first, so that usage is whole.
    """
    settings, clock = snapshot.settings, SystemClock()
    store = _open_store(settings)
    try:
        journal, shipper = _journal_of(settings, store, clock)
        try:
            if journal.leftovers:
                await shipper.recover()
            peppers = Peppers.from_settings(settings.identity.api_key, settings.data)
            yield _operations(snapshot, store, peppers, clock, lambda tenant, key_id: None, _nothing)
        finally:
            journal.close()
    finally:
        store.close()


def _open_store(settings: Settings) -> SqliteStore:
    path = Path(settings.storage.removeprefix("sqlite:///"))
    if not path.exists() and (Path(settings.data) / "pepper").exists():
        _log.warning("the database %s is missing; a new one is made, without tenants, keys and usage", path)
    return SqliteStore.open(path)


def _journal_of(settings: Settings, store: SqliteStore, clock: Clock) -> tuple[Journal, Shipper]:
    journal = Journal(Path(settings.data) / "journal", settings.journal, clock)
    return journal, Shipper(journal, store, clock, raw_events_ns=settings.raw_events_ns)


def _operations(
    snapshot: Snapshot,
    store: SqliteStore,
    peppers: Peppers,
    clock: Clock,
    changed: Callable[[str | None, str | None], None],
    flush: Callable[[], Awaitable[None]],
) -> Operations:
    mint = partial(new_key, peppers, snapshot.settings.identity.api_key.brand)
    return Operations(store, store, lambda: snapshot, mint, clock, changed, flush)


def _bound(runner: web.BaseRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _nothing() -> None:
    return None


async def _no_fetch(url: str) -> bytes:
    raise StoreError("no issuer of tokens is configured")


async def _end(task: "asyncio.Future[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
