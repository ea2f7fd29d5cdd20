"""Usage records: what is written is read back, whatever the names hold."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.records import (
    OUTCOMES,
    Outcome,
    UsageRecord,
    call_head,
    caller_fragment,
    decode_record,
    encode_intent,
    encode_record,
    event_id_of,
    indeterminate,
    is_done,
    principal_fragment,
    record_of,
    text_fragment,
)

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
    intent = encode_intent(record.event_id.encode(), record.started_us, caller, *names)
    assert not is_done(intent)
    assert event_id_of(intent) == record.event_id.encode()
    found = indeterminate(intent)
    assert (found.outcome, found.status, found.units, found.cost, found.meters) == ("indeterminate", 0, 0, 0, {})
    assert (found.event_id, found.tenant, found.route) == (record.event_id, record.tenant, record.route)


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b'["d"]', b'["i",1]', b"\xff", b"null"])
def test_what_is_no_record(payload: bytes) -> None:
    for read in (decode_record, indeterminate):
        with pytest.raises(ValueError):
            read(payload)


@given(st.lists(st.integers(0, 2**48), min_size=8, max_size=8), st.integers(0, 2**53))
def test_every_number_is_written_as_it_is(numbers: list[int], started_us: int) -> None:
    head = call_head(b"e", started_us, caller_fragment(b'"t","k","p",0', b'"r"'), b'"GET"')
    row = json.loads(record_of(head, Outcome().text(numbers[0], b"ok", numbers[1]), *numbers[2:], b"{}"))
    assert (row[2], row[9], row[11:18]) == (started_us, numbers[0], numbers[1:])


_OUTCOMES = st.tuples(st.sampled_from([0, 200, 503]), st.sampled_from([b"ok", b"client_gone"]), st.integers(0, 2))


@given(st.lists(_OUTCOMES))
def test_an_outcome_is_written_as_it_is_whatever_the_last_one_was(outcomes: list[tuple[int, bytes, int]]) -> None:
    one = Outcome()
    for status, outcome, units in outcomes:
        assert json.loads(b"[0%b]" % one.text(status, outcome, units)) == [0, status, outcome.decode(), units]


@pytest.mark.parametrize(
    "number", [-1, -1000, 0, 9, 10, 99, 100, 101, 999, 1000, 9_999, 10_000, 10_001, 999_999, 1_000_000, 123_456_789]
)
def test_numbers_on_either_side_of_each_second_digit(number: int) -> None:
    head = call_head(b"e", number, caller_fragment(b'"t","k","p",0', b'"r"'), b'"GET"')
    row = json.loads(record_of(head, Outcome().text(200, b"ok", number), *(number,) * 6, b"{}"))
    assert (row[2], row[11:18]) == (number, [number] * 7)
