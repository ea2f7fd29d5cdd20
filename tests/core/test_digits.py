"""Numbers as text: worked out, which compiled code does, and formatted, which interpreted code does."""

from hypothesis import given
from hypothesis import strategies as st
from librt.strings import BytesWriter

from sidecar.core.digits import put, put_next, work_out

EDGES = [power + near for power in (10**digits for digits in range(17)) for near in (-1, 0, 1)]


@given(st.integers(0, 10**16 - 1) | st.sampled_from([edge for edge in EDGES if edge < 10**16]))
def test_a_number_is_worked_out_to_its_last_digit(number: int) -> None:
    writer = BytesWriter()
    work_out(writer, number)
    assert writer.getvalue() == b"%d" % number


@given(st.lists(st.integers(-(10**20), 10**20) | st.sampled_from(EDGES), max_size=5))
def test_numbers_of_any_size_stand_behind_commas(numbers: list[int]) -> None:
    writer = BytesWriter()
    for number in numbers:
        put_next(writer, number)
        put(writer, number)
    assert writer.getvalue() == b"".join(b",%d%d" % (number, number) for number in numbers)
