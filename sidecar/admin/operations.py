"""What operators do with tenants, keys and usage. The admin API and the command line both call this and nothing else.

Every method returns a dict that JSON can hold. Errors: NotFound, Conflict and StoreError from the store, ValueError
with a sentence that says what to write instead.
"""

import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from difflib import get_close_matches
from heapq import merge
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.admin import shapes
from sidecar.admin.accounts import MarginBooks
from sidecar.admin.credits import CreditDesk
from sidecar.admin.desk import Desk
from sidecar.admin.explaining import Explainer
from sidecar.admin.impact import Impact
from sidecar.admin.owners import tenant_named
from sidecar.admin.reports import Reports
from sidecar.admin.usage import check_page
from sidecar.core.accounts import AccountSource
from sidecar.core.clock import Clock
from sidecar.core.errors import Conflict, NotFound, SidecarError
from sidecar.core.names import check_key_name, check_scope, check_tenant_name
from sidecar.core.policy import Snapshot
from sidecar.core.ports import Ledger
from sidecar.core.units import parse_duration_ns
from sidecar.core.values import AccessState, ApiKey, Tenant

if TYPE_CHECKING:
    from sidecar.admin.terms import TermsDesk

_CENTURY_NS = 5_200 * 604_800_000_000_000  # an end that still fits 64 bits of nanoseconds


class Minted(Protocol):
    """A new key's text; identity.MintedKey is one."""

    @property
    def text(self) -> str: ...


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
    ) -> tuple[ApiKey, Minted]: ...


Changed = Callable[[str | None, str | None], Coroutine[Any, Any, None]]  # of (tenant, key id)


class Operations(Reports):
    """Changes, and the questions of Reports. ``changed(tenant, key_id)`` is awaited after a change so that caches
    forget (None: all of them); ``flush`` waits until the ledger holds every call that has ended; ``desk``: what
    concerns billing."""

    def __init__(
        self,
        store: MarginBooks,
        ledger: Ledger,
        snapshot: Callable[[], Snapshot],
        mint: Mint,
        clock: Clock,
        changed: Changed,
        flush: Callable[[], Awaitable[None]],
        accounts: AccountSource | None = None,
        desk: Desk | None = None,
        explainer: Explainer | None = None,
        credits: CreditDesk | None = None,
        terms: "TermsDesk | None" = None,
    ) -> None:
        self._impact = Impact(store, ledger, accounts, snapshot, clock)
        super().__init__(store, ledger, snapshot, clock, flush)
        self._desk = desk
        self._explainer = explainer
        self._credits = credits
        self._terms = terms
        self._mint = mint
        self._accounts = accounts
        self._changed = changed

    async def usage(
        self, tenant: str, *, since: str = "1d", until: str | None = None, period: str | None = None
    ) -> dict[str, Any]:
        """As in Reports, with ``spend`` where the plan prices meters (CreditDesk.spending). ``period``: instead
        of ``since`` and ``until``, a period of the tenant (CreditDesk.period)."""
        if self._credits is None:
            return await super().usage(tenant, since=since, until=until)
        if period is not None:
            since, until = await self._credits.period(tenant, period)
        report = await super().usage(tenant, since=since, until=until)
        with contextlib.suppress(NotFound):  # one that was removed keeps its usage
            report |= await self._credits.spending(tenant)
        return report

    @property
    def desk(self) -> Desk:
        """SidecarError where there is none."""
        if self._desk is None:
            raise SidecarError("this store does not hold what billing needs")
        return self._desk

    @property
    def explainer(self) -> Explainer:
        """SidecarError where there is none."""
        if self._explainer is None:
            raise SidecarError("nothing here counts limits")
        return self._explainer

    @property
    def terms(self) -> "TermsDesk":
        """SidecarError where there is none."""
        if self._terms is None:
            raise SidecarError("nothing here reads a tenant's terms")
        return self._terms

    @property
    def credits(self) -> CreditDesk:
        """SidecarError where there is none."""
        if self._credits is None:
            raise SidecarError("this store does not hold credits")
        return self._credits

    async def impact(self, plans: dict[str, Any], *, after: str = "", limit: int = 100) -> dict[str, Any]:
        """What new policies would mean for tenants: admin.impact says what is asked. Nothing is changed."""
        await self._flush()
        return await self._impact.tenants(plans, after=after, limit=limit)

    async def tenants_add(self, name: str, plan: str, *, actor: str) -> dict[str, Any]:
        """A new tenant in the store. Conflict when the name is taken, there or in the policies."""
        check_tenant_name(name)
        self._check_plan(plan)
        if name in self._snapshot().tenants:
            raise Conflict(f"tenant {name} is declared in the policies already")
        tenant = Tenant(name, plan, created_ns=self._clock.wall_ns())
        await self._store.add_tenant(tenant, actor=actor)
        await self._changed(name, None)
        return shapes.tenant(tenant, "store")

    async def tenants_list(self, *, after: str = "", limit: int = 100) -> dict[str, Any]:
        """``tenants`` by name, starting after ``after``; ``next``: what to give as ``after`` for more, or None."""
        check_page(limit)
        declared = self._snapshot().tenants
        stored = await self._store.tenants(after=after, limit=limit + 1)
        ours = ((name, "policies", declared[name]) for name in sorted(declared) if name > after)
        theirs = ((tenant.name, "store", tenant) for tenant in stored if tenant.name not in declared)
        rows: list[dict[str, Any]] = []
        for _, source, tenant in merge(ours, theirs, key=lambda row: row[0]):
            if len(rows) == limit:
                return {"tenants": rows, "next": rows[-1]["name"]}
            rows.append(shapes.tenant(tenant, source))
        return {"tenants": rows, "next": None}

    async def tenants_show(self, name: str) -> dict[str, Any]:
        """NotFound when there is no such tenant. ``payment``: its account at the payee, None where there is none."""
        tenant, source = await tenant_named(self._snapshot(), self._store, name)
        account = None if self._accounts is None else await self._accounts.account(name)
        return shapes.tenant(tenant, source) | {"payment": None if account is None else shapes.payment(account)}

    async def tenants_set(
        self, name: str, *, plan: str | None = None, state: str | None = None, actor: str
    ) -> dict[str, Any]:
        """Changes plan or access state. Conflict when the tenant is declared in the policies: change it there."""
        if plan is None and state is None:
            raise ValueError("nothing to change; give a plan or a state")
        if plan is not None:
            self._check_plan(plan)
        access = None if state is None else _access_state(state)
        _, source = await tenant_named(self._snapshot(), self._store, name)
        if source == "policies":
            raise Conflict(f"tenant {name} is declared in the policies; change it there")
        now = self._clock.wall_ns()
        tenant = await self._store.set_tenant(name, plan=plan, state=access, actor=actor, at_ns=now)
        await self._changed(name, None)
        return shapes.tenant(tenant, source)

    async def keys_create(
        self,
        tenant: str,
        name: str,
        *,
        test: bool = False,
        scopes: Sequence[str] | None = None,
        expires: str | None = None,
        actor: str,
    ) -> dict[str, Any]:
        """A new key, whose text is in ``key`` here and nowhere else. ``expires``: a duration from now; None is never.

        ``warnings`` lists what would make the key useless under the present plan.
        """
        check_key_name(name)
        for scope in scopes or ():
            check_scope(scope)
        owner, _ = await tenant_named(self._snapshot(), self._store, tenant)
        now = self._clock.wall_ns()
        ends = None if expires is None else now + _duration(expires, "expires", least=1)
        narrowed = None if scopes is None else tuple(dict.fromkeys(scopes))
        made = await self._make_key(owner.name, name, test, narrowed, ends, now, actor)
        return made | {"warnings": self._warnings(owner, test)}

    async def keys_list(self, tenant: str, *, after: str = "", limit: int = 100) -> dict[str, Any]:
        """``keys`` by id, ended ones too; ``next`` as in ``tenants_list``."""
        check_page(limit)
        await tenant_named(self._snapshot(), self._store, tenant)
        keys = await self._store.keys(tenant, after=after, limit=limit + 1)
        now = self._clock.wall_ns()
        return {
            "keys": [shapes.key(key, now) for key in keys[:limit]],
            "next": keys[limit - 1].id if len(keys) > limit else None,
        }

    async def keys_revoke(self, key_id: str, *, actor: str) -> dict[str, Any]:
        """The key is refused from now on. Revoking it again changes nothing."""
        now = self._clock.wall_ns()
        key = await self._store.end_key(key_id, at_ns=now, revoked=True, actor=actor)
        await self._changed(key.tenant, key.id)
        return shapes.key(key, now)

    async def keys_rotate(self, key_id: str, *, overlap: str = "24h", actor: str) -> dict[str, Any]:
        """A new key like the old one, which stops working after ``overlap`` (``0s``: at once).

        A key that was made for a time gets a successor for the same length of time. The new key is stored before the
        old one is ended, so a failure in between leaves both working and nobody locked out.
        """
        grace = _duration(overlap, "overlap")
        old = await self._store.key(key_id)
        if old is None:
            raise NotFound(f"there is no key {key_id}")
        now = self._clock.wall_ns()
        status = shapes.key_status(old, now)
        if status != "active":
            raise Conflict(f"key {key_id} is {status} and cannot be rotated; create a new one")
        ends = None if old.expires_ns is None else now + old.expires_ns - old.created_ns
        made = await self._make_key(old.tenant, old.name, old.sandbox, old.scopes, ends, now, actor)
        ended = await self._store.end_key(key_id, at_ns=now + grace, revoked=grace == 0, actor=actor)
        await self._changed(ended.tenant, ended.id)
        return made | {"replaces": shapes.key(ended, now)}

    async def _make_key(
        self,
        tenant: str,
        name: str,
        test: bool,
        scopes: tuple[str, ...] | None,
        expires_ns: int | None,
        now_ns: int,
        actor: str,
    ) -> dict[str, Any]:
        row, minted = self._mint(
            tenant=tenant, name=name, sandbox=test, scopes=scopes, expires_ns=expires_ns, now_ns=now_ns
        )
        await self._store.add_key(row, actor=actor)
        await self._changed(tenant, row.id)
        return {"key": minted.text} | shapes.key(row, now_ns)

    def _check_plan(self, name: str) -> None:
        plans = sorted(self._snapshot().plans)
        if name not in plans:
            near = get_close_matches(name, plans, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"there is no plan {name!r}; {hint}Plans: {', '.join(plans) or 'none'}")

    def _warnings(self, tenant: Tenant, test: bool) -> list[str]:
        plan = self._snapshot().plans.get(tenant.plan)
        if plan is None:
            return [f"plan {tenant.plan} of tenant {tenant.name} is not defined; its requests will be refused"]
        if test and plan.test_keys is None:
            return [f"plan {plan.name} has no test_keys; requests with this key will be refused"]
        return []


def _access_state(text: str) -> AccessState:
    try:
        return AccessState(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an access state; write one of {', '.join(AccessState)}") from None


def _duration(text: str, what: str, *, least: int = 0) -> int:
    duration = 0 if text == "0" else parse_duration_ns(text)
    if not least <= duration <= _CENTURY_NS:
        raise ValueError(f"{what} is {text}; write {'more than 0 and ' if least else ''}at most 5200w")
    return duration
