"""The tables of ``sidecar.yaml``: every key, its kind, its default and its meaning."""

from typing import Any

from sidecar.config import billing, edges, identities, listening, network, policies, upstreams
from sidecar.config.kinds import BOOLEAN, SecretKind, choice, duration, integer, name, size, text
from sidecar.config.stores import LIMITS, STORE
from sidecar.config.tables import Field, ListOf, MapOf, Record, Table
from sidecar.core.billing_settings import Billing
from sidecar.core.policy import (
    Admin,
    ClientBounds,
    Identity,
    JournalSettings,
)

MS, S, MINUTE, HOUR, DAY = 10**6, 10**9, 60 * 10**9, 3600 * 10**9, 86_400 * 10**9
_WAIT = duration(MS, HOUR)


_FILE = text("a path of a file or folder", most=1000)


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
        Field(
            "body_rate",
            size(0, 2**30),
            "A second, at least, over each `body_timeout`: of a body that is sent (else 408), and of what a slow "
            "reader takes (else the connection is cut); `0B`: any.",
        ),
        Field("keepalive", _WAIT, "Silence between two requests; then the connection is closed.", "keepalive_ns"),
        Field("max_connections", integer(1, 1_000_000), "Connections of clients in all."),
        Field("max_connections_per_ip", integer(1, 1_000_000), "Connections of one address."),
        Field("max_pipelined", integer(1, 1000), "Requests of one connection that may wait for their turn."),
        Field("buffer", size(4096, 2**28), "Bytes held per direction before the sender is paused."),
        Field(
            "max_drain", size(0, 2**40), "Of a reply that `on_disconnect: drain` reads on for a client that has gone."
        ),
        Field("drain_timeout", _WAIT, "How long it reads on for a client that has gone.", "drain_timeout_ns"),
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
        Field("segment", size(2**16, 2**30), "Of one file of the journal.", "segment_bytes", default=2**22),
        Field("max", size(2**17, 2**44), "Of all that is not in the ledger yet.", "max_bytes", default=2**30),
        Field(
            "on_full",
            choice("deny", "serve_unbilled"),
            "When `max` is reached: answer 503, or serve without writing down.",
            default="deny",
        ),
        Field(
            "mark",
            duration(S, HOUR),
            "How often a stream or a tunnel writes down how far it is; a kill loses no more than this of it.",
            "mark_ns",
            default=5 * S,
        ),
        Field(
            "ballast",
            size(0, 2**34),
            "Kept on the disk, to be let go when it is full so that what is written can still be shipped.",
            "ballast_bytes",
            default=32 * 2**20,
        ),
    ),
)
TOP = (
    Field("listen", network.LISTEN, "Where clients connect.", "listen_host listen_port", default=("0.0.0.0", 8080)),  # noqa: S104
    Field("tls", Record(listening.TLS), "TLS on that listener.", absent="none: plain HTTP"),
    Field("admin", Record(ADMIN), "The operators' own listener.", default=Admin()),
    Field("data", _FILE, "The folder of everything that must survive. Relative to this file.", default="data"),
    Field(
        "storage",
        STORE,
        "Tenants, keys and the ledger: `sqlite:///` and a path (three slashes for one relative to this file, four for "
        "an absolute one), or `postgresql://user:${PG_PASSWORD}@host:5432/database`, or as a whole `${DATABASE_URL}`. "
        "`?sslmode=verify-full&sslrootcert=FILE` asks for TLS.",
        absent="`sidecar.db` in the data folder",
    ),
    Field(
        "limits",
        LIMITS,
        "Where limits are counted: `local`, in this process; or in Redis for all nodes: "
        "`redis://user:${REDIS_PASSWORD}@host:6379/0`, `redis+cluster://a,b`, `redis+sentinel://a,b/mymaster`, each "
        "with `rediss` for TLS, and then `?ca=FILE`.",
        default="local",
    ),
    Field(
        "workers",
        integer(1, 64),
        "Processes that serve calls. With more than one, a parent supervises them, counts limits for all of them and "
        "writes the ledger: see [workers](workers.md).",
        default=1,
    ),
    Field(
        "policies",
        ListOf(_FILE, "files and folders such as [policies/]", single=True, most=1000),
        "Files and folders of policies, relative to this file; of a folder, all `*.yaml` and `*.yml` by name.",
        absent="`policies/` where that folder exists",
    ),
    Field(
        "upstreams",
        MapOf(upstreams.UPSTREAM, name("an upstream's name"), "upstreams by name, each {targets: [...]}", most=10_000),
        "The APIs that are protected, by name.",
        absent="the one of `--upstream`",
    ),
    Field("identity", Record(identities.IDENTITY), "How callers say who they are.", default=Identity()),
    Field("billing", Record(billing.BILLING), "Who is asked for the money.", default=Billing()),
    Field("bounds", Record(BOUNDS), "What a client may make this process hold.", default=ClientBounds()),
    Field("journal", Record(JOURNAL), "Where usage is written down first.", default=JournalSettings()),
    Field("access_log", Record(listening.ACCESS_LOG), "What is noted of each call.", absent="none"),
    Field(
        "proxy_protocol",
        BOOLEAN,
        "Whether connections of `trusted_proxies` begin with the PROXY protocol, version 1 or 2; all of them must.",
        default=False,
    ),
    Field("cors", Record(edges.CORS), "Pages of other origins, on every route without its own.", absent="none"),
    Field("addresses", Record(edges.ADDRESSES), "From where calls to any route may come.", absent="from everywhere"),
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
        "watch",
        duration(0, HOUR),
        "How often the files are looked at, to be taken when they have changed and are good; `0s`: never.",
        "watch_ns",
        default=0,
    ),
    Field(
        "keep_events",
        duration(HOUR, 3660 * DAY),
        "How long single events are kept in the ledger; their sums stay.",
        "raw_events_ns",
        default=30 * DAY,
    ),
    Field(
        "keep_minutes",
        duration(40 * DAY, 3660 * DAY),
        "How long sums per minute are kept; sums per hour stay.",
        "minute_sums_ns",
        default=400 * DAY,
    ),
    Field(
        "keep_hours",
        duration(400 * DAY, 36600 * DAY),
        "How long sums per hour are kept.",
        "hour_sums_ns",
        default=3660 * DAY,
    ),
)
SIDECAR = Table("sidecar.yaml", "How this process runs. Policies may stand here too.", dict, (*TOP, *policies.TOP))
POLICIES = Table("policies/*.yaml", "What callers may do and what they pay; one file or several.", dict, policies.TOP)
TABLES = (
    ADMIN,
    *upstreams.TABLES,
    *identities.TABLES,
    *billing.TABLES,
    *listening.TABLES,
    BOUNDS,
    JOURNAL,
)
