"""The tables of routes: which requests go where, and what they weigh."""

import re

from sidecar.config import edges
from sidecar.config.kinds import BOOLEAN, ScalarKind, choice, integer, name, size, text, text_of
from sidecar.config.network import TOKEN
from sidecar.config.pairs import Pairs
from sidecar.config.prices import MOST
from sidecar.config.reading import Scalar, quoted
from sidecar.config.tables import Field, Group, ListOf, Table
from sidecar.config.templates import HOST, PATH
from sidecar.core.names import check_scope
from sidecar.core.policy import Route


def _parse_method(scalar: Scalar) -> str:
    method = text_of(scalar)
    if re.fullmatch(TOKEN, method) is None:
        raise ValueError(f"{quoted(method)} is no method; write one such as GET")
    if method != method.upper():
        raise ValueError(f"{quoted(method)} can never match: methods are case-sensitive; write {method.upper()}")
    if method == "CONNECT":
        raise ValueError("CONNECT can never match: the sidecar refuses it; remove it")
    return method


_METHOD = ScalarKind("a method", _parse_method, {"type": "string", "pattern": f"^{TOKEN}$"})
_ROUTE_SCOPE = ScalarKind("a scope such as orders:write", lambda scalar: check_scope(text_of(scalar)))
_NAME = name("a name")
_ESTIMATES = Pairs(
    integer(1, MOST),
    "meters",
    "meters and their amounts, such as {tokens: 2_000}",
    64,
    make=lambda amounts: tuple(amounts.items()),
)
_PLAN = name("a plan's name")
WORD = text("a word without spaces", r"[!-~]+", hint="printable characters without spaces", most=100)

MATCH = Table(
    "match",
    "Which requests a route takes.",
    Route,
    (
        Field(
            "methods",
            ListOf(_METHOD, "methods such as [GET, POST]", make=frozenset, least=1, order=False),
            "The methods.",
            absent="every method",
        ),
        Field("host", HOST, "The host name; `*.example.com` is every name below.", absent="every host"),
        Field("path", PATH, "The path: `{id}` is one segment, `{rest...}` at the end is all the rest.", required=True),
    ),
)
ANNOUNCE = Table(
    "announce",
    "What replies tell the caller.",
    Route,
    (
        Field("latency", BOOLEAN, "`X-Request-Latency`.", "announce_latency"),
        Field("cost", BOOLEAN, "`X-Compute-Cost`.", "announce_cost"),
    ),
)
ROUTE = Table(
    "route",
    "Which requests go where, and what they weigh.",
    Route,
    (
        Field("name", _NAME, "Unique; stands in usage, metrics and meters.", required=True),
        Field("match", Group(MATCH), "Which requests.", required=True),
        Field("upstream", _NAME, "Where they go.", default="", absent="the only upstream, where there is one"),
        Field("units", integer(0, 10**9), "What one call weighs against limits and meters of units."),
        Field(
            "estimates",
            _ESTIMATES,
            "What a call here holds of meters that are known only at its end, instead of a quota's `estimate`.",
            absent="as the quota says",
        ),
        Field("auth", choice("required", "none"), "Whether a caller must say who it is."),
        Field("plan", _PLAN, "With `auth: none`: the plan whose limits callers get.", absent="no limits"),
        Field("feature", WORD, "The feature that the caller's plan must include.", absent="none needed"),
        Field(
            "scopes",
            ListOf(_ROUTE_SCOPE, "scopes such as [read]", make=frozenset, most=64, order=False),
            "The scopes that a narrowed key must have, all of them.",
        ),
        Field(
            "on_disconnect",
            choice("cancel", "partial", "drain"),
            "When the client goes away: `cancel` the call and charge nothing, `partial`: cancel and charge it, "
            "`drain`: read the reply to its end and charge it.",
        ),
        Field(
            "on_indeterminate",
            choice("free", "bill"),
            "What a call counts as when the process was killed before its end: nothing, or one request of its units. "
            "A stream that wrote its progress counts that far.",
        ),
        Field("max_body", size(0, 2**50), "Of the request's body; more gets 413.", absent="bounds.max_body"),
        *edges.ROUTE_FIELDS,
        Field("announce", Group(ANNOUNCE), "What replies tell the caller."),
        Field(
            "budget",
            choice("ask", "ignore"),
            "When credits or a spend cap are used up: refuse calls that cost something, or let them pass all the same.",
        ),
    ),
)
TABLES = (ROUTE, MATCH, ANNOUNCE, *edges.TABLES)
