"""The front of a process: the lane and what decides its calls. A worker is this alone."""

import asyncio
import contextlib
import logging
import socket
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import aiohttp
from aiohttp import web

from sidecar.admin import make_public_app
from sidecar.admission import Admission, MeterTotal, SpendReader, Tell
from sidecar.app.access import Access
from sidecar.app.pools import Pools
from sidecar.app.process import Process
from sidecar.app.readings import LaneSources
from sidecar.app.reloading import same_callers
from sidecar.app.sockets import BACKLOG, Group, adopted
from sidecar.core.accounts import AccountSource
from sidecar.core.clock import Clock
from sidecar.core.errors import Conflict, StoreError
from sidecar.core.policy import Identity, Settings, Snapshot
from sidecar.core.ports import LimitStore, Lookups
from sidecar.gateway import Account, JournalUse, Lane, LaneRunner, Rules
from sidecar.identity import Peppers, Resolver, UpstreamSigner, fetch_jwks, signing_key
from sidecar.ledger import Journal, Shipper, done_extra
from sidecar.metering import Tallies

_SHORT_S = 2.5  # how long a successor waits for calls to end before it opens the store
_POLL_S = 1.0  # a key revoked in the store by somebody else stops within this
_log = logging.getLogger("sidecar")


class Front(Process):
    """The lane's half. Whoever builds on it opens the journal, the look-ups and the limits first, and
    says who sums meters (``_totals``), who is told of shares of quotas (``_tell``) and who reads accounts in
    money (``_spent``)."""

    _journal: Journal
    _shipper: Shipper
    _lookups: Lookups
    _limits: LimitStore | None
    _books: AccountSource | None
    _totals: MeterTotal
    _tell: Tell | None = None
    _spent: SpendReader | None = None

    def __init__(self, snapshot: Snapshot, clock: Clock | None = None, **more: Any) -> None:
        super().__init__(snapshot, clock, **more)
        self._pools = Pools(self._clock)
        self._tallies = Tallies()
        self._access = Access()
        self._session: aiohttp.ClientSession | None = None

    async def _open_lane(self, snapshot: Snapshot, pages: Iterable[web.RouteDef]) -> None:
        settings, identity = snapshot.settings, snapshot.settings.identity
        self._admission = Admission(
            self._clock, self._totals, limit_store=self._limits, tell=self._tell, late=self._late, spent=self._spent
        )
        self._rooms.push_async_callback(self._admission.close)
        self._admission.load(snapshot)
        if self._admission.keeper is not None:
            self._background(self._admission.keeper.run())
        if self._admission.thresholds is not None:
            self._background(self._admission.thresholds.run())
        signer = None
        if identity.upstream_jwt is not None:
            signer = UpstreamSigner(identity.upstream_jwt, signing_key(settings.data), self._clock)
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
        use_access = await self._access.prepare(settings)
        use_access(self._lane)
        self._rooms.push_async_callback(self._access.close)
        self._resolver = await self._make_resolver(identity, self._peppers)
        self._rooms.push_async_callback(self._close_resolver)
        self._lane.resolver = self._resolver
        self._background(self._lane.sweeping(self._sweep_pools))
        self._background(self._poll())

    def _late(self) -> bool:
        return self._shipper.readings().failing_since_ns is not None

    async def _make_resolver(self, identity: Identity, peppers: Peppers) -> Resolver[Account]:
        fetch = await self._fetcher(bool(identity.jwt))
        tenants, seat = lambda: self.snapshot.tenants, self._lane.seat
        made: Resolver[Account] = Resolver(
            identity, self._lookups, peppers, seat, tenants, self._clock, fetch, accounts=self._books
        )
        await made.poll()  # the first one forgets everything, so it comes before the first request
        return made

    async def _close_resolver(self) -> None:
        await self._resolver.close()

    async def _take(self, snapshot: Snapshot) -> None:
        """Brings ``snapshot`` into force, whole or not at all."""
        swap = await self._prepare(snapshot)
        swap()

    async def _prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Makes everything that ``snapshot`` needs; what is returned brings it into force: nothing waits and nothing
        fails in there. SidecarError: it cannot be taken.

        What lives on: counters, leases of quotas, metrics, connections of clients, and those of every upstream that
        stays as it was. Calls under way keep the rules that they began with.
        """
        if not self._started:
            raise Conflict("the sidecar is starting; it has read its configuration already")
        if not self._journal.widen(done_extra(snapshot)):
            raise Conflict("the journal has no room for what the new meters need at the moment; try again")
        old, identity = self.snapshot, snapshot.settings.identity
        pools = self._pools.planned(snapshot)
        rules = await asyncio.to_thread(Rules, snapshot, pools)
        resolver, peppers = self._resolver, self._peppers
        if identity != old.settings.identity:
            peppers = Peppers.from_settings(identity.api_key, snapshot.settings.data)
            resolver = await self._make_resolver(identity, peppers)
        renew_tls = self._renewal(snapshot.settings)
        use_access = await self._access.prepare(snapshot.settings)

        def swap() -> None:
            renew_tls()
            self.snapshot = snapshot
            self._admission.load(snapshot)
            self._lane.use(rules)
            use_access(self._lane)
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

        return swap

    def _renewal(self, settings: Settings) -> Callable[[], None]:
        if settings.tls is None or self._tls is None:
            return lambda: None
        try:
            return settings.tls.renewal(self._tls)
        except ValueError as error:  # the files changed since the configuration was read
            raise Conflict(str(error)) from None

    def _counting(self) -> Admission:
        return self._admission

    async def _listen(self, settings: Settings, sockets: Group) -> None:
        self._lane_runner = LaneRunner(self._lane)
        await self._lane_runner.setup()
        self._rooms.push_async_callback(self._stop_serving)
        self._tls = None if settings.tls is None else settings.tls.context()
        for sock in sockets:
            await self._site(adopted(sock.fileno())).start()

    def _site(self, sock: socket.socket) -> web.BaseSite:
        return self._lane_runner.site(sock, self._tls, backlog=BACKLOG)

    async def _stop_serving(self) -> None:
        """Whoever has come is served, and told that we close; then the drain."""
        if self._lane_runner.sites:
            assert self._lane_runner.server is not None
            self._lane_runner.server.pre_shutdown()
            await self._last_ones()
            await self._close_sites()
        await self._lane_runner.cleanup()

    @abstractmethod
    async def _last_ones(self) -> None:
        """Returns when nobody waits in the sockets any more, so that they may be closed."""

    @abstractmethod
    def _drop_sockets(self) -> None:
        """Closes what this process holds of the sockets themselves."""

    async def _close_sites(self) -> None:
        for site in list(self._lane_runner.sites):
            await site.stop()
        self._drop_sockets()

    async def _stop_accepting(self) -> None:
        """Nobody is turned away: what waits in the sockets is for whoever holds them too. Calls that are short end."""
        self._draining = True
        await self._close_sites()
        assert self._lane_runner.server is not None
        self._lane_runner.server.pre_shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SHORT_S):
                await self._lane.quiet()

    async def _fetcher(self, needed: bool) -> "Callable[[str], Awaitable[bytes]]":
        if not needed:
            return _no_fetch
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
            self._rooms.push_async_callback(self._session.close)
        return fetch_jwks(self._session)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(_POLL_S)
            try:
                await self._resolver.poll()
            except StoreError as error:
                _log.warning("the store of keys does not answer: %s", error)

    async def _changed(self, tenant: str | None, key_id: str | None) -> None:
        if key_id is not None:
            self._resolver.forget_key(key_id)
        elif tenant is not None:
            self._resolver.forget_tenant(tenant)
        else:
            self._resolver.forget_all()

    def _sweep_pools(self, now_ns: int) -> None:
        self._pools.sweep(now_ns)
        self._admission.sweep(now_ns)

    def _lane_sources(self) -> LaneSources:
        keeper = self._admission.keeper
        return LaneSources(
            tallies=self._tallies.read,
            admission=self._admission.readings,
            journal=self._journal.readings,
            shipper=self._shipper.readings,
            upstreams=lambda: tuple(t for pool in self._pools.current.values() for t in pool.readings()),
            connections=lambda: self._lane.reading().connections,
            blind=lambda: keeper is not None and keeper.down,
        )


async def _no_fetch(url: str) -> bytes:
    raise StoreError("no issuer of tokens is configured")
