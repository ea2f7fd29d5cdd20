"""From a completed checkout to a tenant, and to its first key, which one browser is shown.

The key is made of the pepper and of a token that the browser alone keeps. So the process may be killed anywhere:
whoever asks again with the same token is shown the same key, with another one nothing, and no copy stands anywhere.

Who the tenant is stands in the session's metadata, which only the holder of the Stripe key can write. The
``client_reference_id`` is not read: on a payment link the buyer writes it, into the address.
"""

import re
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Any, Protocol

from sidecar.billing.access.keeper import ACTOR, Keeper, PaymentStore, notices_of
from sidecar.billing.access.subscriptions import MARK, PLAN, TENANT
from sidecar.billing.stripe import StripeClient, StripeFault, ask
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import Conflict
from sidecar.core.names import check_tenant_name
from sidecar.core.policy import Snapshot
from sidecar.core.values import ApiKey, Tenant

READ_SESSIONS = "Checkout Sessions: Read"
SESSION = re.compile(r"cs_[A-Za-z0-9_]{8,200}")
TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")
SHOWN_FOR_S = 48 * 3600  # after the session was made; it can be paid for 24 h
AGAIN_FOR_S = 600  # after the key was written to the browser: what it was sent may not have come
_LIVE = frozenset({"active", "trialing", "past_due"})


class Mint(Protocol):
    """Makes a key: identity.new_key with peppers and brand filled in."""

    def __call__(
        self,
        *,
        tenant: str,
        name: str,
        sandbox: bool,
        scopes: tuple[str, ...] | None,
        expires_ns: int | None,
        now_ns: int,
        seed: bytes,
    ) -> tuple[ApiKey, Any]: ...


@dataclass(frozen=True, slots=True)
class Welcome:
    """``state``: ``key``, ``shown`` (before, or to another browser), ``pending`` (not paid yet), ``unknown``."""

    state: str
    tenant: str = ""
    key: str = field(default="", repr=False)


class Newcomers:
    """One per process."""

    def __init__(
        self,
        store: PaymentStore,
        client: StripeClient,
        keeper: Keeper,
        snapshot: Callable[[], Snapshot],
        mint: Mint,
        clock: Clock,
        faults: MutableMapping[str, str],
    ) -> None:
        """``faults`` gets ``checkouts`` while the key may not read them."""
        self._faults = faults
        self._store = store
        self._client = client
        self._keeper = keeper
        self._snapshot = snapshot
        self._mint = mint
        self._clock = clock

    async def provide(self, session_id: str) -> tuple[str, str]:
        """Makes the tenant of a session that is paid for, once: (state, tenant), state one of ``ready``, ``pending``,
        ``unknown``, ``taken``. StripeFault, StoreError."""
        session = await self._session(session_id)
        metadata = _map(session.get("metadata"))
        customer, settings = session.get("customer"), self._snapshot().settings.billing
        prefix = settings.stripe.prefix if settings.stripe is not None else ""
        if metadata.get(MARK) != prefix or session.get("mode") != "subscription" or not isinstance(customer, str):
            return ("pending" if metadata.get(MARK) == prefix and session.get("status") == "open" else "unknown"), ""
        if session.get("status") != "complete" or session.get("payment_status") == "unpaid":
            return "pending", ""
        name = str(metadata.get(TENANT) or customer)
        try:
            check_tenant_name(name)
        except ValueError:
            return "unknown", ""
        account = await self._store.account(name)
        if account is not None and account.customer != customer and account.status in _LIVE:
            await self._tell("checkout.taken", name, customer)
            return "taken", name
        await self._make(name, customer, metadata)
        await self._keeper.refresh(name, customer)
        return "ready", name

    async def first_key(self, session_id: str, token: str) -> Welcome:
        """The key's text is in what is returned, and nowhere else. One first key for a tenant, ever; who has the same
        ``token`` as the first time gets it again, until AGAIN_FOR_S after ``shown``."""
        if SESSION.fullmatch(session_id) is None or TOKEN.fullmatch(token) is None:
            return Welcome("unknown")
        try:
            session = await self._session(session_id)
        except StripeFault as fault:
            if fault.http in (400, 404):
                return Welcome("unknown")
            raise
        created = session.get("created")
        now = self._clock.wall_ns()
        if type(created) is not int or now // NS_PER_S - created > SHOWN_FOR_S:
            return Welcome("unknown")
        state, tenant = await self.provide(session_id)
        if state != "ready":
            return Welcome("pending" if state == "pending" else "unknown")
        seed = f"first-key\0{tenant}\0{token}".encode()
        row, minted = self._mint(
            tenant=tenant, name="first", sandbox=False, scopes=None, expires_ns=None, now_ns=now, seed=seed
        )
        if not await self._store.claim_first_key(row, actor=ACTOR) and not await self._may_see_again(row, now):
            return Welcome("shown", tenant)
        return Welcome("key", tenant, minted.text)

    async def shown(self, tenant: str) -> None:
        """The key was written to the browser. StoreError."""
        await self._store.claim(_shown(tenant), tenant, at_ns=self._clock.wall_ns())

    async def _may_see_again(self, row: ApiKey, now_ns: int) -> bool:
        """Whether the key that was given is this very one and may have been lost on its way."""
        given = await self._store.key(row.id)
        if given is None or given.tenant != row.tenant or not compare_digest(given.digest, row.digest):
            return False
        shown_ns = await self._store.claimed_ns(_shown(row.tenant))
        if shown_ns is None:  # who calls with it has it
            return given.revoked_ns is None and given.last_used_ns is None
        return given.revoked_ns is None and now_ns - shown_ns < AGAIN_FOR_S * NS_PER_S

    async def _session(self, session_id: str) -> Mapping[str, Any]:
        asked = self._client.v1.checkout.sessions.retrieve_async(session_id)
        try:
            found = await ask(self._client, asked, READ_SESSIONS)
        except StripeFault as fault:
            if fault.stop:  # any other is about this one session
                self._faults["checkouts"] = str(fault)
            raise
        self._faults.pop("checkouts", None)
        return _map(found.to_dict() if hasattr(found, "to_dict") else None)

    async def _make(self, name: str, customer: str, metadata: Mapping[str, Any]) -> None:
        snapshot = self._snapshot()
        if name in snapshot.tenants or await self._store.tenant(name) is not None:
            return
        plan = snapshot.settings.billing.access.fallback_plan or str(metadata.get(PLAN) or "")
        if plan not in snapshot.plans:
            raise StripeFault(f"the checkout of {name} names no plan that is known; set its metadata {PLAN}")
        tenant = Tenant(name, plan, stripe_customer=customer, created_ns=self._clock.wall_ns())
        # Told first, under an id of its own: whoever dies here leaves it to the next one, who tells nobody twice.
        await self._tell("tenant.created", name, customer)
        with suppress(Conflict):
            await self._store.add_tenant(tenant, actor=ACTOR)

    async def _tell(self, kind: str, tenant: str, customer: str) -> None:
        facts: dict[str, str | int] = {"tenant": tenant, "customer": customer}
        channels = self._snapshot().settings.billing.notices.channels
        id = f"{kind}:{tenant}:{customer}"
        await self._store.notify(notices_of(id, kind, tenant, facts, channels, self._clock.wall_ns()))


def _shown(tenant: str) -> str:
    return f"first-key-shown:{tenant}"


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
