"""Numbers as text: worked out, which compiled code does, and formatted, which interpreted code does."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from librt.strings import BytesWriter

from sidecar.core import digits
from sidecar.core.digits import put, put_moment, put_next, put_next_word

EDGES = [power + near for power in (10**digits for digits in range(18)) for near in (-1, 0, 1)]
either_way = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=[True, False], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code has its own and is not changed by this."""
    monkeypatch.setattr(digits, "_COMPILED", request.param)


@either_way
@given(st.lists(st.integers(10**15, 10**16 - 1) | st.integers(10**15, 10**15 + 10**9), min_size=1))
def test_a_moment_does_not_take_its_digits_from_another(moments: list[int]) -> None:
    writer = BytesWriter()
    for moment in moments:
        put_moment(writer, moment)
    assert writer.getvalue() == b"".join(b"%d" % moment for moment in moments)


@either_way
@given(
    st.lists(st.integers(-(10**20), 10**20) | st.integers(0, 10**16) | st.integers(0, 10**7) | st.sampled_from(EDGES))
)
def test_numbers_of_any_size_are_written(numbers: list[int]) -> None:
    writer = BytesWriter()
    for number in numbers:
        put_next(writer, number)
        put(writer, number)
    assert writer.getvalue() == b"".join(b",%7d%d" % (number, number) for number in numbers)


@either_way
@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 10**7) | st.sampled_from(EDGES)))
def test_machine_words_are_written(numbers: list[int]) -> None:
    writer = BytesWriter()
    for number in numbers:
        put_next_word(writer, number)
        put_moment(writer, number)
    assert writer.getvalue() == b"".join(b",%7d%d" % (number, number) for number in numbers)
