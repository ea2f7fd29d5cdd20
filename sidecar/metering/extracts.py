"""Meters that read the reply, compiled: what is looked for, where, and which replies can have it."""

import json
import re
from typing import Final

from sidecar.core.policy import Extract, Meter, Multiply

HEADER: Final = "header"
TRAILER: Final = "trailer"
JSON: Final = "json"
SSE: Final = "sse"
NDJSON: Final = "ndjson"
_BODIES: Final = (JSON, SSE, NDJSON)
_LINES_OF_JSON: Final = frozenset(
    f"application/{name}" for name in ("x-ndjson", "ndjson", "jsonl", "x-jsonl", "jsonlines", "json-seq", "stream+json")
)
# An escape that could hide an ASCII letter of a key; text beyond Latin-1 is escaped too, but never like this.
ESCAPED: Final = b"\\u00"


def body_kind(content_type: str) -> str:
    """Which of ``json``, ``sse`` and ``ndjson`` a reply of this Content-Type is; ``""`` for any other."""
    essence = content_type.partition(";")[0].strip().lower()
    if essence in _LINES_OF_JSON:
        return NDJSON
    if essence == "application/json" or essence.endswith("+json"):
        return JSON
    return SSE if essence == "text/event-stream" else ""


def key_of(path: tuple[str | int, ...]) -> bytes:
    """Bytes without which no JSON text has anything at ``path``, unless it holds ESCAPED; empty when there are none.

    Only a key of printable ASCII without quote, backslash and slash is written in one way, or with ESCAPED.
    """
    for step in reversed(path):
        if isinstance(step, str):
            plain = step.isascii() and step.isprintable() and not {'"', "\\", "/"}.intersection(step)
            return json.dumps(step).encode() if plain else b""
    return b""


class Factors:
    """The factor of a meter, by the text that a field has. Fractions are kept as pairs of integers."""

    __slots__ = ("by", "header", "key", "otherwise", "path", "plain")

    def __init__(self, multiply: Multiply) -> None:
        self.by = {text: (factor.numerator, factor.denominator) for text, factor in multiply.factors.items()}
        other = multiply.otherwise
        self.otherwise = None if other is None else (other.numerator, other.denominator)
        in_header = multiply.extract.places == (HEADER,)
        self.header = line_start(multiply.extract.name) if in_header else b""
        self.path = multiply.extract.path
        self.key = b"" if in_header else key_of(self.path)
        # The key and its whole value, where that is a text without escapes.
        self.plain = re.compile(re.escape(self.key) + rb'[ \t\r\n]*:[ \t\r\n]*"[^"\\]*"')

    def of(self, text: str | None) -> tuple[int, int] | None:
        """Numerator and denominator; None when nothing is said about such a value."""
        found = self.by.get(text) if text is not None else None
        return found if found is not None else self.otherwise


class Reader:
    """One meter that reads the reply."""

    __slots__ = ("default", "factors", "key", "kinds", "line", "name", "path", "places", "take")

    def __init__(self, meter: Meter, extract: Extract) -> None:
        self.name = meter.name
        self.places = extract.places
        self.kinds = tuple(place for place in extract.places if place in _BODIES)
        self.line = line_start(extract.name) if extract.name else b""
        self.path = extract.path
        self.key = key_of(extract.path)
        self.take = extract.take
        self.default = meter.default
        self.factors = None if meter.multiply is None else Factors(meter.multiply)


def line_start(name: str) -> bytes:
    """How a field's line begins in a lower-cased block, with the end of the line before it."""
    return b"\n" + name.lower().encode() + b":"


def field_text(block: bytes, low: bytes, start: bytes) -> str:
    """The field's value in ``block``, several lines joined by commas (RFC 9110, 5.3); empty when there is none.

    ``low`` is a line feed and the block in lower case; ``start`` comes from line_start.
    """
    at = low.find(start)
    text = ""
    while at >= 0:
        begin = at + len(start) - 1
        end = block.find(b"\r", begin)
        value = block[begin : end if end >= 0 else len(block)].strip(b" \t").decode("latin-1")
        text = f"{text}, {value}" if text else value
        at = low.find(start, begin)
    return text
