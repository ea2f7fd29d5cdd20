"""The tables of ``sidecar.yaml``: every key, its kind, its default and its meaning."""

from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.config import network, policies
from sidecar.config.kinds import BOOLEAN, ScalarKind, SecretKind, choice, duration, integer, name, size, text
from sidecar.config.reading import Scalar, quoted
from sidecar.config.tables import Field, Group, ListOf, MapOf, Record, Table
from sidecar.core.policy import (
    Admin,
    ApiKeySettings,
    Breaker,
    ClientBounds,
    Health,
    Identity,
    JournalSettings,
    JwtIssuer,
    Upstream,
    UpstreamJwt,
)

MS, S, MINUTE, HOUR, DAY = 10**6, 10**9, 60 * 10**9, 3600 * 10**9, 86_400 * 10**9
HMAC = ("HS256", "HS384", "HS512")
ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_WAIT = duration(MS, HOUR)
_PATH = text("a path", r"/[!-~]*", hint="one that starts with /, such as /healthz")


def _parse_limits(scalar: Scalar) -> str:
    if scalar.text != "local":
        scheme = quoted(scalar.text.partition(":")[0]) if "://" in scalar.text else "this"  # a URL may hold a password
        raise ValueError(f"{scheme} is not available; this version supports local")
    return scalar.text


_LIMITS = ScalarKind("local", _parse_limits, {"type": "string", "enum": ["local"]})
_CLAIM = text("a claim's name")
_FILE = text("a path of a file or folder", most=1000)


def _make_peppers(peppers: Sequence[tuple[str, str]]) -> dict[str, str]:
    ids = [id for id, _ in peppers]
    twice = next((id for id in ids if ids.count(id) > 1), None)
    if twice is not None:
        raise ValueError(f'two peppers have the id "{twice}"; write each once')
    return dict(peppers)


def _make_pepper(id: str, secret: str) -> tuple[str, str]:
    return id, secret


def _split_pepper(pepper: tuple[str, str]) -> Mapping[str, Any]:
    return {"id": pepper[0], "secret": pepper[1]}


class _Peppers(ListOf):
    """A list of peppers, kept as a mapping of id to secret; the first makes new digests."""

    __slots__ = ()

    def show(self, value: Mapping[str, str]) -> Any:
        return [self.item.show(pair) for pair in value.items()]


def _make_issuer(algorithms: tuple[str, ...] | None = None, secret: str | None = None, **known: Any) -> JwtIssuer:
    jwks = known.get("jwks_url")
    if (jwks is None) == (secret is None):
        raise ValueError("write either jwks, for asymmetric algorithms, or secret, for HMAC ones")
    chosen = algorithms or (("HS256",) if secret is not None else ("RS256", "ES256", "EdDSA"))
    wrong = [algorithm for algorithm in chosen if (algorithm in HMAC) != (secret is not None)]
    if wrong and len(wrong) < len(chosen):
        raise ValueError("algorithms mixes HMAC and asymmetric ones, so that a public key could be used as a secret")
    if wrong:
        fits = HMAC if secret is not None else ASYMMETRIC
        given = "secret" if secret is not None else "jwks"
        raise ValueError(f"{wrong[0]} does not go with {given}; write algorithms such as {fits[0]}")
    return JwtIssuer(algorithms=chosen, secret=secret, **known)


def _make_health(path: str, every_ns: int, timeout_ns: int) -> Health:
    if timeout_ns > every_ns:
        raise ValueError("timeout is longer than every; checks would overlap, write a shorter timeout")
    return Health(path, every_ns, timeout_ns)


def _make_journal(**known: Any) -> JournalSettings:
    journal = JournalSettings(**known)
    if journal.max_bytes < 2 * journal.segment_bytes:
        raise ValueError("max has no room for two segments; write a larger max or a smaller segment")
    return journal


ADMIN = Table(
    "admin",
    "The operators' own listener: metrics, probes, the API that the commands use.",
    Admin,
    (
        Field(
            "listen",
            network.LISTEN,
            "Where operators and Prometheus connect; keep it off the public network.",
            "host port",
        ),
        Field(
            "token",
            SecretKind(16, may_be_empty=True),
            "What operators show as `Authorization: Bearer`.",
            absent="made at first start, kept in the data folder",
        ),
        Field("hosts", ListOf(network.HOST_VALUE, "host names"), "`Host` values allowed besides the listener's own."),
    ),
)
TIMEOUTS = Table(
    "timeouts",
    "How long the upstream may take.",
    Upstream,
    (
        Field("connect", _WAIT, "To open a connection, TLS included.", "connect_timeout_ns"),
        Field("first_byte", _WAIT, "From the request's last byte to the reply's first.", "first_byte_timeout_ns"),
        Field("idle", _WAIT, "Between two reads of a reply's body.", "idle_timeout_ns"),
        Field("keepalive", _WAIT, "How long an idle connection is kept.", "keepalive_ns"),
    ),
)
HEALTH = Table(
    "health",
    "An active check of every target; 2xx and 3xx are healthy.",
    _make_health,
    (
        Field("path", _PATH, "What to GET.", required=True),
        Field("every", duration(100 * MS, HOUR), "How often.", "every_ns", default=5 * S),
        Field("timeout", duration(10 * MS, HOUR), "How long an answer may take.", "timeout_ns", default=2 * S),
    ),
)
BREAKER = Table(
    "breaker",
    "Leaves a target alone that keeps failing.",
    Breaker,
    (
        Field("failures", integer(1, 10_000), "Failures in a row that open it."),
        Field("open_for", duration(100 * MS, HOUR), "How long it stays open before one request probes.", "open_for_ns"),
    ),
)
UPSTREAM = Table(
    "upstream",
    "An API that is protected.",
    Upstream,
    (
        Field(
            "targets",
            ListOf(network.TARGET, "origins such as [http://127.0.0.1:9000]", least=1, most=256),
            "Its origins; no path, the request's own is passed on byte for byte.",
            required=True,
        ),
        Field("timeouts", Group(TIMEOUTS), "How long it may take."),
        Field("max_connections", integer(1, 65_536), "Connections per target."),
        Field("max_waiting", integer(0, 1_000_000), "Requests that may wait for a connection; one more gets 503."),
        Field("preserve_host", BOOLEAN, "Pass the client's `Host` on instead of the target's."),
        Field("allow_link_local", BOOLEAN, "Allow link-local and cloud metadata addresses as targets."),
        Field("health", Record(HEALTH), "An active check.", absent="none: only failing calls are noticed"),
        Field("breaker", Record(BREAKER), "When to leave a failing target alone."),
    ),
)
PEPPER = Table(
    "pepper",
    "A secret that the digests of API keys are made with.",
    _make_pepper,
    (
        Field("id", name("a short name"), "Stored with each key, so that peppers can be rotated.", required=True),
        Field("secret", SecretKind(16), "The secret.", required=True),
    ),
    _split_pepper,
)
API_KEY = Table(
    "api_key",
    "How API keys are carried and checked.",
    ApiKeySettings,
    (
        Field("header", network.FIELD_NAME, "The header that carries a key."),
        Field("bearer", BOOLEAN, "Also take keys from `Authorization: Bearer`."),
        Field(
            "query",
            text("a parameter's name", r"[A-Za-z0-9._-]+", hint="letters, digits, dots, dashes and underscores"),
            "Also take keys from this query parameter. URLs end up in logs: only where nothing else works.",
            absent="off",
        ),
        Field(
            "brand",
            text("a short prefix", r"[a-z][a-z0-9]{0,15}", hint="lower-case letters and digits, at most 16", most=16),
            "What new keys start with.",
        ),
        Field("strip", BOOLEAN, "Take the key out of the request before it goes upstream."),
        Field(
            "peppers",
            _Peppers(Record(PEPPER), "peppers, each {id, secret}", make=_make_peppers, least=1, most=16),
            "The first makes new digests, the others still check old ones.",
            absent="one is made at first start, kept in the data folder",
        ),
        Field(
            "cache",
            duration(S, 30 * S),
            "How long a key that was found is trusted; a key that is revoked works no longer than this.",
            "cache_ns",
        ),
    ),
)


def _parse_leeway(ns: int) -> int:
    if ns % S:
        raise ValueError("leeway is kept in whole seconds; write one such as 30s")
    return ns // S


_LEEWAY = duration(0, MINUTE)
JWT = Table(
    "jwt",
    "Whose tokens are accepted. Tokens need exp, iat, iss, aud and sub.",
    _make_issuer,
    (
        Field("issuer", text("an issuer", most=500), "The `iss` that tokens carry.", required=True),
        Field("audience", text("an audience", most=500), "The `aud` that tokens carry.", required=True),
        Field(
            "jwks", network.JWKS_URL, "Where the issuer's public keys are.", "jwks_url", absent="write this or secret"
        ),
        Field("secret", SecretKind(32), "The shared secret of HMAC algorithms.", absent="write this or jwks"),
        Field(
            "algorithms",
            ListOf(choice(*ASYMMETRIC, *HMAC), "algorithms such as [RS256]", least=1),
            "What may sign: all asymmetric or all HMAC.",
            absent="RS256, ES256, EdDSA with jwks; HS256 with secret",
        ),
        Field("tenant_claim", _CLAIM, "The claim that names the tenant.", required=True),
        Field("plan_claim", _CLAIM, "The claim that names the plan.", absent="the plan of the stored tenant"),
        Field("scope_claim", _CLAIM, "The claim that lists scopes, a text with spaces or a list.", default="scope"),
        Field(
            "leeway",
            ScalarKind(
                "a duration in whole seconds, 0s to 1m",
                lambda scalar: _parse_leeway(_LEEWAY.parse(scalar)),
                _LEEWAY.json,
                lambda seconds: f"{seconds}s",
            ),
            "How far clocks may differ.",
            "leeway_s",
            default=30,
        ),
    ),
)
UPSTREAM_JWT = Table(
    "upstream_jwt",
    "A short-lived signed identity for the upstream (EdDSA; its public key is at /_sidecar/jwks.json).",
    UpstreamJwt,
    (
        Field("header", network.FIELD_NAME, "The header that carries it."),
        Field("audience", text("an audience"), "Its `aud`."),
        Field("issuer", text("an issuer"), "Its `iss`."),
        Field("ttl", duration(5 * S, HOUR), "How long it is valid.", "ttl_ns"),
    ),
)
IDENTITY = Table(
    "identity",
    "How callers say who they are.",
    Identity,
    (
        Field("api_key", Record(API_KEY), "API keys."),
        Field(
            "jwt",
            ListOf(Record(JWT), "issuers, each {issuer, audience, jwks, tenant_claim}", most=64, single=True),
            "JSON Web Tokens: one issuer or a list.",
        ),
        Field("upstream_jwt", Record(UPSTREAM_JWT), "Sign who calls, for the upstream.", absent="off"),
    ),
)
BOUNDS = Table(
    "bounds",
    "What a client may make this process hold.",
    ClientBounds,
    (
        Field("max_request_line", size(256, 2**20), "Of the request line; more gets 414."),
        Field("max_headers", integer(1, 10_000), "Header lines; more gets 431."),
        Field("max_header_bytes", size(1024, 2**24), "Of the whole head; more gets 431."),
        Field("max_body", size(0, 2**50), "Of a request's body; more gets 413."),
        Field(
            "header_timeout",
            _WAIT,
            "From a request's first byte to the end of its head; then 408.",
            "header_timeout_ns",
        ),
        Field("body_timeout", _WAIT, "Silence in the middle of a body; then 408.", "body_timeout_ns"),
        Field("keepalive", _WAIT, "Silence between two requests; then the connection is closed.", "keepalive_ns"),
        Field("max_connections", integer(1, 1_000_000), "Connections of clients in all."),
        Field("max_connections_per_ip", integer(1, 1_000_000), "Connections of one address."),
        Field("max_pipelined", integer(1, 1000), "Requests of one connection that may wait for their turn."),
        Field("buffer", size(4096, 2**28), "Bytes held per direction before the sender is paused."),
    ),
)
JOURNAL = Table(
    "journal",
    "Where usage is written down before the last byte of a reply is sent.",
    _make_journal,
    (
        Field(
            "durability",
            choice("process", "group", "sync"),
            "`process` survives the end of this process, `group` is on the disk every few milliseconds, `sync` lets "
            "the end of a reply wait for the disk.",
            default="process",
        ),
        Field(
            "group", duration(MS, 10 * S), "How often `group` and `sync` write to the disk.", "group_ns", default=5 * MS
        ),
        Field("segment", size(2**16, 2**30), "Of one file of the journal.", "segment_bytes", default=16 * 2**20),
        Field("max", size(2**17, 2**44), "Of all that is not in the ledger yet.", "max_bytes", default=2**30),
        Field(
            "on_full",
            choice("deny", "serve_unbilled"),
            "When `max` is reached: answer 503, or serve without writing down.",
            default="deny",
        ),
    ),
)
TOP = (
    Field("listen", network.LISTEN, "Where clients connect.", "listen_host listen_port", default=("0.0.0.0", 8080)),  # noqa: S104
    Field("admin", Record(ADMIN), "The operators' own listener.", default=Admin()),
    Field("data", _FILE, "The folder of everything that must survive. Relative to this file.", default="data"),
    Field(
        "storage",
        text("a store", most=1000),
        "Tenants, keys and the ledger. This version supports `sqlite:///` and a path: three slashes for one relative "
        "to this file, four for an absolute one.",
        absent="`sidecar.db` in the data folder",
    ),
    Field(
        "limits",
        _LIMITS,
        "Where limits are counted. This version supports `local`.",
        default="local",
    ),
    Field(
        "policies",
        ListOf(_FILE, "files and folders such as [policies/]", single=True, most=1000),
        "Files and folders of policies, relative to this file; of a folder, all `*.yaml` and `*.yml` by name.",
        absent="`policies/` where that folder exists",
    ),
    Field(
        "upstreams",
        MapOf(UPSTREAM, name("an upstream's name"), "upstreams by name, each {targets: [...]}", most=10_000),
        "The APIs that are protected, by name.",
        absent="the one of `--upstream`",
    ),
    Field("identity", Record(IDENTITY), "How callers say who they are.", default=Identity()),
    Field("bounds", Record(BOUNDS), "What a client may make this process hold.", default=ClientBounds()),
    Field("journal", Record(JOURNAL), "Where usage is written down first.", default=JournalSettings()),
    Field(
        "trusted_proxies",
        ListOf(network.CIDR, "ranges such as [10.0.0.0/8]"),
        "Peers whose `X-Forwarded-*` headers are believed.",
        default=(),
    ),
    Field(
        "drain", duration(0, HOUR), "How long calls in flight may take to end at a stop.", "drain_ns", default=30 * S
    ),
    Field(
        "keep_events",
        duration(HOUR, 3660 * DAY),
        "How long single events are kept in the ledger; their sums stay.",
        "raw_events_ns",
        default=30 * DAY,
    ),
)
SIDECAR = Table("sidecar.yaml", "How this process runs. Policies may stand here too.", dict, (*TOP, *policies.TOP))
POLICIES = Table("policies/*.yaml", "What callers may do and what they pay; one file or several.", dict, policies.TOP)
TABLES = (ADMIN, UPSTREAM, TIMEOUTS, HEALTH, BREAKER, IDENTITY, API_KEY, PEPPER, JWT, UPSTREAM_JWT, BOUNDS, JOURNAL)
