"""A tee on one reply: it looks at the bytes as they pass and keeps what its meters need, never the reply.

Bound, per reply that a meter looks into: WATCH_BYTES (1 MiB) of decoded body for JSON, of one event for streams, and
the decoder's own window (coding.py). A JSON document is decoded once, at its end, and then lives for that moment at
several times its size.
"""

import json
from typing import Final

from sidecar.core.money import round_div
from sidecar.metering.coding import CodingError, Decoder, decoder_for
from sidecar.metering.events import MAX_EVENT, Events, LinesOfJson, ServerSentEvents
from sidecar.metering.extracts import ESCAPED, HEADER, JSON, SSE, TRAILER, Reader, body_kind, field_text, line_start
from sidecar.metering.values import INVALID, MAX_VALUE, NONE, counted, counted_text, find, named

WATCH_BYTES: Final = MAX_EVENT
# Why a meter could not be read. `default` stands in for the first two only: the reply is known not to have the value.
REASONS: Final = ("missing", "content_type", "invalid", "incomplete", "encoding", "too_large", "factor")
_CONTENT_TYPE: Final = line_start("content-type")
_CONTENT_ENCODING: Final = line_start("content-encoding")


class _State:
    """What is known so far for one reader."""

    __slots__ = ("header", "prefix", "reader", "text", "trailer", "trouble", "value")

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.header: int = NONE
        self.trailer: int = NONE
        self.value: int = NONE  # in the body
        self.trouble = ""
        self.text: str | None = None  # of the field that the factor depends on
        self.prefix = b""  # of the event that told it, up to and with it

    def observe(self, document: object, raw: bytes) -> None:
        """Takes the value and the factor's field from one event or document."""
        reader = self.reader
        value = counted(find(document, reader.path))
        if value >= 0:
            self._take(value)
        elif value == INVALID:
            self.trouble = "invalid"
            if reader.take == "last":
                self.value = NONE
        factors = reader.factors
        if factors is not None and not factors.header:
            text = named(find(document, factors.path))
            if text is not None:
                self.text = text
                self.prefix = b""
                # Where the key stands once, the path led there; then an event that begins alike says the same again.
                if factors.key and raw.count(factors.key) == 1 and ESCAPED not in raw:
                    match = factors.plain.search(raw)
                    if match is not None:
                        self.prefix = raw[: match.end()]

    def _take(self, value: int) -> None:
        take = self.reader.take
        if take == "sum":
            value += max(self.value, 0)
            if value > MAX_VALUE:
                self.trouble = "invalid"
                return
        elif take == "max":
            value = max(value, self.value)
        else:
            self.trouble = ""
        self.value = value

    def wants(self, raw: bytes) -> bool:
        """Whether the event can tell something new. ``raw`` does not hold ESCAPED."""
        reader = self.reader
        if not reader.key or reader.key in raw:
            return True
        factors = reader.factors
        if factors is None or factors.header:
            return False
        if not factors.key:
            return True
        if self.prefix and raw.startswith(self.prefix):
            return raw.find(factors.key, len(self.prefix)) >= 0
        return factors.key in raw


class Watch:
    """Looks at one reply for the meters of its route and status class. Nothing here raises.

    ``anomalies`` holds (meter, reason) as of the last RouteMeters.charge; the reasons are REASONS.
    """

    __slots__ = ("_body", "_decoder", "_events", "_kind", "_looking", "_states", "_whole", "anomalies", "readers")

    def __init__(self, readers: tuple[Reader, ...], block: bytes) -> None:
        self.anomalies: list[tuple[str, str]] = []
        self.readers = readers
        self._whole = False
        self._states = [_State(reader) for reader in readers]
        self._body: bytearray | None = None
        self._decoder: Decoder | None = None
        self._events: Events | None = None
        low = b"\n" + block.lower()
        self._kind = body_kind(field_text(block, low, _CONTENT_TYPE))
        for state in self._states:
            reader = state.reader
            if HEADER in reader.places:
                state.header = counted_text(field_text(block, low, reader.line))
            if reader.factors is not None and reader.factors.header:
                state.text = field_text(block, low, reader.factors.header) or None
        self._looking = [state for state in self._states if self._kind in state.reader.kinds]
        if self._looking:
            self._open(field_text(block, low, _CONTENT_ENCODING))

    def body(self, piece: bytes) -> None:
        """Body bytes as they pass, framed by nothing, still in their content coding."""
        if not self._looking:
            return
        try:
            if self._decoder is None:
                self._take(piece)
            else:
                self._decoder.feed(piece, self._take)
        except CodingError as error:
            self._stop(str(error))

    def end(self, trailers: bytes) -> None:
        """The reply is whole; ``trailers`` are its field lines."""
        if self._whole:
            return
        self._whole = True
        try:
            if self._decoder is not None:
                self._decoder.finish()
        except CodingError as error:
            self._stop(str(error))
        if self._looking and self._body is not None:
            if self._body:
                self._document(bytes(self._body))
        elif self._looking and self._events is not None:
            for raw in self._events.finish():
                self._event(raw)
        self._close()
        if trailers:
            low = b"\n" + trailers.lower()
            for state in self._states:
                if TRAILER in state.reader.places:
                    state.trailer = counted_text(field_text(trailers, low, state.reader.line))

    def values(self) -> list[int]:
        """What each of ``readers`` counts as far as is known, NONE for what cannot be told; renews ``anomalies``."""
        found: list[int] = []
        anomalies: list[tuple[str, str]] = []
        for state in self._states:
            value, reason = self._value(state)
            found.append(value)
            if reason:
                anomalies.append((state.reader.name, reason))
        self.anomalies = anomalies
        return found

    def _open(self, content_encoding: str) -> None:
        try:
            self._decoder = decoder_for(content_encoding)
        except CodingError as error:
            self._stop(str(error))
            return
        if self._kind == JSON:
            self._body = bytearray()
        else:
            self._events = ServerSentEvents() if self._kind == SSE else LinesOfJson()

    def _close(self) -> None:
        self._looking = []
        self._body = self._decoder = self._events = None

    def _stop(self, reason: str) -> None:
        for state in self._looking:
            state.trouble = reason
        self._close()

    def _take(self, data: bytes) -> None:
        if self._body is not None:
            if len(self._body) + len(data) > WATCH_BYTES:
                raise CodingError("too_large")
            self._body += data
        elif self._events is not None:
            for raw in self._events.feed(data):
                self._event(raw)

    def _event(self, raw: bytes | None) -> None:
        if raw is None:
            for state in self._looking:
                state.trouble = "too_large"
            return
        if ESCAPED not in raw:
            for state in self._looking:
                if state.wants(raw):
                    break
            else:
                return
        try:
            document = json.loads(raw.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            return
        for state in self._looking:
            state.observe(document, raw)

    def _document(self, raw: bytes) -> None:
        if ESCAPED not in raw and not any(state.wants(raw) for state in self._looking):
            return
        try:
            document = json.loads(raw.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            for state in self._looking:
                state.trouble = "invalid"
            return
        for state in self._looking:
            state.observe(document, b"")

    def _value(self, state: _State) -> tuple[int, str]:
        """The count, or NONE, and why it is not known, or not all of it."""
        reader = state.reader
        pending = False
        for place in reader.places:
            if place == HEADER:
                value, trouble = state.header, ""
            elif place == TRAILER:
                value, trouble = state.trailer, ""
                pending = pending or not self._whole
            elif place == self._kind:
                value, trouble = state.value, state.trouble
                pending = pending or not self._whole
            else:
                continue
            if value == INVALID:
                return NONE, "invalid"
            if value != NONE:
                return self._product(state, value, trouble)
            if trouble:
                return NONE, trouble
        if pending:
            return NONE, "incomplete"
        if reader.default is not None:
            return reader.default, ""
        return NONE, "content_type" if reader.kinds and self._kind not in reader.kinds else "missing"

    def _product(self, state: _State, value: int, trouble: str) -> tuple[int, str]:
        factors = state.reader.factors
        if factors is None or value == 0:
            return value, trouble
        if state.text is None and not self._whole and not factors.header:
            return NONE, "incomplete"
        factor = factors.of(state.text)
        if factor is None:
            return NONE, "factor"
        product = round_div(value * factor[0], factor[1])
        return (product, trouble) if product <= MAX_VALUE else (NONE, "invalid")
