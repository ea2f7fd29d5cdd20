"""Open calls against a plain dict, with few and with many at once, so that the ring comes round to calls still open."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.ledger.open_calls import OpenCalls

SLOTS = len(OpenCalls()._records)
steps = st.lists(st.tuples(st.sampled_from("beprc"), st.integers(0, 10**6)), max_size=60)


@settings(deadline=None)
@given(steps=steps, jump=st.sampled_from([1, 7, SLOTS - 1, SLOTS, SLOTS + 1]))
def test_whatever_happens_it_knows_each_open_calls_newest_record_and_where_that_stands(
    steps: list[tuple[str, int]], jump: int
) -> None:
    calls, model, last, segment = OpenCalls(), dict[int, tuple[int, bytes]](), 0, 1
    began: dict[int, int] = {}
    first_calls = {1: 1}
    for what, drawn in steps:
        record = b"%d" % drawn
        if what == "b":
            for _ in range(jump - 1):
                calls.remove(calls.add(b"short"))
            last = calls.add(record)
            model[last], began[last] = (0, record), segment
        elif what == "r":
            segment += 1
            first_calls[segment] = last + 1
        elif model:
            call = list(model)[drawn % len(model)]
            at = model[call][0]
            if what == "e":
                calls.remove(call)
                del model[call]
                with pytest.raises(KeyError):
                    calls.newest(call)
            elif what == "p":
                calls.replace(call, record, segment)
                model[call] = (segment if at else 0, record)
            else:
                calls.carry(call, record, segment)
                model[call] = (segment, record)
        assert calls.count == len(model)
        assert all(calls.newest(call) == record for call, (_, record) in model.items())
    for number in range(1, segment):
        wanted = {c: r for c, (at, r) in model.items() if (at or began[c]) <= number}
        found = calls.standing_in(number, first_calls[number + 1])
        assert len(found) == len(wanted)
        assert dict(found) == wanted


def test_a_call_that_ended_is_not_open_when_its_place_is_taken_by_another() -> None:
    calls = OpenCalls()
    old = calls.add(b"old")
    calls.remove(old)
    for _ in range(SLOTS - 1):
        calls.remove(calls.add(b"short"))
    new = calls.add(b"new")
    with pytest.raises(KeyError):
        calls.newest(old)
    assert calls.newest(new) == b"new"


@pytest.mark.parametrize("call", [-SLOTS, -1, 0, 2, SLOTS, SLOTS + 1])
def test_a_call_that_never_began_is_not_open(call: int) -> None:
    calls = OpenCalls()
    calls.add(b"one")
    for what in (calls.newest, calls.remove):
        with pytest.raises(KeyError):
            what(call)
    assert calls.count == 1
