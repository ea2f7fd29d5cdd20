"""Numbers as text, on the hot path.

Compiled code works eight digits out at once, in the bytes of one machine word, and writes them with one store: see Paul
Khuong, "How to print integers really fast" (2017). Tables of texts lie in memory that no close cache holds, and a loop
over digits is five times as many instructions. Interpreted code leaves it to ``bytes``, for which one step of that
costs more than the whole number.
"""

from types import FunctionType
from typing import Final

from librt.strings import BytesWriter, write_i64_le
from mypy_extensions import i64

_COMMA: Final = 44
_EIGHT: Final = 10**8
_LONG: Final = 10**16


def put(writer: BytesWriter, number: int) -> None:
    """Writes the number."""
    if _COMPILED and 0 <= number < _LONG:
        work_out(writer, number)
    else:
        writer.write(b"%d" % number)


def put_next(writer: BytesWriter, number: int) -> None:
    """Writes a comma and the number."""
    writer.append(_COMMA)
    put(writer, number)


def work_out(writer: BytesWriter, number: i64) -> None:
    """Writes a number of up to sixteen digits, none below 0."""
    spare: i64  # of the eight bytes written, those that are no digits
    if number < _EIGHT:
        if number < 10_000:
            spare = (7 if number < 10 else 6) if number < 100 else (5 if number < 1_000 else 4)
        else:
            spare = (3 if number < 100_000 else 2) if number < 1_000_000 else (1 if number < 10_000_000 else 0)
        write_i64_le(writer, eight(number) >> (8 * spare))
        if spare:
            writer.truncate(len(writer) - spare)
        return
    front: i64 = number // _EIGHT
    work_out(writer, front)
    write_i64_le(writer, eight(number - front * _EIGHT))


def eight(number: i64) -> i64:
    """A number below 10**8 as eight digits in ASCII, the first of them in the lowest byte."""
    front: i64 = (number * 3_518_437_209) >> 45  # number // 10**4, as below by a multiplication
    pair: i64 = front + ((number - front * 10_000) << 32)  # two numbers of four digits, each in half the word
    hundreds: i64 = ((pair * 10_486) >> 20) & 0x7F_0000_007F
    four: i64 = ((pair - hundreds * 100) << 16) + hundreds  # four of two digits
    tens: i64 = ((four * 103) >> 10) & 0x000F_000F_000F_000F
    return ((four - tens * 10) << 8) + tens + 0x3030_3030_3030_3030


_COMPILED: Final = not isinstance(put, FunctionType)
