"""Open calls against a plain dict, with few and with many at once, so that the ring comes round to calls still open."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.ledger.open_calls import OpenCalls

SLOTS = len(OpenCalls()._calls)
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
            last += jump
            calls.add(last, record)
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
    calls.add(5, b"old")
    calls.remove(5)
    calls.add(5 + SLOTS, b"new")
    with pytest.raises(KeyError):
        calls.newest(5)
    assert calls.newest(5 + SLOTS) == b"new"
