"""The table ``meters:`` of ``policies/*.yaml``: what is counted, and which keys of it go together."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sidecar.config.jsonpaths import JSON_PATH
from sidecar.config.kinds import ScalarKind, choice, integer, name, text, text_of
from sidecar.config.network import TOKEN
from sidecar.config.pairs import Pairs
from sidecar.config.reading import Scalar, quoted
from sidecar.config.tables import Field, ListOf, Record, Table
from sidecar.core.money import format_amount
from sidecar.core.policy import Extract, Meter, Multiply, Origin
from sidecar.metering import MAX_VALUE

FIELDS = ("header", "trailer")
STREAMS = ("sse", "ndjson")
BODIES = ("json", *STREAMS)
SERVED = frozenset({2, 3})
# 101 is the status of a WebSocket: messages pass only there, seconds there too.
DEFAULTS = {"messages": frozenset({1}), "connection_s": frozenset({1, *SERVED})}
MOST_FACTORS = 1_000
# What the sidecar keeps to itself of a reply's head (http1.reply), and of trailers besides.
HIDDEN = frozenset(
    "connection content-length keep-alive proxy-authenticate proxy-connection te transfer-encoding upgrade "
    "x-request-id".split()
)
HIDDEN_TRAILERS = frozenset({"host", "trailer", "content-encoding"})


def _parse_status(scalar: Scalar) -> int:
    match = re.fullmatch(r"([1-5])(?:xx)?", scalar.text)
    if match is None:
        raise ValueError(f"{quoted(scalar.text)} is no class of statuses; write 1xx, 2xx, 3xx, 4xx or 5xx")
    return int(match[1])


def _parse_place(scalar: Scalar) -> str:
    word: str = _PLACE_WORDS.parse(scalar)
    return word.removeprefix("response.")


def _parse_header(scalar: Scalar) -> str:
    value = text_of(scalar)
    if re.fullmatch(TOKEN, value) is None:
        raise ValueError(f"{quoted(value)} is no header's name; write letters, digits and dashes")
    if value.lower() in HIDDEN:
        raise ValueError(f"{value} can never be read: it belongs to one connection or to the sidecar; write another")
    return value.lower()


def _parse_factor(scalar: Scalar) -> Fraction:
    written = scalar.text
    if re.fullmatch(r"(0|[1-9]\d{0,2}(_?\d{3}){0,2}|[1-9]\d{0,8})(\.\d{1,9})?", written) is None:
        raise ValueError(f'{quoted(written)} is no factor; write a plain decimal such as 2 or "0.5"')
    factor = Fraction(written.replace("_", ""))
    if factor == 0:
        raise ValueError("a factor of 0 makes everything free without saying so; write a larger one, or leave it out")
    return factor


def _show_factor(factor: Fraction) -> int | str:
    return factor.numerator if factor.denominator == 1 else format_amount(factor)


def _is_field_value(text: str) -> bool:
    return 0 < len(text) <= 200 and text.isprintable()


@dataclass(frozen=True, slots=True)
class _Written:
    """``multiply:`` as it stands there; the meter around it knows in which bodies to look."""

    by: Mapping[str, Fraction]
    path: tuple[str | int, ...] | None = None
    header: str | None = None
    otherwise: Fraction | None = None


def _make_multiply(**known: Any) -> _Written:
    written = _Written(**known)
    if (written.path is None) == (written.header is None):
        raise ValueError("the factor depends on one field of the reply; write either path or header")
    return written


def _make_meter(
    name: str,
    origin: Origin,
    count: str | None = None,
    extract: tuple[str, ...] | None = None,
    statuses: frozenset[int] | None = None,
    routes: frozenset[str] | None = None,
    default: int | None = None,
    stripe_event: str | None = None,
    stripe_window: str = "none",
    **reading: Any,
) -> Meter:
    if stripe_window != "none" and stripe_event is None:
        raise ValueError('"stripe_window" says nothing without stripe_event; write that too, or remove stripe_window')
    if (count is None) == (extract is None):
        what = "both count and from" if count else "neither count nor from"
        raise ValueError(f"has {what}; write either count: requests, or from: response.json and path: $.usage")
    if extract is None:
        assert count is not None
        given = [*reading, *([] if default is None else ["default"])]
        if given:
            raise ValueError(f'"{given[0]}" goes with from, and this meter has count: {count}; remove one of the two')
        classes = statuses or DEFAULTS.get(count, SERVED)
        if count == "messages" and 1 not in classes:
            raise ValueError("messages pass only after a 101: they can never count; write statuses: [1xx], or none")
        return Meter(
            name,
            count,
            statuses=classes,
            routes=routes,
            stripe_event=stripe_event,
            stripe_window=stripe_window,
            origin=origin,
        )
    multiply = reading.get("multiply")
    return Meter(
        name,
        "reply",
        _extract(extract, **{key: value for key, value in reading.items() if key != "multiply"}),
        None if multiply is None else _multiply(multiply, extract),
        default,
        statuses or SERVED,
        routes,
        stripe_event,
        stripe_window,
        origin,
    )


def _extract(
    places: tuple[str, ...],
    path: tuple[str | int, ...] | None = None,
    header: str | None = None,
    take: str | None = None,
) -> Extract:
    """ValueError with the first thing that is missing, or that could never match (field bug 21)."""
    said = ", ".join(f"response.{place}" for place in places)
    bodies = any(place in BODIES for place in places)
    fields = any(place in FIELDS for place in places)
    if bodies and path is None:
        raise ValueError(f'"path" is missing: where in {said} does the value stand? write one such as path: $.usage')
    if path is not None and not bodies:
        raise ValueError(f'"path" looks into a body, and from: {said} names none; remove it or add response.json')
    if fields and header is None:
        raise ValueError(f'"header" is missing: which field of {said}? write its name, such as header: X-Tokens')
    if header is not None and not fields:
        raise ValueError(f'"header" can never match: from: {said} reads no fields; remove it or add response.header')
    if take is not None and not any(place in STREAMS for place in places):
        raise ValueError(
            f'"take" chooses among the events of a stream, and from: {said} names none; '
            "remove it or add response.sse or response.ndjson"
        )
    if header in HIDDEN_TRAILERS and "trailer" in places:
        raise ValueError(f"no trailer may be named {header}: it can never match; write another")
    return Extract(places, header or "", path or (), take or "last")


def _multiply(written: _Written, places: tuple[str, ...]) -> Multiply:
    if written.header is not None:
        return Multiply(Extract(("header",), written.header), written.by, written.otherwise)
    bodies = tuple(place for place in places if place in BODIES)
    if not bodies:
        raise ValueError(
            "multiply.path looks into a body, and from names none; write multiply.header, or add response.json to from"
        )
    return Multiply(Extract(bodies, path=written.path or ()), written.by, written.otherwise)


def _split_meter(meter: Meter) -> Mapping[str, Any]:
    shown: dict[str, Any] = {"statuses": meter.statuses, "routes": meter.routes, "default": meter.default}
    if meter.stripe_event is not None:
        shown |= {"stripe_event": meter.stripe_event, "stripe_window": meter.stripe_window}
    extract, multiply = meter.extract, meter.multiply
    if extract is None:
        return shown | {"count": meter.count}
    shown["extract"] = extract.places
    if any(place in BODIES for place in extract.places):
        shown["path"] = extract.path
    if extract.name:
        shown["header"] = extract.name
    if any(place in STREAMS for place in extract.places):
        shown["take"] = extract.take
    if multiply is not None:
        from_header = bool(multiply.extract.name)
        shown["multiply"] = _Written(
            multiply.factors,
            None if from_header else multiply.extract.path,
            multiply.extract.name if from_header else None,
            multiply.otherwise,
        )
    return shown


_PLACE_WORDS = choice(*(f"response.{place}" for place in (*FIELDS, *BODIES)))
_PLACE = ScalarKind(_PLACE_WORDS.words, _parse_place, _PLACE_WORDS.json, lambda place: f"response.{place}")
_HEADER = ScalarKind("a reply header's name", _parse_header, {"type": "string", "pattern": f"^{TOKEN}$"})
_FACTOR = ScalarKind(
    'a factor such as 2 or "0.5"',
    _parse_factor,
    {"type": ["number", "string"], "exclusiveMinimum": 0, "pattern": r"^\d[\d_]*(\.\d{1,9})?$"},
    _show_factor,
)
_FACTORS = Pairs(
    _FACTOR,
    "values",
    'values and their factors, such as {gpt-x: 2, gpt-y: "0.5"}',
    MOST_FACTORS,
    good=_is_field_value,
    bad="no field has such a value; write 1 to 200 printable characters",
)
_STATUS = ScalarKind(
    "1xx, 2xx, 3xx, 4xx or 5xx",
    _parse_status,
    {"enum": [1, 2, 3, 4, 5, "1xx", "2xx", "3xx", "4xx", "5xx"]},
    lambda status: f"{status}xx",
)
_ROUTE = name("a name")
MULTIPLY = Table(
    "multiply",
    "A factor by the value of another field of the same reply.",
    _make_multiply,
    (
        Field("path", JSON_PATH, "Where in the body the field stands; or:", absent="none"),
        Field("header", _HEADER, "which header it is.", absent="none"),
        Field("by", _FACTORS, "The factor of each value.", required=True),
        Field("otherwise", _FACTOR, "The factor of every other value.", absent="other values are anomalies"),
    ),
)
METER = Table(
    "meter",
    "What is counted: something of the call (`count`), or a value of the reply (`from`); see [meters.md](meters.md).",
    _make_meter,
    (
        Field(
            "count",
            choice("requests", "units", "bytes_in", "bytes_out", "upstream_ms", "connection_s", "messages"),
            "What is added up; or:",
            absent="none",
        ),
        Field(
            "from",
            ListOf(_PLACE, "places such as [response.json, response.sse]", least=1, most=5, single=True),
            "where in the reply the value stands; of several the first that has it.",
            "extract",
            absent="none",
            vital=True,
        ),
        Field("path", JSON_PATH, "Where in the JSON of the body, of an event or of a line.", absent="none"),
        Field("header", _HEADER, "Which header or trailer.", absent="none"),
        Field(
            "take", choice("last", "sum", "max"), "Which of the values of a stream's events counts.", absent="`last`"
        ),
        Field(
            "default",
            integer(0, MAX_VALUE),
            "What a whole reply without the value counts as.",
            absent="it is an anomaly",
        ),
        Field("multiply", Record(MULTIPLY), "A factor by another field of the reply.", absent="none"),
        Field(
            "statuses",
            ListOf(_STATUS, "classes such as [2xx, 3xx]", make=frozenset, least=1, order=False),
            "The classes of reply statuses that count; 1xx are WebSockets.",
            absent="`2xx, 3xx`; for connection_s 1xx too, for messages 1xx alone",
        ),
        Field(
            "routes",
            ListOf(_ROUTE, "names of routes", make=frozenset, least=1, most=100_000, order=False),
            "The routes that count.",
            absent="every route",
        ),
        Field(
            "stripe_event",
            text("an event name without spaces", r"[!-~]+", hint="printable characters without spaces", most=100),
            "The event name of the meter at Stripe that this is billed by; one meter each.",
            absent="it is not sent to Stripe",
        ),
        Field(
            "stripe_window",
            choice("none", "hour"),
            "How that meter counts: `none`: it adds up events; `hour`: it keeps the newest total of each hour.",
        ),
    ),
    _split_meter,
    Meter,
)
