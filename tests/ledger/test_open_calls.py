"""Open calls against a plain dict, with few and with many at once, so that the ring comes round to calls still open."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.ledger.open_calls import OpenCalls
from tests.journals import Text

SLOTS = len(OpenCalls()._ring)
SHORT = Text(b"short")
steps = st.lists(st.tuples(st.sampled_from("beprc"), st.integers(0, 10**6)), max_size=60)


def listed(calls: OpenCalls) -> dict[int, Text]:
    found = calls.standing_in(1 << 60, 1 << 60)
    assert len(found) == calls.count
    return dict(found)


@settings(deadline=None)
@given(steps=steps, jump=st.sampled_from([1, 7, SLOTS - 1, SLOTS, SLOTS + 1]))
def test_whatever_happens_it_knows_each_open_call_and_where_its_record_stands(
    steps: list[tuple[str, int]], jump: int
) -> None:
    calls, model, last, segment = OpenCalls(), dict[int, tuple[int, Text]](), 0, 1
    began: dict[int, int] = {}
    first_calls = {1: 1}
    for what, drawn in steps:
        if what == "b":
            for _ in range(jump - 1):
                calls.remove(calls.add(SHORT))
            call = Text(b"%d" % drawn)
            last = calls.add(call)
            model[last], began[last] = (0, call), segment
        elif what == "r":
            segment += 1
            first_calls[segment] = last + 1
        elif model:
            number = list(model)[drawn % len(model)]
            at, call = model[number]
            if what == "e":
                calls.remove(number)
                del model[number]
                with pytest.raises(KeyError):
                    calls.remove(number)
            elif what == "p":
                calls.progressed(number, segment)
                model[number] = (segment if at else 0, call)
            else:
                calls.carry(number, call, segment)
                model[number] = (segment, call)
        assert listed(calls) == {number: call for number, (_, call) in model.items()}
    for number in range(1, segment):
        wanted = {n: call for n, (at, call) in model.items() if (at or began[n]) <= number}
        found = calls.standing_in(number, first_calls[number + 1])
        assert len(found) == len(wanted)
        assert dict(found) == wanted


def test_a_call_that_ended_is_not_open_when_its_place_is_taken_by_another() -> None:
    calls = OpenCalls()
    old = calls.add(Text(b"old"))
    calls.remove(old)
    for _ in range(SLOTS - 1):
        calls.remove(calls.add(SHORT))
    new = Text(b"new")
    number = calls.add(new)
    with pytest.raises(KeyError):
        calls.remove(old)
    assert listed(calls) == {number: new}


@pytest.mark.parametrize("number", [-SLOTS, -1, 0, 2, SLOTS, SLOTS + 1])
def test_a_call_that_never_began_is_not_open(number: int) -> None:
    calls = OpenCalls()
    calls.add(Text(b"one"))
    with pytest.raises(KeyError):
        calls.remove(number)
    assert calls.count == 1
