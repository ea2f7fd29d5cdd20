"""The tables of ``upstreams:`` in ``sidecar.yaml``."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from sidecar.config import network
from sidecar.config.edges import PREFIX, REQUEST_HEADERS, RESPONSE_HEADERS
from sidecar.config.kinds import BOOLEAN, Schema, choice, duration, integer, text
from sidecar.config.listening import PEM_FILE
from sidecar.config.reading import Reading
from sidecar.config.tables import Field, Group, ListOf, Record, Table
from sidecar.config.tree import Node
from sidecar.core.upstreams import Breaker, Health, Retries, Target, Upstream, UpstreamTls


@dataclass(frozen=True, slots=True)
class TargetKind:
    """An origin, or a mapping of an origin and its weight."""

    words: str = network.TARGET.words

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        return (Record(TARGET) if node.kind == "map" else network.TARGET).read(node, path, reading)

    def schema(self) -> Schema:
        return {"anyOf": [network.TARGET.schema(), Record(TARGET).schema()]}

    def show(self, value: Target) -> Any:
        return str(value) if value.weight == 1 else {"url": str(value), "weight": value.weight}


MS, S, HOUR, DAY = 10**6, 10**9, 3600 * 10**9, 86_400 * 10**9
_WAIT = duration(MS, HOUR)
_PATH = text("a path", r"/[!-~]*", hint="one that starts with /, such as /healthz")


def _make_health(path: str, every_ns: int, timeout_ns: int, fails: int, passes: int) -> Health:
    if timeout_ns > every_ns:
        raise ValueError("timeout is longer than every; checks would overlap, write a shorter timeout")
    return Health(path, every_ns, timeout_ns, fails, passes)


TIMEOUTS = Table(
    "timeouts",
    "How long the upstream may take.",
    Upstream,
    (
        Field("connect", _WAIT, "To open a connection, TLS included.", "connect_timeout_ns"),
        Field("first_byte", _WAIT, "From the request's last byte to the reply's first.", "first_byte_timeout_ns"),
        Field("idle", _WAIT, "Between two reads of a reply's body.", "idle_timeout_ns"),
        Field(
            "total",
            duration(MS, DAY),
            "From the sending of a request to the end of its reply; a WebSocket is not bound by it.",
            "total_timeout_ns",
            absent="none",
        ),
        Field(
            "queue",
            _WAIT,
            "How long a call may wait for a connection; then it gets 503.",
            "queue_timeout_ns",
            absent="as `first_byte`",
        ),
        Field("tunnel", duration(MS, DAY), "Silence of both sides of a WebSocket.", "tunnel_timeout_ns"),
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
        Field("fails", integer(1, 100), "Checks in a row that must fail until a target gets no calls.", default=2),
        Field("passes", integer(1, 100), "Checks in a row that must succeed until it gets calls again.", default=1),
    ),
)


def _make_breaker(**known: Any) -> Breaker:
    breaker = Breaker(**known)
    if breaker.longest_ns < breaker.open_for_ns:
        raise ValueError("longest is shorter than open_for; write a longer one")
    return breaker


BREAKER = Table(
    "breaker",
    "Leaves a target alone that keeps failing.",
    _make_breaker,
    (
        Field("failures", integer(1, 10_000), "Failures in a row that open it."),
        Field("open_for", duration(100 * MS, HOUR), "How long it stays open before one request probes.", "open_for_ns"),
        Field(
            "longest",
            duration(100 * MS, DAY),
            "`open_for` doubles each time that the target fails again soon, up to this.",
            "longest_ns",
        ),
        Field(
            "share",
            integer(1, 100),
            "Percent of the targets that it may leave alone at once; always one of them.",
        ),
    ),
    of=Breaker,
)
RETRIES = Table(
    "retries",
    "A call is tried again only where nothing of it was sent, or where a kept connection turns out to be dead.",
    Retries,
    (
        Field("attempts", integer(0, 16), "Other targets that are tried when no connection can be made."),
        Field("percent", integer(0, 100), "All retries, of the calls of the last 5 to 10 seconds."),
        Field("reserve", integer(0, 10_000), "Retries a second besides, so that a quiet upstream has some."),
    ),
)


def _make_tls(certificate: str | None = None, key: str | None = None, **known: Any) -> UpstreamTls:
    if (certificate is None) != (key is None):
        raise ValueError("certificate and key go together; write both or neither")
    tls = UpstreamTls(certificate=certificate, key=key, **known)
    if tls.ca is not None and not tls.verify:
        raise ValueError("ca has no use with verify: false; remove one of them")
    return tls.read()


UPSTREAM_TLS = Table(
    "upstream_tls",
    "How `https` targets are spoken to. A reload takes renewed files.",
    _make_tls,
    (
        Field("ca", PEM_FILE, "Who signs the targets' certificates, PEM.", absent="the system's authorities"),
        Field("certificate", PEM_FILE, "The certificate that is shown to the target, PEM.", absent="none"),
        Field("key", PEM_FILE, "Its key, PEM, without a password.", absent="none"),
        Field(
            "server_name",
            network.SERVER_NAME,
            "The name that is asked for (SNI) and verified.",
            absent="the target's host",
        ),
        Field("verify", BOOLEAN, "`false` talks to whoever answers: for a laptop, never for a network."),
        Field("oldest", choice("1.2", "1.3"), "The oldest version of TLS that is spoken."),
    ),
    of=UpstreamTls,
)


def _make_target(target: Target, weight: int = 1) -> Target:
    return dataclasses.replace(target, weight=weight)


TARGET = Table(
    "target",
    "An origin with its share. A target may also be written as the origin alone.",
    _make_target,
    (
        Field("url", network.TARGET, "The origin.", "target", required=True),
        Field("weight", integer(1, 1000), "Its share of the calls, against the weights of the others.", default=1),
    ),
    of=Target,
)
UPSTREAM = Table(
    "upstream",
    "An API that is protected.",
    Upstream,
    (
        Field(
            "targets",
            ListOf(TargetKind(), "origins such as [http://127.0.0.1:9000]", least=1, most=256, unique=True),
            "Its origins; no path, the request's own is passed on byte for byte.",
            required=True,
        ),
        Field("timeouts", Group(TIMEOUTS), "How long it may take."),
        Field("tls", Record(UPSTREAM_TLS), "TLS to its `https` targets.", absent="the system's authorities"),
        Field("max_connections", integer(1, 65_536), "Connections per target."),
        Field("max_waiting", integer(0, 1_000_000), "Requests that may wait for a connection; one more gets 503."),
        Field("path_prefix", PREFIX, "What stands before every path.", absent="nothing"),
        Field("request_headers", Record(REQUEST_HEADERS), "Header fields of calls.", absent="nothing is changed"),
        Field("response_headers", Record(RESPONSE_HEADERS), "Header fields of replies.", absent="nothing is changed"),
        Field("preserve_host", BOOLEAN, "Pass the client's `Host` on instead of the target's."),
        Field("host", network.HOST_VALUE, "What `Host` says instead of the target's own.", absent="the target's"),
        Field("allow_link_local", BOOLEAN, "Allow link-local and cloud metadata addresses as targets."),
        Field("health", Record(HEALTH), "An active check.", absent="none: only failing calls are noticed"),
        Field("breaker", Record(BREAKER), "When to leave a failing target alone."),
        Field("retries", Record(RETRIES), "How often a call may be tried again before anything of it was answered."),
        Field("dns_refresh", duration(S, DAY), "How often names of targets are resolved anew.", "dns_refresh_ns"),
    ),
)
TABLES = (UPSTREAM, TARGET, UPSTREAM_TLS, TIMEOUTS, HEALTH, BREAKER, RETRIES)
