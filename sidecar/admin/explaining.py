"""Why would this request be refused, or pass? Every check and every policy in order, for operators."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Any

from sidecar.admin import shapes
from sidecar.admin.owners import tenant_named
from sidecar.admission import Admission, Asker, Explanation, Standing
from sidecar.core.accounts import AccountSource, billing_cycle, standing
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.edges import Ranges
from sidecar.core.errors import NotFound
from sidecar.core.policy import Limit, Origin, Quota, Route, Snapshot
from sidecar.core.ports import TenantStore
from sidecar.core.units import format_duration_ns
from sidecar.core.values import ApiKey, Principal, Tenant

_MAX_HEADERS = 32
_METHODS = 20  # characters


class Explainer:
    """``admission``: whose counters are looked at. ``live``: they are those that decide now; without, no sidecar runs
    here, and what is counted in process is empty. ``snapshot``: the policies in force."""

    def __init__(
        self,
        store: TenantStore,
        accounts: AccountSource | None,
        snapshot: Callable[[], Snapshot],
        admission: Callable[[], Admission],
        clock: Clock,
        *,
        live: bool,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._snapshot = snapshot
        self._admission = admission
        self._clock = clock
        self._live = live

    async def explain(
        self,
        *,
        route: str,
        tenant: str | None = None,
        method: str | None = None,
        key: str | None = None,
        test: str = "false",
        ip: str | None = None,
        header: Sequence[str] = (),
    ) -> dict[str, Any]:
        """What a request would be answered. ``header``: as they are sent (``X-Org: acme``); ``key``: an id; ``test``
        (``true``): any test key; neither: any live one. NotFound, ValueError, StoreError."""
        if test not in ("true", "false"):
            raise ValueError(f"test is {test[:40]!r}; write true or false")
        found, sandbox = self._route(route), test == "true"
        method = _method(method, found)
        asker = Asker(method, key is not None or found.auth == "none", _address(ip), _headers(header))
        public = {"route": found.name, "method": method, "units": found.units, "live": self._live}
        if found.auth == "none":
            if tenant is not None or key is not None or sandbox:
                raise ValueError(f"the route {found.name} has auth: none, so nobody is asked who calls; leave that out")
            said = await self._admission().explain(None, found, asker)
            return self._kept_out(public | {"tenant": None} | _shape(said, ()), found, asker.ip)
        if tenant is None:
            raise ValueError(f"the route {found.name} asks who calls; name a tenant")
        owner, source = await tenant_named(self._snapshot(), self._store, tenant)
        row = await self._key(owner, key)
        if row is not None and sandbox and not row.sandbox:
            raise ValueError(f"the key {key} is a live key; leave out test")
        principal, lines = await self._principal(owner, source, row, sandbox)
        said = await self._admission().explain(principal, found, asker)
        document = public | {"tenant": owner.name, "key": key, "test": principal.sandbox} | _shape(said, lines)
        ended = _ended(row, self._clock.wall_ns())
        return self._kept_out(document if ended is None else document | {"answer": ended}, found, asker.ip)

    def _kept_out(self, document: dict[str, Any], route: Route, ip: str | None) -> dict[str, Any]:
        """With what is decided by the caller's address, before anything else."""
        rules = [one for one in (self._snapshot().settings.addresses, route.addresses) if one is not None]
        if not rules:
            return document
        taken = ip is None or all(Ranges(one).admit(ip) for one in rules)
        says = f"calls from {ip} are {'taken' if taken else 'not taken'}" if ip else "it depends on the ip: say it"
        line = {"check": "address", "says": says, "code": None if taken else "address_denied"}
        document = document | {"checks": [line, *document["checks"]]}
        return document if taken else document | {"answer": {"status": 403, "code": "address_denied", "detail": says}}

    def _route(self, name: str) -> Route:
        routes = {route.name: route for route in self._snapshot().routes}
        if name not in routes:
            near = get_close_matches(name, routes, 1)
            hint = f"did you mean {near[0]}?" if near else f"routes: {', '.join(sorted(routes)[:20]) or 'none'}"
            raise NotFound(f"there is no route {name!r}; {hint}")
        return routes[name]

    async def _key(self, owner: Tenant, key: str | None) -> ApiKey | None:
        if key is None:
            return None
        row = await self._store.key(key)
        if row is None or row.tenant != owner.name:
            raise NotFound(f"the tenant {owner.name} has no key {key!r}")
        return row

    async def _principal(
        self, owner: Tenant, source: str, row: ApiKey | None, test: bool
    ) -> tuple[Principal, tuple[dict[str, Any], ...]]:
        account = None if self._accounts is None else await self._accounts.account(owner.name)
        stands = standing(owner, account)
        now = self._clock.wall_ns()
        says = f"{owner.name}, of the {source}"
        if account is not None:
            says += f"; by payment: {account.access}, plan {account.plan or 'its own'}"
        lines = [{"check": "tenant", "says": says, "code": None}]
        if row is not None:
            status = shapes.key_status(row, now)
            code = None if status == "active" else f"key_{status}"
            lines.append({"check": "key", "says": f"{row.id} ({row.name}), {status}", "code": code})
        scopes = None if row is None or row.scopes is None else frozenset(row.scopes)
        principal = Principal(
            owner.name,
            "" if row is None else row.id,
            stands.plan,
            stands.state,
            test if row is None else row.sandbox,
            scopes,
            None,
            billing_cycle(owner, account, now // NS_PER_S),
            owner.overrides,
        )
        return principal, tuple(lines)


def _shape(said: Explanation, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    standings = said.standings
    needed = sorted({part for one in standings for part in one.missing})
    answer = said.answer
    passes = {"status": None, "code": None, "detail": "It passes." if not needed else "It passes, as far as is known."}
    document: dict[str, Any] = {
        "plan": None if said.plan is None else said.plan.name,
        "plan_from": None if said.plan is None else _where(said.plan.origin),
        "checks": [*lines, *({"check": one.name, "says": one.says, "code": one.code} for one in said.checks)],
        "policies": [_policy(one) for one in standings],
        "say": needed,
        "store": None if said.shared is None else "answers" if said.shared else "does not answer",
        "answer": passes,
    }
    if answer is not None:
        found = answer.problem
        document["answer"] = {"status": found.status, "code": found.code, "detail": found.detail}
        retry = dict(found.headers).get("Retry-After")
        document["answer"]["retry_after_s"] = None if retry is None else int(retry)
    return document


def _policy(one: Standing) -> dict[str, Any]:
    policy, use = one.policy, one.use
    shared = one.leased is not None
    span = {}
    if isinstance(policy, Limit):
        span = {"window": format_duration_ns(policy.window_ns)}
    elif isinstance(policy, Quota):
        span = {"period": policy.period, "meter": policy.meter, "overage": policy.overage}
    return {
        "name": policy.name,
        "kind": one.kind,
        "mode": policy.mode,
        "scope": ["tenant"] if isinstance(policy, Quota) else list(policy.scope),
        "limit": policy.limit,
        **span,
        "bucket": one.bucket or None,
        "needs": list(one.missing),
        "used": None if use is None else use.used,
        "leased": one.leased,
        "remaining": None if use is None else use.remaining,
        "reset_s": None if use is None else use.reset_s,
        "on_store_error": policy.on_store_error if shared else None,
        "exact": policy.exact if shared and isinstance(policy, Limit) else None,
        "refuses": one.refuses or one.blind == "deny",
        "from": _where(policy.origin),
    }


def _where(origin: Origin) -> str:
    return f"{origin.file}:{origin.line}" if origin.line else origin.file


def _ended(row: ApiKey | None, now_ns: int) -> dict[str, Any] | None:
    status = "active" if row is None else shapes.key_status(row, now_ns)
    if status == "active":
        return None
    return {"status": 401, "code": f"key_{status}", "detail": f"The key is {status}; nothing else is asked."}


def _method(text: str | None, route: Route) -> str:
    if text is None:
        return min(route.methods) if route.methods and "GET" not in route.methods else "GET"
    if not (text.isascii() and text.isalpha() and text.isupper() and len(text) <= _METHODS):
        raise ValueError(f"{text[:40]!r} is no method; write one such as GET")
    if route.methods is not None and text not in route.methods and not (text == "HEAD" and "GET" in route.methods):
        raise ValueError(f"the route {route.name} takes {', '.join(sorted(route.methods))}, not {text}")
    return text


def _address(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError(f"{text[:60]!r} is no address; write one such as 192.0.2.1 or 2001:db8::1") from None


def _headers(lines: Sequence[str]) -> dict[str, str]:
    if len(lines) > _MAX_HEADERS:
        raise ValueError(f"more than {_MAX_HEADERS} headers; name those that limits have in their scope")
    found = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or not line.isprintable():
            raise ValueError(f"{line[:60]!r} is no header; write it as it is sent, such as 'X-Org: acme'")
        found[name.strip().lower()] = value.strip()
    return found
