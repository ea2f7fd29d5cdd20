"""The tables of what is done to a call at the edges of the lane: fields, paths, pages of other origins, addresses."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.config.kinds import BOOLEAN, MASKED, ScalarKind, Schema, duration, size, text_of
from sidecar.config.network import CIDR, TOKEN
from sidecar.config.reading import INVALID, Reading, Scalar, join, quoted
from sidecar.config.tables import Field, ListOf, Record, Table
from sidecar.config.tree import Node
from sidecar.core.edges import AddressRules, Cors, FieldRules

S, DAY = 10**9, 86_400 * 10**9
_CONNECTION = "belongs to one connection, not to the call"
_FRAMING = "says where the message ends, which the sidecar alone decides"
_IDENTITY = "says who calls, which the sidecar alone decides"
_FORWARDED = "says where the call came from, which the sidecar alone decides"
_OURS = "is written by the sidecar itself"
_HOP = dict.fromkeys(
    "connection keep-alive proxy-connection proxy-authenticate proxy-authorization te upgrade http2-settings".split(),
    _CONNECTION,
)
_FRAME = dict.fromkeys(("content-length", "transfer-encoding", "trailer", "content-encoding"), _FRAMING)
RESERVED_IN_REQUESTS: Mapping[str, str] = {
    **_HOP,
    **_FRAME,
    "host": "says which API is meant; write host or preserve_host of the upstream",
    "expect": _FRAMING,
    "max-forwards": _CONNECTION,
    **dict.fromkeys(("x-tenant-id", "x-key-id", "x-plan", "client-cert", "client-cert-chain"), _IDENTITY),
    **dict.fromkeys(
        "forwarded via x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-real-ip".split(),
        _FORWARDED,
    ),
    "x-request-id": _OURS,
}
RESERVED_IN_REPLIES: Mapping[str, str] = {
    **_HOP,
    **_FRAME,
    "date": "says when the reply was made, which the API decides",
    **dict.fromkeys(("x-request-id", "ratelimit", "ratelimit-policy"), _OURS),
    **dict.fromkeys(("x-request-latency", "x-compute-cost"), _OURS),
}


class Referred(str):
    """A text out of ``${...}``: it may be a secret, so it is not shown."""


def _checked_name(name: str, reserved: Mapping[str, str]) -> str:
    if re.fullmatch(TOKEN, name) is None:
        raise ValueError(f"{quoted(name)} is no header's name; write letters, digits and dashes")
    why = reserved.get(name.lower()) or reserved.get(name.lower().replace("_", "-"))  # WSGI takes one for the other
    if why is not None:
        raise ValueError(f"{name} {why}; remove it")
    return name


def _parse_value(scalar: Scalar) -> str:
    value = scalar.text
    if not value.isascii() or not value.isprintable() or value != value.strip() or not value:
        raise ValueError("is no header's value; write printable ASCII without spaces at an end")
    return value if scalar.raw == scalar.text else Referred(value)


_VALUE = ScalarKind(
    "a header's value",
    _parse_value,
    {"type": ["string", "number", "boolean"]},
    lambda value: MASKED if isinstance(value, Referred) else value,
)


@dataclass(frozen=True, slots=True)
class FieldMap:
    """Header names to their values; ``reserved`` says which names may not be touched, lower-case, and why."""

    reserved: Mapping[str, str]
    words: str = 'header names and values such as {X-Api-Version: "2"}'

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        pairs = reading.pairs(node, path, self.words)
        if pairs is None:
            return INVALID
        if len(pairs) > 64:
            reading.fault(node.line, path, f"holds {len(pairs):,} headers; write at most 64")
            return INVALID
        found: list[tuple[str, str]] = []
        for key, key_node, value_node in pairs:
            at = join(path, key)
            try:
                _checked_name(key, self.reserved)
            except ValueError as error:
                reading.fault(key_node.line, at, str(error))
                continue
            value = _VALUE.read(value_node, at, reading)
            if value is INVALID:
                continue
            if key.lower() == "authorization" and not isinstance(value, Referred):
                reading.fault(value_node.line, at, "is a secret written in clear; write ${NAME} and keep it there")
                continue
            found.append((key, value))
        return tuple(found) if len(found) == len(pairs) else INVALID

    def schema(self) -> Schema:
        return {
            "type": "object",
            "propertyNames": {"pattern": f"^{TOKEN}$"},
            "additionalProperties": _VALUE.schema(),
            "maxProperties": 64,
        }

    def show(self, value: Any) -> Any:
        return {name: _VALUE.show(text) for name, text in value}


def _fields_table(name: str, doc: str, reserved: Mapping[str, str]) -> Table:
    names = ScalarKind(
        "a header's name", lambda scalar: _checked_name(text_of(scalar), reserved), {"pattern": f"^{TOKEN}$"}
    )
    return Table(
        name,
        doc,
        _make_fields,
        (
            Field("set", FieldMap(reserved), "Fields and the one value that each gets, in the place of all it had."),
            Field("remove", ListOf(names, "names such as [X-Debug]", most=64), "Fields that do not cross."),
        ),
        of=FieldRules,
    )


def _make_fields(**known: Any) -> FieldRules:
    rules = FieldRules(**known)
    names = [name.lower() for name, _ in rules.set]
    twice = sorted(name for name in {*names} if names.count(name) > 1)
    both = sorted({*names} & {name.lower() for name in rules.remove})
    if twice:
        raise ValueError(f"{twice[0]} is set twice; capitals make no difference, write it once")
    if both:
        raise ValueError(f"{both[0]} is set and removed; to set is to replace, remove it from one of them")
    return rules


REQUEST_HEADERS = _fields_table("request_headers", "Header fields on the way to the API.", RESERVED_IN_REQUESTS)
RESPONSE_HEADERS = _fields_table("response_headers", "Header fields of the API's replies.", RESERVED_IN_REPLIES)

_ORIGIN = re.compile(r"(https?|[a-z][a-z0-9+.-]*)://(\*\.)?([a-z0-9_.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


def _parse_origin(scalar: Scalar) -> str:
    value = text_of(scalar)
    if value == "*":
        return value
    if value == "null":
        raise ValueError('"null" is what every sandboxed page calls itself; write the origins that are meant')
    lower = value.lower().rstrip("/")
    match = _ORIGIN.fullmatch(value)
    if match is None:
        plain = _ORIGIN.fullmatch(lower)
        hint = quoted(lower) if plain else "one such as https://app.example.com or https://*.example.com"
        raise ValueError(f"{quoted(value)} is no origin as browsers send it; write {hint}")
    port = {"http": ":80", "https": ":443"}.get(match[1])
    if match[4] is not None and match[4] == port:
        raise ValueError(f"browsers leave the usual port out; write {value.removesuffix(match[4])}")
    if match[2] and "." not in match[3]:
        raise ValueError(f"{quoted(value)} would be every site of the world; write a name below it")
    return value


ORIGIN = ScalarKind("an origin", _parse_origin, {"type": "string", "pattern": r"^(\*|[a-z][a-z0-9+.-]*://[^/A-Z]+)$"})


def _parse_method(scalar: Scalar) -> str:
    method = text_of(scalar)
    if re.fullmatch(TOKEN, method) is None or method != method.upper() or method == "*":
        raise ValueError(f"{quoted(method)} is no method in capitals; write one such as GET")
    return method


def _parse_header(scalar: Scalar) -> str:
    name = text_of(scalar)
    if re.fullmatch(TOKEN, name) is None or name == "*":
        raise ValueError(f"{quoted(name)} is no header's name; write each name")
    return name


_METHOD = ScalarKind("a method", _parse_method)
_HEADER = ScalarKind("a header's name", _parse_header)


def _make_cors(origins: Sequence[str], credentials: bool, **known: Any) -> Cors:
    if "*" in origins and len(origins) > 1:
        raise ValueError('"*" is every origin already; write it alone')
    if "*" in origins and credentials:
        raise ValueError("credentials cannot go to every origin (Fetch, 3.2.5); write the origins")
    return Cors(tuple(origins), credentials=credentials, **known)


CORS = Table(
    "cors",
    "Which pages of other origins may call and read. Preflights are answered here: they need no key, cost nothing and "
    "are not counted. What the API says about CORS is replaced.",
    _make_cors,
    (
        Field(
            "origins",
            ListOf(ORIGIN, 'origins such as [https://app.example.com, "https://*.example.com"], or ["*"]', least=1),
            "Their origins; `https://*.example.com` is every name below, `*` every origin.",
            required=True,
        ),
        Field("methods", ListOf(_METHOD, "methods such as [GET, POST]", least=1), "The methods.", absent="the route's"),
        Field(
            "headers",
            ListOf(_HEADER, "names such as [Content-Type]"),
            "The request's header fields.",
            absent="`Content-Type`, `Authorization`, `Last-Event-ID` and the one that carries keys",
        ),
        Field("expose", ListOf(_HEADER, "names such as [X-Total]"), "The reply's header fields that scripts may read."),
        Field("credentials", BOOLEAN, "Whether cookies and client certificates may be sent along.", default=False),
        Field("max_age", duration(0, DAY), "How long a browser may keep the answer to a preflight.", "max_age_ns"),
    ),
    of=Cors,
)


def _make_addresses(**known: Any) -> AddressRules:
    rules = AddressRules(**known)
    both = sorted({*rules.allow} & {*rules.deny})
    if both:
        raise ValueError(f"{both[0]} is allowed and denied; deny goes first, remove one of them")
    return rules


_RANGES = ListOf(CIDR, "ranges such as [10.0.0.0/8]", most=1000)
ADDRESSES = Table(
    "addresses",
    "From where calls may come: the client's address behind `trusted_proxies`. Others get 403 before anybody asks who "
    "they are.",
    _make_addresses,
    (
        Field("allow", _RANGES, "These alone.", absent="everybody"),
        Field("deny", _RANGES, "These not, whatever `allow` says."),
    ),
    of=AddressRules,
)


def _parse_prefix(scalar: Scalar) -> str:
    prefix = text_of(scalar)
    if re.fullmatch(r"(/[A-Za-z0-9._~!$&'()*+,=:@-]+)+", prefix) is None or len(prefix) > 200:
        raise ValueError(
            f"{quoted(prefix)} is no beginning of a path; write one such as /api, without a slash at its end"
        )
    if {".", ".."} & {*prefix.split("/")}:
        raise ValueError(f"{quoted(prefix)} holds a dot segment; write the path without it")
    return prefix


PREFIX = ScalarKind(
    "a beginning of a path such as /api", _parse_prefix, {"type": "string", "pattern": "^(/[^/?#%;]+)+$"}
)
# Of a route; the reference has them in this order.
ROUTE_FIELDS = (
    Field(
        "max_header_bytes",
        size(256, 2**24),
        "Of the request's header fields; more gets 431.",
        absent="bounds.max_header_bytes",
    ),
    Field(
        "strip_prefix",
        PREFIX,
        "Taken off the beginning of the path.",
        absent="nothing",
    ),
    Field("rewrite", PREFIX, "Put in its place.", absent="nothing"),
    Field("request_headers", Record(REQUEST_HEADERS), "Header fields of calls.", absent="the upstream's"),
    Field("response_headers", Record(RESPONSE_HEADERS), "Header fields of replies.", absent="the upstream's"),
    Field("cors", Record(CORS), "Pages of other origins.", absent="what `cors` in sidecar.yaml says"),
    Field("addresses", Record(ADDRESSES), "From where calls may come.", absent="from everywhere"),
)
TABLES = (REQUEST_HEADERS, RESPONSE_HEADERS, CORS, ADDRESSES)
