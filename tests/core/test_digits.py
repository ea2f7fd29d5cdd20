"""Numbers as text: worked out, which compiled code does, and formatted, which interpreted code does."""

from hypothesis import given
from hypothesis import strategies as st
from librt.strings import BytesWriter

from sidecar.core.digits import put, put_moment, put_next, put_next_word, work_out, work_out_moment, work_out_next

EDGES = [power + near for power in (10**digits for digits in range(18)) for near in (-1, 0, 1)]


@given(st.integers(0, 10**16 - 1) | st.sampled_from([edge for edge in EDGES if edge < 10**16]))
def test_a_number_is_worked_out_to_its_last_digit(number: int) -> None:
    writer = BytesWriter()
    work_out(writer, number)
    assert writer.getvalue() == b"%d" % number


@given(st.integers(0, 10**7 - 1) | st.sampled_from([edge for edge in EDGES if edge < 10**7]))
def test_a_short_number_is_worked_out_with_its_comma(number: int) -> None:
    writer = BytesWriter()
    writer.write(b"before")
    work_out_next(writer, number)
    assert writer.getvalue() == b"before,%7d" % number


@given(st.lists(st.integers(10**15, 10**16 - 1) | st.integers(10**15, 10**15 + 10**9), min_size=1))
def test_a_moment_does_not_take_its_digits_from_another(moments: list[int]) -> None:
    writer = BytesWriter()
    for moment in moments:
        work_out_moment(writer, moment)
    assert writer.getvalue() == b"".join(b",%d" % moment for moment in moments)


@given(st.lists(st.integers(-(10**20), 10**20) | st.sampled_from(EDGES), max_size=5))
def test_numbers_of_any_size_are_written(numbers: list[int]) -> None:
    writer = BytesWriter()
    for number in numbers:
        put_next(writer, number)
        put(writer, number)
    assert writer.getvalue() == b"".join(b",%7d%d" % (number, number) for number in numbers)


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.sampled_from(EDGES), max_size=5))
def test_machine_words_are_written(numbers: list[int]) -> None:
    writer = BytesWriter()
    for number in numbers:
        put_next_word(writer, number)
        put_moment(writer, number)
    assert writer.getvalue() == b"".join(b",%7d,%d" % (number, number) for number in numbers)
