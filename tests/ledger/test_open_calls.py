"""Open calls against plain lists."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.ledger import Entry
from sidecar.ledger.open_calls import OpenCalls
from tests.journals import Text

steps = st.lists(st.tuples(st.sampled_from("bbbwweedomr"), st.integers(0, 10**6)), max_size=80)


@given(steps=steps)
def test_whatever_happens_it_knows_each_open_call_and_where_its_record_stands(steps: list[tuple[str, int]]) -> None:
    """Calls begin, have their intents written, end, have their done records written or not, and move on, while segments
    come."""
    calls, segment = OpenCalls(), 1
    standing, waiting, ended = dict[Entry, int](), list[Entry](), list[Entry]()
    for what, drawn in steps:
        if what == "b":
            waiting.append(Text(b""))
            waiting[-1].segment = 1 << 60
            calls.add(waiting[-1])
        elif what == "w" and waiting:
            call = waiting.pop(0)
            calls.written(call, segment)
            standing[call] = segment
        elif what == "e":
            running = [call for call in [*standing, *waiting] if call not in ended]
            if running:
                ended.append(running[drawn % len(running)])
                calls.end(ended[-1])
        elif what == "d" and ended and ended[0] in standing:
            call = ended.pop(0)
            calls.remove(call)
            del standing[call]
            assert (call.segment, call.older, call.newer, call.behind) == (0, None, None, None)
        elif what == "o" and ended:
            calls.reopen(ended.pop(0))
        elif what == "m" and standing:
            call = list(standing)[drawn % len(standing)]
            calls.move(call, segment)
            standing[call] = segment
        elif what == "r":
            segment += 1
        assert calls.count == len(standing) + len(waiting)
        assert calls.waiting is (waiting[0] if waiting else None)
        assert calls.ended is (ended[0] if ended else None)
        assert all(call.segment == (-at if call in ended else at) for call, at in standing.items())
    for gone in range(1, segment + 1):
        while (found := calls.standing_in(gone)) is not None:
            assert standing.pop(found) == gone
            calls.move(found, segment + 1)
        assert all(at > gone for at in standing.values())
    assert not standing


def test_those_that_have_no_record_yet_stand_nowhere() -> None:
    calls = OpenCalls()
    one = Text(b"")
    one.segment = 1 << 60
    calls.add(one)
    assert calls.standing_in(7) is None
    calls.end(one)
    assert calls.standing_in(7) is None
    calls.written(one, 7)
    assert calls.standing_in(6) is None
    assert calls.standing_in(7) is one
