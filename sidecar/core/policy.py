"""The policy snapshot: everything the configuration says, compiled once, immutable, swapped by one reference.

``sidecar.config`` is the only maker of these; a request keeps the snapshot it started with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from sidecar.core.billing_settings import Billing
from sidecar.core.edges import AddressRules, Cors, FieldRules
from sidecar.core.listening import AccessLogSettings, Tls
from sidecar.core.money import Money
from sidecar.core.origin import Origin as Origin
from sidecar.core.periods import Cycle
from sidecar.core.spend_cap import SpendCap as SpendCap
from sidecar.core.upstreams import Upstream
from sidecar.core.values import Tenant

LOCAL_SHARE = 10  # percent of a limit, while nobody counts for all nodes


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``limit`` units in every interval of ``window_ns``, per combination of ``scope``.

    Scope parts: ``tenant``, ``key``, ``route``, ``ip``, or ``header:<lower-case name>``. ``key`` implies its tenant.
    ``mode``: ``enforce``, or ``shadow``: counted and reported, never enforced. ``exact``, ``on_store_error`` and
    ``local_share`` count where nodes share the limit; docs/limits.md says how.
    """

    name: str
    limit: int
    window_ns: int
    scope: tuple[str, ...] = ("tenant",)
    origin: Origin = field(default=Origin(), compare=False)
    exact: bool = False
    on_store_error: str = "local"
    local_share: int = LOCAL_SHARE
    mode: str = "enforce"


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most ``limit`` requests in flight per combination of ``scope``; everything else as in Limit."""

    name: str
    limit: int
    scope: tuple[str, ...] = ("tenant",)
    origin: Origin = field(default=Origin(), compare=False)
    mode: str = "enforce"
    on_store_error: str = "local"
    local_share: int = 10


@dataclass(frozen=True, slots=True)
class Quota:
    """At most ``limit`` of ``meter`` per ``period`` and tenant.

    ``period``: hour, day, week, month of the calendar in ``time_zone``, or ``billing``: the tenant's own.
    ``overage``: ``block`` refuses, ``allow`` lets pass, ``bill`` lets pass and is priced as overage. ``thresholds``: at
    which shares of the limit, in percent, somebody is told; ascending. ``estimate``: what a request holds of a meter
    that is known only at its end, None for nothing. ``mode``, ``on_store_error`` and ``local_share`` are as in Limit.
    """

    name: str
    meter: str
    limit: int
    period: str
    overage: str = "block"
    origin: Origin = field(default=Origin(), compare=False)
    time_zone: str = "UTC"
    mode: str = "enforce"
    thresholds: tuple[int, ...] = (50, 80, 100, 120)
    estimate: int | None = None
    on_store_error: str = "deny"
    local_share: int = LOCAL_SHARE

    def cycle(self, billing: str) -> str:
        """The text of the cycle (core.periods) that it is counted by; ``billing``: that of the tenant's own."""
        return billing if self.period == "billing" else Cycle(self.period, self.time_zone).text


@dataclass(frozen=True, slots=True)
class Tier:
    """A step of a price: units up to ``up_to`` (None: all the rest) cost ``amount`` per ``per`` of them, and reaching
    the step costs ``flat`` once."""

    up_to: int | None
    amount: Money
    per: int = 1
    flat: Money | None = None


@dataclass(frozen=True, slots=True)
class MeterPrice:
    """What a meter costs per period. ``mode``:

    ``per_unit``: ``included`` are free, every unit after that costs ``amount / per``, exactly. ``package``: every
    started ``per`` costs ``amount``, nothing is included. ``graduated``: each unit costs what the tier says in which it
    lies. ``volume``: all units cost what the tier says in which the last one lies. The last tier has no end. ``dear``:
    whoever wrote it means that a unit costs more than units of its kind do (config.checks.prices).
    """

    meter: str
    included: int
    per: int
    amount: Money
    mode: str = "per_unit"
    tiers: tuple[Tier, ...] = ()
    dear: bool = False


@dataclass(frozen=True, slots=True)
class Price:
    """What a tenant pays for a calendar month: ``base`` plus each meter's price."""

    base: Money
    meters: tuple[MeterPrice, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a tenant has bought. ``test_keys`` names the plan whose limits the tenant's test keys get. ``prepaid``:
    calls that cost something need credits."""

    name: str
    limits: tuple[Limit, ...] = ()
    concurrency: tuple[Concurrency, ...] = ()
    quotas: tuple[Quota, ...] = ()
    features: frozenset[str] = frozenset()
    price: Price | None = None
    test_keys: str | None = None
    upgrade: str | None = None  # a URL or a sentence shown with a refusal: the way out
    origin: Origin = field(default=Origin(), compare=False)
    spend_cap: SpendCap | None = None
    prepaid: bool = False

    @property
    def policies(self) -> tuple[Limit | Concurrency | Quota, ...]:
        """Everything that can refuse, in the order of the decision."""
        return (*self.limits, *self.concurrency, *self.quotas)


@dataclass(frozen=True, slots=True)
class Extract:
    """Where a value stands in a reply. ``places``: where to look, one or more of ``header``, ``trailer``, ``json``,
    ``sse``, ``ndjson``; of the last three the reply's Content-Type decides which one applies.

    ``name``: the header's or trailer's, lower-case. ``path``: the steps into a JSON document, texts and indexes.
    ``take``: which of the values of a stream of events counts: ``last``, ``sum`` or ``max``.
    """

    places: tuple[str, ...]
    name: str = ""
    path: tuple[str | int, ...] = ()
    take: str = "last"


@dataclass(frozen=True, slots=True)
class Multiply:
    """A factor by the value that another field of the same reply has; ``otherwise`` None: other values are anomalies.

    ``extract`` reads the field; its ``take`` is ``last``. Factors are exact; the product is rounded once.
    """

    extract: Extract
    factors: Mapping[str, Fraction]
    otherwise: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Meter:
    """What is counted. ``count``: requests, units, bytes_in, bytes_out, upstream_ms, connection_s, messages, or
    ``reply``: the value that ``extract`` finds in the reply.

    A reply without the value counts as ``default``, or, without one, as an anomaly. ``statuses``: the status classes
    (2 for 2xx) that count; ``routes`` None means every route.
    """

    name: str
    count: str
    extract: Extract | None = None
    multiply: Multiply | None = None
    default: int | None = None
    statuses: frozenset[int] = frozenset({2, 3})
    routes: frozenset[str] | None = None
    stripe_event: str | None = None  # the event name of the meter at Stripe; None: not reported
    stripe_window: str = "none"  # ``hour``: that meter keeps the newest total per hour; ``none``: it adds
    origin: Origin = field(default=Origin(), compare=False)


@dataclass(frozen=True, slots=True)
class Route:
    """Which requests go where, and what they weigh.

    ``path`` is a template: literal segments, ``{name}`` for one segment, ``{name...}`` last for the rest (may be
    empty). ``host`` None is any; ``*.example.com`` is any subdomain. ``methods`` None is any. ``auth``: ``required`` or
    ``none``; ``plan`` (only with ``auth: none``) names the plan whose limits anonymous callers get.
    ``on_disconnect``: what happens to the call when the client goes away: ``cancel`` it and charge nothing,
    ``partial``: cancel it and charge it, ``drain``: read the reply to its end and charge it.
    ``on_indeterminate``: what a call counts as whose end is never known, because the process was killed: ``free`` or
    ``bill`` (one request of these units); a call that had written progress counts as far as that. ``estimates``: meters
    and what a call here holds of them, instead of what a quota says.
    """

    name: str
    path: str
    upstream: str
    methods: frozenset[str] | None = None
    host: str | None = None
    units: int = 1
    estimates: tuple[tuple[str, int], ...] | None = None
    auth: str = "required"
    plan: str | None = None
    feature: str | None = None
    scopes: frozenset[str] = frozenset()
    on_disconnect: str = "partial"
    on_indeterminate: str = "free"
    max_body: int | None = None  # bytes; None: the listener's bound
    max_header_bytes: int | None = None  # bytes; None: the listener's bound
    strip_prefix: str | None = None  # taken off the beginning of the path, as the template begins
    rewrite: str | None = None  # put there instead
    request_headers: FieldRules | None = None
    response_headers: FieldRules | None = None
    cors: Cors | None = None  # None: as for all
    addresses: AddressRules | None = None  # besides those for all
    announce_latency: bool = False  # X-Request-Latency on replies
    announce_cost: bool = False  # X-Compute-Cost on replies
    budget: str = "ask"  # or ``ignore``: open whatever credits or a spend cap have left
    origin: Origin = field(default=Origin(), compare=False)


@dataclass(frozen=True, slots=True)
class Costs:
    """What serving costs us, as exact rates in units of ``currency``.

    ``memory_header`` names the reply field in which the upstream says how many bytes of memory the call took, for
    ``per_gib_s``: GiB of memory times seconds of upstream time. ``external_header`` names the one that holds what the
    call cost elsewhere, a decimal number of units of ``currency``. Both lower-case; they do not reach the client.
    ``buffer``: by what part of it the price floor is above the cost of a successful request.
    """

    currency: str = "USD"
    per_ms: Fraction = Fraction(0)  # of upstream time
    per_gib_in: Fraction = Fraction(0)
    per_gib_out: Fraction = Fraction(0)
    per_call: Fraction = Fraction(0)
    per_gib_s: Fraction = Fraction(0)
    memory_header: str | None = None
    external_header: str | None = None
    buffer: Fraction = Fraction(40, 100)


@dataclass(frozen=True, slots=True)
class JwtIssuer:
    """Whose tokens are accepted. ``algorithms`` are all asymmetric or all HMAC, never both."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    tenant_claim: str
    jwks_url: str | None = None
    secret: str | None = field(default=None, repr=False)  # for HMAC algorithms
    plan_claim: str | None = None
    scope_claim: str = "scope"
    leeway_s: int = 30


@dataclass(frozen=True, slots=True)
class ApiKeySettings:
    """How keys are carried.

    ``peppers`` maps id to secret, the first makes new digests; when empty, one is kept in the data folder.
    """

    header: str = "X-API-Key"
    bearer: bool = True
    query: str | None = None  # the name of a query parameter, off by default: URLs end up in logs
    brand: str = "sc"
    strip: bool = True  # the key is consumed, not shown to the upstream
    peppers: Mapping[str, str] = field(default_factory=dict, repr=False)
    cache_ns: int = 30_000_000_000
    stale_ns: int = 0  # how much longer an identity is trusted while the store does not answer


@dataclass(frozen=True, slots=True)
class UpstreamJwt:
    """The signed identity for the upstream: EdDSA, key in the data folder, JWKS at /_sidecar/jwks.json."""

    header: str = "X-Identity-Token"
    audience: str = "upstream"
    issuer: str = "sidecar"
    ttl_ns: int = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Identity:
    api_key: ApiKeySettings = ApiKeySettings()
    jwt: tuple[JwtIssuer, ...] = ()
    upstream_jwt: UpstreamJwt | None = None


@dataclass(frozen=True, slots=True)
class ClientBounds:
    """What a client may make us hold. Sizes in bytes, times in nanoseconds."""

    max_request_line: int = 16 * 1024
    max_headers: int = 100
    max_header_bytes: int = 64 * 1024
    max_body: int = 1024**3
    header_timeout_ns: int = 15_000_000_000
    body_timeout_ns: int = 30_000_000_000  # silence in the middle of a body
    body_rate: int = 100  # bytes a second over each body_timeout, of what is sent and of what is read
    keepalive_ns: int = 75_000_000_000
    max_connections: int = 20_000
    max_connections_per_ip: int = 10_000
    max_pipelined: int = 16
    buffer: int = 256 * 1024  # bytes held per direction before the sender is paused
    max_drain: int = 64 * 1024**2  # of a reply that is read on for a client that has gone
    drain_timeout_ns: int = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Admin:
    """``token`` None: made at first start and kept in the data folder. ``hosts``: Host values allowed too."""

    host: str = "127.0.0.1"
    port: int = 9901
    token: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """``durability``: ``process`` survives the process, ``group`` fsyncs every ``group_ns``, ``sync`` waits for it.

    ``max_bytes`` bounds what is not yet in the ledger; ``on_full``: ``deny`` (503) or ``serve_unbilled``.
    ``mark_ns``: how often a call that takes long writes its progress. ``ballast_bytes`` are kept on the disk to be let
    go when it is full, so that what was journalled can still be shipped; 0: none."""

    durability: str = "process"
    group_ns: int = 5_000_000
    segment_bytes: int = 4 * 1024**2
    max_bytes: int = 1024**3
    on_full: str = "deny"
    mark_ns: int = 5_000_000_000
    ballast_bytes: int = 32 * 1024**2


@dataclass(frozen=True, slots=True)
class Settings:
    """``sidecar.yaml``: how this process runs. ``data`` is the folder of everything that must survive."""

    listen_host: str = "0.0.0.0"  # noqa: S104 - a proxy listens to the network
    listen_port: int = 8080
    workers: int = 1  # processes that serve calls; with several a parent supervises them
    data: str = "data"
    storage: str = field(default="sqlite:///data/sidecar.db", repr=False)  # a URL may hold a password
    limits: str = field(default="local", repr=False)  # a URL may hold a password
    admin: Admin = Admin()
    identity: Identity = Identity()
    bounds: ClientBounds = ClientBounds()
    journal: JournalSettings = JournalSettings()
    trusted_proxies: tuple[str, ...] = ()  # CIDR
    proxy_protocol: bool = False  # connections of trusted proxies begin with it
    cors: Cors | None = None  # of routes without their own
    addresses: AddressRules | None = None  # of all routes
    tls: Tls | None = None  # of the listener; None: plain HTTP
    access_log: AccessLogSettings | None = None
    drain_ns: int = 30_000_000_000
    watch_ns: int = 0  # how often the files are looked at for changes; 0: never
    raw_events_ns: int = 30 * 86_400_000_000_000  # how long single events are kept
    minute_sums_ns: int = 400 * 86_400_000_000_000  # how long sums per minute are kept
    hour_sums_ns: int = 3660 * 86_400_000_000_000  # how long sums per hour are kept
    billing: Billing = field(default_factory=Billing)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it. Names are unique within their mapping; every reference between them has been checked."""

    settings: Settings = Settings()
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    meters: Mapping[str, Meter] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    plans: Mapping[str, Plan] = field(default_factory=dict)
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    costs: Costs = Costs()
