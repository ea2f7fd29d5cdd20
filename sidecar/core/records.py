"""The usage record: one line of the journal, one row of the ledger. This module is the only place that knows its shape.

A record is a JSON array in UTF-8, so that the journal can be read by people and a store can take a whole batch as one
JSON text without the process decoding a single event. Positions, not names, carry the meaning:

====  ===============  ===============================================================================
 0    kind             ``"i"`` intent, before the first byte goes upstream; ``"p"`` progress of a call that
                       takes long; ``"d"`` done, before the last byte goes to the client
 1    event id         UUIDv7 text; the only dedupe key from here to the bill
 2    started_us       Unix microseconds at admission
 3    tenant
 4    key id
 5    plan
 6    sandbox          0 or 1; sandbox usage is never billed
 7    route
 8    method
 9    status           of the reply; 0 when there was none
10    outcome          ``ok``, ``client_gone``, ``upstream_failed``, ``indeterminate``
11    units            weight that was charged
12    cost             micro-units of the cost currency
13    bytes_in         body bytes from the client
14    bytes_out        body bytes to the client
15    total_us         from the last byte of the request head to the last byte of the reply
16    upstream_us      from the first byte sent upstream to the last byte received
17    first_byte_us    from the first byte sent upstream to the reply's head
18    meters           object of meter name to integer value
====  ===============  ===============================================================================

An intent is the text of positions 1 and 3 to 8 alone, without brackets; of position 1 alone where the others are those
of the intent right before it in the same frame. Unless its route bills calls whose end is never known: then it has all
positions, and so has a progress record. A call that never got its done record becomes one with the outcome
``indeterminate``: with the values of its newest record where that has them, else with all of them zero, and with the
millisecond of its id as its start. (Intents of a former revision have position 2.)
A meter that could not be read from a reply leaves its name with ``?`` behind it and the value 1: an anomaly, counted
beside the meters and never priced. So do marks: ``_blind?`` was admitted while the store of limits did not answer, and
``_shadow.NAME?`` would have been refused by the policy NAME, which is in shadow mode.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from librt.strings import BytesWriter, write_i16_le, write_i32_le
from mypy_extensions import i32, i64

from sidecar.core.digits import put_moment, put_next, put_next_word

OUTCOMES = ("ok", "client_gone", "upstream_failed", "indeterminate")
ANOMALY = "?"  # behind a meter's name; no meter's name holds it
SHADOW: Final = "_shadow."  # before a policy's name; no meter's name begins like that
BLIND_MARK: Final = b',"_blind?":1'
INTENT: Final = 0x2269_225B  # a kind: ["i" as one store; literals, for those compiled code has in place
PROGRESS: Final = 0x2270_225B
DONE: Final = 0x2264_225B
BETWEEN: Final = b",\n"  # two records of a text, which is that of a JSON array and of lines; no record has a line's end
ID_BYTES: Final = 38  # of what put_id writes
_QUOTE: Final = 34
_COMMA: Final = 44
_END: Final = 93
BETWEEN_WORD: Final = 0x0A2C
_COMMA_QUOTE: Final = 0x222C
_QUOTE_COMMA: Final = 0x2C22
_DONE_TEXT: Final = b'["d",'


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """A decoded done record; fields and units as in the module's table."""

    event_id: str
    started_us: int
    tenant: str
    key_id: str
    plan: str
    sandbox: bool
    route: str
    method: str
    status: int
    outcome: str
    units: int
    cost: int
    bytes_in: int
    bytes_out: int
    total_us: int
    upstream_us: int
    first_byte_us: int
    meters: dict[str, int] = field(default_factory=dict)

    @property
    def ended_us(self) -> int:
        """Its minute is the one that the ledger's sums count the call in."""
        return self.started_us + self.total_us


def principal_fragment(tenant: str, key_id: str, plan: str, *, sandbox: bool) -> bytes:
    """Positions 3 to 6, encoded once per principal."""
    return f"{json.dumps(tenant)},{json.dumps(key_id)},{json.dumps(plan)},{int(sandbox)}".encode()


def text_fragment(text: str) -> bytes:
    """One JSON string (a route's name, a method), encoded once."""
    return json.dumps(text).encode()


_METHODS: Final = {
    name: text_fragment(name.decode())
    for name in (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE")
}


def meters_fragment(meters: dict[str, int]) -> bytes:
    """Position 18."""
    return json.dumps(meters, separators=(",", ":")).encode()


def shadow_mark(policy: str) -> bytes:
    """The member that says that ``policy``, in shadow mode, would have refused the call; as BLIND_MARK is written."""
    return b",%b:1" % json.dumps(f"{SHADOW}{policy}{ANOMALY}").encode()


def marked(fragment: bytes, marks: bytes) -> bytes:
    """``meters_fragment``'s text with marks, each of which begins with a comma."""
    return fragment[:-1] + (marks if len(fragment) > 2 else marks[1:]) + b"}"


def caller_fragment(principal: bytes, route: bytes, method: bytes) -> bytes:
    """Positions 3 to 8 with a comma before each, from their fragments."""
    return b",%b,%b,%b" % (principal, route, method)


class Caller:
    """Positions 3 to 8 of the calls of one principal and route: nearly all have the method of the one before."""

    __slots__ = ("_method", "_principal", "_route", "_text")

    def __init__(self, principal: bytes, route: bytes) -> None:
        """From their fragments."""
        self._principal = principal
        self._route = route
        self._method = self._text = b""

    def text(self, method: bytes) -> bytes:
        """As ``caller_fragment``, with the method as the client sent it."""
        if method is not self._method and method != self._method:  # a usual method is one object
            fragment = _METHODS.get(method) or text_fragment(method.decode("latin-1"))
            self._method, self._text = method, caller_fragment(self._principal, self._route, fragment)
        return self._text


def put_id(writer: BytesWriter, event_id: bytes) -> None:
    """Writes position 1: the intent of a call that has the others in common with the one before. Where it has not, its
    ``caller_fragment`` follows."""
    writer.append(_QUOTE)
    writer.write(event_id)
    writer.append(_QUOTE)


class Outcome:
    """Positions 3 to 11 of the done calls of one principal and route: nearly all have those of the one before."""

    __slots__ = ("_caller", "_outcome", "_status", "_text", "_units")

    def __init__(self) -> None:
        self._text = self._caller = self._outcome = b""
        self._status = self._units = 0

    def text(self, caller: bytes, status: int, outcome: bytes, units: int) -> bytes:
        """Their text, with a comma before each; ``caller`` is a ``caller_fragment``."""
        same = caller is self._caller and outcome is self._outcome
        if not same or status != self._status or units != self._units:
            self._caller, self._outcome, self._status, self._units = caller, outcome, status, units
            self._text = b'%b,%d,"%b",%d' % (caller, status, outcome, units)
        return self._text


def put_record(
    writer: BytesWriter,
    kind: i32,
    event_id: bytes,
    started_us: i64,
    outcome: bytes,
    cost: int,
    bytes_in: i64,
    bytes_out: i64,
    total_us: i64,
    upstream_us: i64,
    first_byte_us: i64,
    meters: bytes,
) -> None:
    """Writes a record with all positions. ``kind``: INTENT, PROGRESS, DONE; ``outcome``: the text of an ``Outcome``."""
    write_i32_le(writer, kind)
    write_i16_le(writer, _COMMA_QUOTE)
    writer.write(event_id)
    write_i16_le(writer, _QUOTE_COMMA)
    put_moment(writer, started_us)
    writer.write(outcome)
    put_next(writer, cost)
    put_next_word(writer, bytes_in)
    put_next_word(writer, bytes_out)
    put_next_word(writer, total_us)
    put_next_word(writer, upstream_us)
    put_next_word(writer, first_byte_us)
    writer.append(_COMMA)
    writer.write(meters)
    writer.append(_END)


def encode_intent(event_id: bytes, principal: bytes, route: bytes, method: bytes) -> bytes:
    """An intent record; the last three arguments are fragments."""
    return b'"%b"%b' % (event_id, caller_fragment(principal, route, method))


def encode_call(
    event_id: bytes,
    started_us: int,
    principal: bytes,
    route: bytes,
    method: bytes,
    status: int,
    outcome: bytes,
    units: int,
    cost: int,
    bytes_in: int,
    bytes_out: int,
    total_us: int,
    upstream_us: int,
    first_byte_us: int,
    meters: bytes,
    kind: i32 = DONE,
) -> bytes:
    """A record with all positions; ``kind`` PROGRESS or INTENT: what the call counts as, should it never end.

    ``outcome`` is one of OUTCOMES; principal, route, method and meters are fragments.
    """
    writer = BytesWriter()
    put_record(
        writer,
        kind,
        event_id,
        started_us,
        Outcome().text(caller_fragment(principal, route, method), status, outcome, units),
        cost,
        bytes_in,
        bytes_out,
        total_us,
        upstream_us,
        first_byte_us,
        meters,
    )
    return writer.getvalue()


def encode_record(record: UsageRecord) -> bytes:
    """A done record from its decoded form."""
    return encode_call(
        record.event_id.encode(),
        record.started_us,
        principal_fragment(record.tenant, record.key_id, record.plan, sandbox=record.sandbox),
        text_fragment(record.route),
        text_fragment(record.method),
        record.status,
        record.outcome.encode(),
        record.units,
        record.cost,
        record.bytes_in,
        record.bytes_out,
        record.total_us,
        record.upstream_us,
        record.first_byte_us,
        meters_fragment(record.meters),
    )


def decode_record(payload: bytes) -> UsageRecord:
    """A done record's decoded form. ValueError when it is not one."""
    row = _array(payload)
    if len(row) != 19 or row[0] != "d":
        raise ValueError("not a done record")
    return UsageRecord(row[1], row[2], row[3], row[4], row[5], bool(row[6]), *row[7:])


def indeterminate(newest: bytes) -> UsageRecord:
    """The record of a call whose end was never written, from its ``newest`` intent or progress record. ValueError when
    it is neither."""
    row = _array(newest)
    if len(row) == 8:
        row.insert(2, (UUID(str(row[1])).int >> 80) * 1_000)  # UUIDv7's milliseconds
    if len(row) not in (9, 19) or row[0] not in ("i", "p"):
        raise ValueError("not an intent or progress record")
    status, values = (row[9], row[11:]) if len(row) == 19 else (0, [0] * 7)
    return UsageRecord(
        row[1], row[2], row[3], row[4], row[5], bool(row[6]), row[7], row[8], status, "indeterminate", *values
    )


def is_done(payload: bytes) -> bool:
    """Whether the payload is a done record, by its first bytes alone."""
    return payload.startswith(b'["d"')


def records_in(text: bytes) -> list[bytes]:
    """The records that are joined by BETWEEN."""
    return text.split(BETWEEN)


def records_of(payload: bytes) -> list[bytes]:
    """The records of a frame, each whole."""
    records, caller = records_in(payload), b""
    for place, record in enumerate(records):
        if not record.startswith(b"["):
            at = record.find(b",")  # the id has none
            if at >= 0 and not record.startswith(b'"', at + 1):
                at = record.find(b",", at + 1)  # behind the time that a former revision wrote
            if at < 0:
                records[place] = record + caller
            else:
                caller = record[at:]
    return records


def done_in(text: bytes) -> bytes:
    """Of records that are joined by BETWEEN, the done ones last: these, joined."""
    at = text.find(b"[")
    while at >= 0 and not text.startswith(_DONE_TEXT, at):  # no name in a record has that, for quotes are escaped in it
        at = text.find(b"[", at + 1)
    return text[at:] if at >= 0 else b""


def event_id_of(payload: bytes) -> bytes:
    """The 36 bytes of the event id of any kind of record, without decoding the rest."""
    return payload[1:37] if payload.startswith(b'"') else payload[6:42]


def _array(payload: bytes) -> list[Any]:
    row = json.loads(b'["i",%b]' % payload if payload.startswith(b'"') else payload)
    if not isinstance(row, list):
        raise ValueError("a record is a JSON array")
    return row
