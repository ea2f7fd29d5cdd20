"""Usage records: what is written is read back, whatever the names hold."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from librt.strings import BytesWriter, write_i16_le

from sidecar.core.ids import EventIds
from sidecar.core.records import (
    BETWEEN,
    BETWEEN_WORD,
    ID_BYTES,
    INTENT,
    OUTCOMES,
    Caller,
    Outcome,
    UsageRecord,
    caller_fragment,
    decode_record,
    encode_call,
    encode_intent,
    encode_record,
    event_id_of,
    indeterminate,
    is_done,
    principal_fragment,
    put_id,
    records_of,
    text_fragment,
)

_WHO = (principal_fragment("t", "k", "p", sandbox=False), text_fragment("r"), b'"GET"')
_ID = st.uuids().map(str)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_COUNT = st.integers(0, 2**48)
_RECORD = st.builds(
    UsageRecord,
    event_id=_ID, started_us=_COUNT, tenant=_TEXT, key_id=_TEXT, plan=_TEXT, sandbox=st.booleans(), route=_TEXT,
    method=_TEXT, status=st.integers(0, 999), outcome=st.sampled_from(OUTCOMES), units=_COUNT, cost=_COUNT,
    bytes_in=_COUNT, bytes_out=_COUNT, total_us=_COUNT, upstream_us=_COUNT, first_byte_us=_COUNT,
    meters=st.dictionaries(_TEXT, _COUNT, max_size=3),
)  # fmt: skip


@given(_RECORD)
def test_round_trip(record: UsageRecord) -> None:
    payload = encode_record(record)
    assert decode_record(payload) == record
    assert is_done(payload)
    assert event_id_of(payload) == record.event_id.encode()
    assert b"\n" not in payload


@given(_RECORD)
def test_a_call_without_an_end(record: UsageRecord) -> None:
    caller = principal_fragment(record.tenant, record.key_id, record.plan, sandbox=record.sandbox)
    names = text_fragment(record.route), text_fragment(record.method)
    intent = encode_intent(record.event_id.encode(), caller, *names)
    assert not is_done(intent)
    assert event_id_of(intent) == record.event_id.encode()
    found = indeterminate(intent)
    assert (found.outcome, found.status, found.units, found.cost, found.meters) == ("indeterminate", 0, 0, 0, {})
    assert (found.event_id, found.tenant, found.route) == (record.event_id, record.tenant, record.route)
    said = b'"%b",%d%b' % (record.event_id.encode(), record.started_us, intent[ID_BYTES:])
    assert indeterminate(said) == replace(found, started_us=record.started_us), "as a former revision wrote it"


@given(st.integers(0, 2**48 - 1), st.integers(0, 999_999))
def test_a_call_without_an_end_began_in_the_millisecond_of_its_id(ms: int, rest_ns: int) -> None:
    event_id = EventIds().next(ms * 1_000_000 + rest_ns)
    assert indeterminate(encode_intent(event_id, *_WHO)).started_us == ms * 1_000


@pytest.mark.parametrize("event_id", [b"", b"x", b"1f", b"x" * 36])
def test_a_call_without_an_end_or_an_id_is_no_record(event_id: bytes) -> None:
    with pytest.raises(ValueError):
        indeterminate(encode_intent(event_id, *_WHO))


def test_an_id_that_is_no_text_is_no_record() -> None:
    with pytest.raises(ValueError):
        indeterminate(b'["i",5,"t","k","p",0,"r","GET"]')


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b'["d"]', b'["i",1]', b"\xff", b"null"])
def test_what_is_no_record(payload: bytes) -> None:
    for read in (decode_record, indeterminate):
        with pytest.raises(ValueError):
            read(payload)


@given(st.lists(st.integers(0, 2**48), min_size=8, max_size=8), st.integers(0, 2**53))
def test_every_number_is_written_as_it_is(numbers: list[int], started_us: int) -> None:
    row = json.loads(encode_call(b"e", started_us, *_WHO, numbers[0], b"ok", *numbers[1:], b"{}"))
    assert (row[2], row[9], row[11:18]) == (started_us, numbers[0], numbers[1:])


@given(st.lists(st.tuples(st.sampled_from(["t", 'a"b', "a,b", ""]), st.sampled_from(["", "full", "former"]))))
def test_an_intent_has_its_caller_from_the_one_before(calls: list[tuple[str, str]]) -> None:
    """Where it is the same; one that has all positions may stand between them. A former revision's have their time."""
    writer, whole, before, ids = BytesWriter(), list[bytes](), None, EventIds()
    for number, (tenant, kind) in enumerate(calls):
        event_id, who = ids.next(number), (principal_fragment(tenant, "k", "p", sandbox=False), *_WHO[1:])
        if number:
            writer.write(BETWEEN)
        if kind == "full":
            whole.append(encode_call(event_id, number, *who, 0, b"indeterminate", *[0] * 7, b"{}", INTENT))
            writer.write(whole[-1])
            continue
        start, caller = (b",%d" % number if kind else b""), caller_fragment(*who)
        put_id(writer, event_id)
        writer.write(start + (caller if caller != before else b""))
        whole.append(b'"%b"%b%b' % (event_id, start, caller))
        before = caller
    if calls:
        assert records_of(writer.getvalue()) == whole
        assert [indeterminate(record).tenant for record in whole] == [tenant for tenant, _ in calls]


def test_a_word_is_the_text_that_it_stands_for() -> None:
    writer = BytesWriter()
    write_i16_le(writer, BETWEEN_WORD)
    assert writer.getvalue() == BETWEEN


def test_an_id_is_as_long_as_is_said() -> None:
    """A journal keeps that much room for an intent before it is written."""
    writer = BytesWriter()
    put_id(writer, EventIds().next(0))
    assert len(writer) == ID_BYTES


@given(st.lists(st.sampled_from([b"GET", b"POST", b"PURGE", b'"', b"\xff"])))
def test_a_caller_is_written_with_the_method_of_its_call(methods: list[bytes]) -> None:
    one = Caller(_WHO[0], _WHO[1])
    for method in methods:
        assert json.loads(b"[0%b]" % one.text(method)) == [0, "t", "k", "p", 0, "r", method.decode("latin-1")]


_OUTCOMES = st.tuples(st.sampled_from([0, 200, 503]), st.sampled_from([b"ok", b"client_gone"]), st.integers(0, 2))


@given(st.lists(st.tuples(st.sampled_from([b",1", b",2"]), _OUTCOMES)))
def test_an_outcome_is_written_as_it_is_whatever_the_last_one_was(
    outcomes: list[tuple[bytes, tuple[int, bytes, int]]],
) -> None:
    one = Outcome()
    for caller, (status, outcome, units) in outcomes:
        text = one.text(caller, status, outcome, units)
        assert json.loads(b"[0%b]" % text) == [0, int(caller[1:]), status, outcome.decode(), units]


@pytest.mark.parametrize(
    "number", [-1, -1000, 0, 9, 10, 99, 100, 101, 999, 1000, 9_999, 10_000, 10_001, 999_999, 1_000_000, 123_456_789]
)
def test_numbers_on_either_side_of_each_second_digit(number: int) -> None:
    row = json.loads(encode_call(b"e", number, *_WHO, 200, b"ok", *(number,) * 7, b"{}"))
    assert (row[2], row[11:18]) == (number, [number] * 7)
