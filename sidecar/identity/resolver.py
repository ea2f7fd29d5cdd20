"""From a credential to the seat of its principal: a dictionary look-up when known, one in the store when not."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from hashlib import blake2b
from typing import Any, Generic, TypeVar

from sidecar.core.accounts import Account as PayingAccount
from sidecar.core.accounts import AccountSource, billing_cycle, standing
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import StoreError, Unauthenticated
from sidecar.core.policy import Identity
from sidecar.core.ports import Lookups
from sidecar.core.values import Principal, Tenant
from sidecar.identity.cache import Entry, Refusals, Seats
from sidecar.identity.certificates import CertificateNames
from sidecar.identity.finder import Found
from sidecar.identity.jwks import Fetch
from sidecar.identity.keys import matches, parse_key
from sidecar.identity.peppers import Peppers
from sidecar.identity.throttle import Throttle
from sidecar.identity.tokens import MAX_TOKEN_BYTES, Tokens

T = TypeVar("T")

MAX_CACHE_NS = 30 * NS_PER_S
REFUSED_NS = 2 * NS_PER_S
_STALE_NS = 5 * NS_PER_S
# What a guess looks like. An owner whose good key ended is not taken for a guesser, however often it asks.
_GUESSES = frozenset({"key_malformed", "key_unknown", "token_invalid"})
_UNKNOWN = "The API key is not known. Check that it was made here and copied in full."

_log = logging.getLogger("sidecar.identity")


class Resolver(Generic[T]):
    """Resolves credentials; one per process and identity configuration.

    Bounds: ``seats`` positive entries (about 350 bytes and the seat each; twice that after a ``forget_all``),
    ``refusals`` negative ones (250 bytes), ``flights`` look-ups at once; addresses as in Throttle.

    A key revoked elsewhere stops within the period of ``poll`` (the app's: 1 s), and within ``cache_ns`` (at most 30 s)
    if the store cannot be polled. An entry that has aged is served while the store fails for ``stale_ns`` at most;
    with 0, the default, never: StoreError then.
    """

    def __init__(
        self,
        identity: Identity,
        store: Lookups,
        peppers: Peppers,
        seat: Callable[[Principal], Awaitable[T]],
        tenants: Callable[[], Mapping[str, Tenant]],
        clock: Clock,
        fetch: Fetch,
        *,
        accounts: AccountSource | None = None,
        seats: int = 50_000,
        refusals: int = 4096,
        flights: int = 1024,
    ) -> None:
        """``seat`` makes what the lane keeps per principal. ``tenants``: the declared ones; they win over the store.
        ``accounts``: what payment makes of tenants, declared ones too; None: nobody pays."""
        self._brand = identity.api_key.brand
        self._cache_ns = min(identity.api_key.cache_ns, MAX_CACHE_NS)
        self._stale_ns = identity.api_key.stale_ns
        self._store = store
        self._peppers = peppers
        self._seat = seat
        self._tenants = tenants
        self._accounts = accounts
        self._clock = clock
        self._wall_ns = clock.wall_ns
        self._monotonic_ns = clock.monotonic_ns
        self._certificates = CertificateNames()
        self._tokens = Tokens(identity.jwt, fetch, clock) if identity.jwt else None
        self._salt = os.urandom(32)
        self._seats: Seats[T] = Seats(seats)
        self._refusals = Refusals(refusals)
        self._throttle = Throttle(clock)
        self._flights: dict[bytes, asyncio.Task[T | Unauthenticated]] = {}
        self._tasks: set[asyncio.Task[T | Unauthenticated]] = set()
        self._max_tasks = flights
        self._generation = 0
        self._version: int | None = None

    def cached(self, found: Found) -> T | None:
        """The seat when this credential was resolved less than ``cache_ns`` ago and has not ended; no I/O."""
        fingerprint = found.fingerprint
        if not fingerprint:  # else it was here before: clients repeat their header block
            if len(found.secret) > MAX_TOKEN_BYTES:  # never resolved, and a header may have 64 KiB to be hashed here
                return None
            fingerprint = found.fingerprint = self._fingerprint(found.secret)
        entry = self._seats.young.get(fingerprint) or self._seats.from_old(fingerprint)
        if entry is None:
            return None
        seat, until_ns, ends_ns = entry[:3]
        if self._monotonic_ns() >= until_ns or (ends_ns and self._wall_ns() >= ends_ns):
            return None
        return seat

    async def resolve(self, found: Found, ip: str) -> T:
        """The seat. Raises Unauthenticated (``key_malformed``, ``key_unknown``, ``key_revoked``, ``key_expired``,
        ``token_invalid``, ``token_expired``, ``certificate_unknown``, ``certificate_expired``, ``tenant_unknown``,
        ``too_many_failures``, or what ``seat`` refuses);
        StoreError when the store or an issuer's key set is not to be had."""
        fingerprint = found.fingerprint = self._fingerprint(found.secret[: MAX_TOKEN_BYTES + 1])
        wait_s = self._throttle.wait_s(ip)
        if wait_s and not self._seats.knows(fingerprint):
            detail = f"Too many failed attempts from this address. Try again in {wait_s} s."
            raise Unauthenticated("too_many_failures", detail, wait_s)
        try:
            if found.kind == "key":
                parse_key(self._brand, found.secret)
            return await self._shared(fingerprint, found)
        except Unauthenticated as refusal:
            if refusal.reason in _GUESSES:
                self._throttle.failed(ip)
            raise

    async def standing(self, tenant: str) -> T:
        """The seat of the tenant itself, for what goes on after its credential ended (a WebSocket whose token did).
        Unauthenticated (``tenant_unknown``); StoreError."""
        # The fingerprint is no credential's: those are 16 bytes of a digest that nobody can aim at.
        found = Found("tenant", b"", "connection", names=(tenant,), fingerprint=b"tenant:" + tenant.encode())
        seat = self.cached(found)
        return await self._shared(found.fingerprint, found) if seat is None else seat

    def _fingerprint(self, secret: bytes) -> bytes:
        return blake2b(self._salt + secret, digest_size=16).digest()

    def forget_key(self, key_id: str) -> None:
        """The key changed here: what is cached for it, and what is under way, no longer counts."""
        self._outdate()
        self._seats.drop(key_id=key_id)

    def forget_tenant(self, name: str) -> None:
        """As ``forget_key``, for everything of one tenant."""
        self._outdate()
        self._seats.drop(tenant=name)

    def forget_all(self) -> None:
        """As ``forget_key``, for everybody; call it too when the policies changed, since seats are made of them."""
        self._outdate()
        self._seats.clear()

    def seats(self) -> list[T]:
        """Every seat that is kept: to be renewed in place where nobody's identity changed."""
        return self._seats.all()

    async def poll(self) -> None:
        """Forgets everything when a key or tenant changed in the store since the last call. Raises StoreError."""
        version = await self._store.keys_version()
        if version != self._version:
            self._version = version
            self.forget_all()

    async def retire(self) -> None:
        """Another one has taken over: as ``close``, once the look-ups under way have ended by themselves."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.close()

    async def close(self) -> None:
        """Ends look-ups that are under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tokens is not None:
            await self._tokens.close()

    def _outdate(self) -> None:
        # A look-up that began before a change may have read the row before it. Its generation tells, so it is not
        # cached; and nobody joins it any more, since a request that comes after the change must see the change.
        self._generation += 1
        self._flights = {}
        self._refusals.clear()

    async def _shared(self, fingerprint: bytes, found: Found) -> T:
        """Everybody who brings the same credential at the same time waits for the same look-up."""
        known = self._refusals.get(fingerprint, self._monotonic_ns())
        if known is not None:
            raise Unauthenticated(*known)
        task = self._flights.get(fingerprint)
        if task is None:
            if len(self._tasks) >= self._max_tasks:
                raise StoreError(f"{self._max_tasks} credentials wait for the store already")
            task = self._start(fingerprint, self._look_up(fingerprint, found, self._generation))
        outcome = await asyncio.shield(task)  # a client that goes away must not end it for the others
        if isinstance(outcome, Unauthenticated):
            raise Unauthenticated(outcome.reason, outcome.detail)
        return outcome

    def _start(
        self, fingerprint: bytes, work: Coroutine[Any, Any, T | Unauthenticated]
    ) -> asyncio.Task[T | Unauthenticated]:
        task = asyncio.create_task(work)
        self._flights[fingerprint] = task
        self._tasks.add(task)

        def landed(_: object) -> None:
            self._tasks.discard(task)
            if self._flights.get(fingerprint) is task:
                del self._flights[fingerprint]
            if not task.cancelled():
                task.exception()  # seen, also when every client has gone

        task.add_done_callback(landed)
        return task

    async def _look_up(self, fingerprint: bytes, found: Found, generation: int) -> T | Unauthenticated:
        began_ns = self._monotonic_ns()  # the age of what is read counts from here
        try:
            principal = await self._principal(found)
            seat = await self._seat(principal)
        except Unauthenticated as refusal:
            if generation == self._generation:
                until_ns = self._monotonic_ns() + REFUSED_NS
                self._refusals.put(fingerprint, refusal.reason, refusal.detail, until_ns)
            return refusal
        except StoreError:
            stale = self._stale(fingerprint)
            if stale is None:
                raise
            return stale
        if generation == self._generation:
            until_ns = began_ns + self._cache_ns
            ends_ns, stale_ns = principal.expires_ns or 0, until_ns + self._stale_ns
            self._seats.put(fingerprint, Entry(seat, until_ns, ends_ns, principal.key_id, principal.tenant, stale_ns))
        return seat

    def _stale(self, fingerprint: bytes) -> T | None:
        """What was known before the store stopped answering, for a few seconds more until it is asked again."""
        entry, now_ns = self._seats.aged(fingerprint), self._monotonic_ns()
        if entry is None or now_ns >= entry.stale_until_ns or (entry.ends_ns and self._wall_ns() >= entry.ends_ns):
            return None
        until_ns = min(now_ns + _STALE_NS, entry.stale_until_ns)
        self._seats.put(fingerprint, entry._replace(until_ns=until_ns))
        return entry.seat

    async def _principal(self, found: Found) -> Principal:
        if found.kind == "key":
            return await self._key(found.secret)
        if found.kind == "tenant":
            return await self._nobody_of(found.names[0])
        return await (self._token(found.secret) if found.kind == "jwt" else self._certificate(found))

    async def _certificate(self, found: Found) -> Principal:
        whose = self._certificates.tenant(found.names, self._tenants())
        if whose is None:
            raise Unauthenticated("certificate_unknown", "The client certificate has no name of an account here.")
        if self._wall_ns() >= found.ends_ns:
            raise Unauthenticated("certificate_expired", "The client certificate has expired. Renew it.")
        own, account = await self._tenant(whose[0])
        tenant = standing(own, account)
        terms = None, found.ends_ns, self._cycle(own, account), own.overrides
        return Principal(tenant.name, f"cert:{whose[1]}", tenant.plan, tenant.state, False, *terms)

    async def _nobody_of(self, name: str) -> Principal:
        own, account = await self._tenant(name)
        tenant, cycle = standing(own, account), self._cycle(own, account)
        return Principal(tenant.name, "", tenant.plan, tenant.state, False, None, None, cycle, own.overrides)

    async def _key(self, secret: bytes) -> Principal:
        row = await self._store.key(parse_key(self._brand, secret).id)
        if row is not None and not self._peppers.knows(row.pepper):
            _log.warning("key %s was digested with pepper %s, which is not configured", row.id, row.pepper)
        if not matches(self._peppers, row, secret) or row is None:
            raise Unauthenticated("key_unknown", _UNKNOWN)
        if row.revoked_ns is not None:  # whatever this machine's clock says about the time
            raise Unauthenticated("key_revoked", "The API key was revoked. Use another one.")
        if row.expires_ns is not None and self._wall_ns() >= row.expires_ns:
            raise Unauthenticated("key_expired", "The API key has expired. Use a newer one.")
        own, account = await self._tenant(row.tenant)
        tenant = standing(own, account)
        scopes = frozenset(row.scopes) if row.scopes is not None else None
        ends_ns, cycle = row.expires_ns, self._cycle(own, account)
        terms = scopes, ends_ns, cycle, own.overrides
        return Principal(tenant.name, row.id, tenant.plan, tenant.state, row.sandbox, *terms)

    async def _token(self, token: bytes) -> Principal:
        if self._tokens is None:
            raise Unauthenticated("token_invalid", "Tokens are not accepted here.")
        claims = await self._tokens.verify(token)
        own, account = await self._tenant(claims.tenant)
        tenant, plan = standing(own, account), claims.plan
        if plan is None or (account is not None and account.plan is not None):
            plan = tenant.plan  # what was bought (or is left of it) wins over what the issuer believes
        ends_ns, cycle = claims.ends_ns, self._cycle(own, account)
        terms = claims.scopes, ends_ns, cycle, own.overrides
        return Principal(tenant.name, claims.key_id, plan, tenant.state, False, *terms)

    def _cycle(self, tenant: Tenant, account: PayingAccount | None) -> str:
        return billing_cycle(tenant, account, self._wall_ns() // NS_PER_S)

    async def _tenant(self, name: str) -> tuple[Tenant, PayingAccount | None]:
        tenant = self._tenants().get(name) or await self._store.tenant(name)
        if tenant is None:
            raise Unauthenticated("tenant_unknown", "The account of these credentials is not known here.")
        return tenant, None if self._accounts is None else await self._accounts.account(name)


def scopes_allow(principal: Principal, wanted: frozenset[str]) -> bool:
    """Whether the principal has every scope a route asks for; scopes that are None are not narrowed."""
    return principal.scopes is None or wanted <= principal.scopes
