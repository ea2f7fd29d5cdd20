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
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp import web

from sidecar.admin import (
    Build,
    Connections,
    Operations,
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
from sidecar.billing import open_payments
from sidecar.core.accounts import PaymentCounts
from sidecar.core.clock import NS_PER_S, Clock, SystemClock
from sidecar.core.errors import StoreDown, StoreError
from sidecar.core.policy import Settings, Snapshot
from sidecar.gateway import Account, JournalUse, Lane, LaneRunner, Rules
from sidecar.identity import Peppers, Resolver, UpstreamSigner, admin_token, fetch_jwks, new_key, signing_key
from sidecar.ledger import Journal, Retention, Shipper, done_extra
from sidecar.metering import CostModel, Tallies
from sidecar.storage import PostgresStore, SqliteStore, migrate_schema, move, schema_state
from sidecar.upstream import HealthChecks, UpstreamPool

Store: TypeAlias = SqliteStore | PostgresStore
_POLL_S = 1.0  # a key revoked in the store by somebody else stops within this
_CATCH_UP_S = 5.0
_FAILING_S = 60  # a ledger that takes nothing for so long is worth a warning; calls go on
_RETRY_S = (0.5, 5.0)  # between attempts to reach a store that was never there: the first, the longest
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
        self._journal = _open_journal(self.snapshot, self._clock)
        self._rooms.callback(self._journal.close)
        try:
            await self._reach_store(settings)
        except StoreDown as error:
            await self._wait_for_store(settings, error)
        self._shipper.start()
        self._rooms.push_async_callback(self._shipper.stop)

    async def _reach_store(self, settings: Settings) -> None:
        async with contextlib.AsyncExitStack() as rooms:
            self._store = await _open_store(settings, self._journal.identity)
            rooms.push_async_callback(_close, self._store)
            self._shipper = _shipper_of(settings, self._journal, self._store, self._clock)
            await self._shipper.recover()
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
        self._admission = Admission(self._clock, self._meter_total)
        self._rooms.push_async_callback(self._admission.close)
        self._admission.load(snapshot)
        signer = None
        if identity.upstream_jwt is not None:
            signer = UpstreamSigner(identity.upstream_jwt, signing_key(settings.data), self._clock)
        self._peppers = Peppers.from_settings(identity.api_key, settings.data)
        books = _books(self._store) if settings.billing.stripe is not None else None
        mint = partial(new_key, self._peppers, identity.api_key.brand)
        self._payments = open_payments(lambda: self.snapshot, books, mint, self._clock)
        pages = self._payments.routes() if self._payments else []
        public = web.AppRunner(make_public_app(signer.jwks() if signer else None, pages), access_log=None)
        await public.setup()
        self._rooms.push_async_callback(public.cleanup)
        assert public.server is not None
        private = CostModel(snapshot.costs).private
        self._pools = {
            name: UpstreamPool(upstream, self._clock, private) for name, upstream in snapshot.upstreams.items()
        }
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
        self._resolver: Resolver[Account] = Resolver(
            identity,
            self._store,
            self._peppers,
            self._lane.seat,
            lambda: self.snapshot.tenants,
            self._clock,
            await self._fetcher(bool(identity.jwt)),
            accounts=books,
        )
        self._rooms.push_async_callback(self._resolver.close)
        await self._resolver.poll()  # the first one forgets everything, so it comes before the first request
        self._lane.resolver = self._resolver
        if self._payments is not None:
            self._rooms.push_async_callback(self._payments.close)
            self._payments.start()
        self._background(self._lane.sweeping(self._sweep_pools))
        self._background(self._poll())
        self._background(HealthChecks(list(self._pools.values())).run())

    async def _open_admin(self, settings: Settings) -> None:
        token = settings.admin.token or admin_token(settings.data)
        operations = _operations(self.snapshot, self._store, self._peppers, self._clock, self._changed, self._caught_up)
        self._margin = RunningMargin(self._store, self._store, lambda: self.snapshot, self._clock)
        self._background(self._margin.run())
        sources = self._sources()
        admin = make_admin_app(operations, sources, self._unready, token, settings.admin, self._warnings)
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

    def _warnings(self) -> list[str]:
        since_ns = self._shipper.readings().failing_since_ns
        failing_s = 0 if since_ns is None else (self._clock.monotonic_ns() - since_ns) // NS_PER_S
        return [f"the ledger has taken nothing for {failing_s} s; see the log"] if failing_s >= _FAILING_S else []

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
            margin=self._margin.read,
            payments=self._payments.counts.read if self._payments else PaymentCounts,
        )


@contextlib.asynccontextmanager
async def open_offline(snapshot: Snapshot) -> AsyncIterator[Operations]:
    """The operations on the store itself, for commands while no sidecar runs. StoreLocked when one does.

    What a killed sidecar left in its journal is moved to the ledger first, so that usage is whole.
    """
    settings, clock = snapshot.settings, SystemClock()
    async with contextlib.AsyncExitStack() as rooms:
        journal = _open_journal(snapshot, clock)
        rooms.callback(journal.close)
        store = await _open_store(settings, journal.identity)
        rooms.push_async_callback(_close, store)
        if journal.leftovers:
            await _shipper_of(settings, journal, store, clock).recover()
        peppers = Peppers.from_settings(settings.identity.api_key, settings.data)
        yield _operations(snapshot, store, peppers, clock, lambda tenant, key_id: None, _nothing)


async def apply_schema(snapshot: Snapshot, owner_url: str) -> list[int]:
    """Brings the PostgreSQL schema to this version as its owner, for the role that ``storage:`` logs in as.

    The numbers of the migrations that were applied. StoreError.
    """
    return await migrate_schema(owner_url, _postgresql_user(snapshot.settings))


async def show_schema(snapshot: Snapshot) -> tuple[int, tuple[int, ...]]:
    """The PostgreSQL schema's number and those of the migrations to be applied. StoreError."""
    _postgresql_user(snapshot.settings)
    state = await schema_state(snapshot.settings.storage)
    return state.version, state.pending


async def move_storage(snapshot: Snapshot, source: str, say: Callable[[str], None]) -> bool:
    """Moves the installation ``sqlite:///PATH`` to the PostgreSQL that ``storage:`` names, while no sidecar runs.

    What is left in the journal goes along. ``say`` gets lines for people. False: it was moved before. StoreError, also
    when it was interrupted or anybody uses either side; the same call goes on where it stopped.
    """
    settings, clock = snapshot.settings, SystemClock()
    _postgresql_user(settings)
    if not source.startswith("sqlite:///"):
        raise StoreError("only a SQLite file can be moved; name it as sqlite:///data/sidecar.db")
    async with contextlib.AsyncExitStack() as rooms:
        journal = _open_journal(snapshot, clock)
        rooms.callback(journal.close)
        store = SqliteStore.open(Path(source.removeprefix("sqlite:///")), moving=True)
        rooms.callback(store.close)
        if journal.leftovers and await store.moved_to() is None:
            await _shipper_of(settings, journal, store, clock).recover()
        return await move(store, settings.storage, journal.identity, say)


def _postgresql_user(settings: Settings) -> str:
    user = None if settings.storage.startswith("sqlite:") else urlsplit(settings.storage).username
    if user is None:
        raise StoreError("storage: is no PostgreSQL URL; a SQLite file gets its schema when it is opened")
    return unquote(user)


async def _open_store(settings: Settings, journal: str) -> Store:
    """The store that ``storage:`` names, opened for the journal of that identity. StoreError."""
    if not settings.storage.startswith("sqlite:"):
        return await PostgresStore.open(settings.storage, journal=journal)
    return _open_sqlite(Path(settings.storage.removeprefix("sqlite:///")), Path(settings.data))


def _open_sqlite(path: Path, data: Path) -> SqliteStore:
    if not path.exists() and (data / "pepper").exists():
        _log.warning("the database %s is missing; a new one is made, without tenants, keys and usage", path)
    return SqliteStore.open(path)


def _books(store: Store) -> SqliteStore | None:
    """The store, where it holds accounts."""
    return store if isinstance(store, SqliteStore) else None


async def _close(store: Store) -> None:
    if isinstance(store, PostgresStore):
        await store.close()
    else:
        store.close()


def _open_journal(snapshot: Snapshot, clock: Clock) -> Journal:
    settings = snapshot.settings
    return Journal(Path(settings.data) / "journal", settings.journal, clock, extra=done_extra(snapshot.meters))


def _shipper_of(settings: Settings, journal: Journal, store: Store, clock: Clock) -> Shipper:
    keep = Retention(settings.raw_events_ns, settings.minute_sums_ns, settings.hour_sums_ns)
    return Shipper(journal, store, clock, keep=keep)


def _operations(
    snapshot: Snapshot,
    store: Store,
    peppers: Peppers,
    clock: Clock,
    changed: Callable[[str | None, str | None], None],
    flush: Callable[[], Awaitable[None]],
) -> Operations:
    mint = partial(new_key, peppers, snapshot.settings.identity.api_key.brand)
    return Operations(store, store, lambda: snapshot, mint, clock, changed, flush, _books(store))


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
