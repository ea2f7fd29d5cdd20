"""The policy snapshot as the lane uses it: compiled once, swapped by one reference; a request keeps the one it met."""

import ipaddress
from collections.abc import Mapping

from sidecar.core.policy import Route, Settings, Snapshot
from sidecar.core.problems import Problem, problem
from sidecar.core.records import meters_fragment
from sidecar.core.upstreams import Upstream
from sidecar.gateway.cors import UPSTREAM_FIELDS, CorsRules
from sidecar.gateway.fields import FieldEdits
from sidecar.gateway.guards import Guard
from sidecar.gateway.paths import PathEdit
from sidecar.gateway.routes import Router
from sidecar.http1 import RequestHead, RequestReader, read_path
from sidecar.identity import Finder
from sidecar.metering import CostModel, RouteMeters, compile_meters
from sidecar.upstream import UpstreamPool

# Routes of this many distinct (method, host, raw path) are remembered, each of at most 1 KiB: at most 8 MiB. Then the
# memory starts anew, so that a scan of paths costs look-ups and not memory.
_REMEMBERED = 8192
_REMEMBERED_BYTES = 1024
_LONGEST_METHOD = 64


class RoutePlan:
    """A route with what its calls need.

    ``cors``, ``guard``, ``paths``, ``reply_edits`` and ``request_edits`` are None where the policy says nothing of the
    kind. ``watches``: some meter reads its replies. ``assumed``: the meters of a call whose end is never known,
    encoded; None where it is free.
    """

    __slots__ = (
        "announce",
        "assumed",
        "cors",
        "drain",
        "guard",
        "max_body",
        "meters",
        "paths",
        "pool",
        "preserve_host",
        "public",
        "reply_edits",
        "request_edits",
        "route",
        "total_ns",
        "watches",
    )

    def __init__(self, route: Route, pool: UpstreamPool, meters: RouteMeters, snapshot: Snapshot) -> None:
        bounds = snapshot.settings.bounds
        counted = [m for m in snapshot.meters.values() if m.routes is None or route.name in m.routes]
        self.route = route
        self.watches = any(meter.extract is not None for meter in counted)
        self.assumed: bytes | None = None
        if route.on_indeterminate == "bill":
            fixed = {meter.name for meter in counted if meter.count in ("requests", "units")}
            values, _ = meters.charge(200, route.units, 0, 0, 0)
            self.assumed = meters_fragment({name: value for name, value in values.items() if name in fixed})
        self.pool = pool
        self.meters = meters
        self.max_body = bounds.max_body if route.max_body is None else route.max_body
        self.public = route.auth == "none"
        self.announce = route.announce_latency or route.announce_cost
        self.drain = route.on_disconnect == "drain"
        self.preserve_host = pool.upstream.preserve_host
        self.total_ns = pool.upstream.total_timeout_ns or 0
        self._shape(route, pool.upstream, snapshot.settings)

    def _shape(self, route: Route, upstream: Upstream, settings: Settings) -> None:
        """What is done to a call at its edges."""
        addresses = tuple(rule for rule in (settings.addresses, route.addresses) if rule is not None)
        guarded = addresses or route.max_header_bytes is not None
        self.guard: Guard | None = Guard(addresses, route.max_header_bytes) if guarded else None
        strip, put = route.strip_prefix or "", (upstream.path_prefix or "") + (route.rewrite or "")
        self.paths: PathEdit | None = PathEdit(strip, put) if strip or put else None
        cors = route.cors or settings.cors
        key_header = settings.identity.api_key.header
        self.cors: CorsRules | None = None if cors is None else CorsRules(cors, route.methods, key_header)
        asked = FieldEdits((upstream.request_headers, route.request_headers))
        self.request_edits: FieldEdits | None = None if asked.idle else asked
        dropped = UPSTREAM_FIELDS if cors is not None else frozenset[bytes]()
        told = FieldEdits((upstream.response_headers, route.response_headers), dropped)
        self.reply_edits: FieldEdits | None = None if told.idle else told


class Rules:
    """Everything the configuration decides about a request."""

    __slots__ = (
        "_memory",
        "_preflights",
        "_router",
        "bounds",
        "brand",
        "cors",
        "costs",
        "finder",
        "key_header",
        "key_in_query",
        "reader",
        "snapshot",
        "strip_key",
        "tls",
        "trusted",
    )

    def __init__(self, snapshot: Snapshot, pools: Mapping[str, UpstreamPool]) -> None:
        identity = snapshot.settings.identity
        own: tuple[str, ...] = () if identity.upstream_jwt is None else (identity.upstream_jwt.header,)
        self.tls = snapshot.settings.tls
        if self.tls is not None and self.tls.client_ca is not None:
            own += ("Client-Cert", "Client-Cert-Chain")  # RFC 9440, 3: never from a client
        meters = compile_meters(snapshot)
        self.snapshot = snapshot
        self.bounds = snapshot.settings.bounds
        self.reader = RequestReader(identity.api_key.header, own)
        self.finder = Finder(identity)
        self.strip_key = identity.api_key.strip
        self.brand = f"{identity.api_key.brand}_".encode()
        self.key_in_query = identity.api_key.query is not None
        self.key_header = identity.api_key.header.encode()
        self.costs = CostModel(snapshot.costs)
        self.trusted = tuple(ipaddress.ip_network(text) for text in snapshot.settings.trusted_proxies)
        self._router: Router[RoutePlan] = Router(
            (route, RoutePlan(route, pools[route.upstream], meters[route.name], snapshot)) for route in snapshot.routes
        )
        everyone = snapshot.settings.cors
        self.cors = None if everyone is None else CorsRules(everyone, None, identity.api_key.header)
        self._preflights = everyone is not None or any(route.cors is not None for route in snapshot.routes)
        self._memory: dict[tuple[bytes, bytes, bytes], RoutePlan] = {}

    def recall(self, method: bytes, host: bytes, path: bytes) -> RoutePlan | None:
        """The route of a request that was routed before: one look-up."""
        return self._memory.get((method, host, path))

    def find(self, method: bytes, host: bytes, path: bytes) -> RoutePlan | Problem | None:
        """The route, None without one, or why the path cannot be judged. ``path`` is raw and may be ``*``."""
        meaning = read_path(path)
        plan = self._router.match(method, host, meaning.path)
        if meaning.other is not None and self._router.match(method, host, meaning.other) is not plan:
            return problem("bad_request", "the path can be read in two ways that different policies apply to")
        if plan is not None and plan.paths is not None and not plan.paths.fits(path):
            return problem("bad_request", "the path can be read in two ways, so that its beginning cannot be replaced")
        if method == b"OPTIONS" and self._preflights:
            return plan  # not remembered: it may be a preflight, which is looked at first
        if plan is not None and len(path) + len(host) <= _REMEMBERED_BYTES:
            if len(self._memory) >= _REMEMBERED:
                self._memory.clear()
            self._memory[method, host, path] = plan
        return plan

    def preflight(self, head: RequestHead) -> RoutePlan | None:
        """The route that a preflight asks about (Fetch, 4.8), where CORS is answered for it; None for other calls."""
        if head.method != b"OPTIONS" or not self._preflights or head.field(b"origin") is None:
            return None
        wanted = head.field(b"access-control-request-method")
        if wanted is None or len(wanted) > _LONGEST_METHOD:
            return None
        plan = self.find(wanted, head.host, head.path)
        return plan if isinstance(plan, RoutePlan) and plan.cors is not None else None

    def methods(self, host: bytes, path: bytes) -> set[bytes]:
        """The methods that would match at this raw path."""
        return self._router.methods(host, read_path(path).path)
