"""Numbers as text, on the hot path.

Compiled code works eight digits out at once, in the bytes of one machine word, and writes them with one store: see Paul
Khuong, "How to print integers really fast" (2017). Tables of texts lie in memory that no close cache holds, a loop over
digits is five times as many instructions, and a short number has spaces before it, because asking how long it is takes
as long as all its digits. Interpreted code leaves it to ``bytes``, for which one step of that costs more than the whole
number.
"""

from types import FunctionType
from typing import Final

from librt.strings import BytesWriter, write_i64_le
from mypy_extensions import i64

_COMMA: Final = 44
_SHORT: Final = 10**7  # one digit fewer than a word holds, for the comma before it
_EIGHT: Final = 10**8
_LONG: Final = 10**16
_SIXTEEN: Final = 10**15  # the first number with so many digits: as a moment, in 2001
_DIGITS: Final = 0x0F0F_0F0F_0F0F_0F0F
_LAST_DIGIT: Final = 1 << 56  # counts as one that is not 0
_BLANK: Final = 0x1010_1010_1010_1010  # what is between a zero and a space
_COMMA_FOR_SPACE: Final = _COMMA - 32
_ONE_DIGIT: Final = 0x3020_2020_2020_202C  # a comma, six spaces, 0


class _Front:
    """The first eight digits of the latest moment, which change every hundred seconds."""

    __slots__ = ("number", "word")

    def __init__(self) -> None:
        self.number: i64 = 0
        self.word: i64 = eight(0)


def put(writer: BytesWriter, number: int) -> None:
    """Writes the number."""
    if _COMPILED and 0 <= number < _LONG:
        work_out(writer, number)
    else:
        writer.write(b"%d" % number)


def put_next(writer: BytesWriter, number: int) -> None:
    """Writes a comma and the number, with spaces before it up to seven characters."""
    if 0 <= number < _SHORT:
        put_next_word(writer, number)
    else:
        writer.write(b",%7d" % number)


def put_next_word(writer: BytesWriter, number: i64) -> None:
    """The same for what is a machine word already. OverflowError, compiled: it is not."""
    if not (_COMPILED and 0 <= number < _SHORT):
        writer.write(b",%7d" % number)
        return
    if number < 10:  # many are 0: what costs nothing, a request without a body
        write_i64_le(writer, _ONE_DIGIT + (number << 56))
        return
    digits = eight(number)
    marked: i64 = (digits & _DIGITS) | _LAST_DIGIT
    leading: i64 = ((marked & -marked) - 1) & _BLANK  # the bytes before the lowest one that is not 0
    write_i64_le(writer, digits - leading + _COMMA_FOR_SPACE)


def put_moment(writer: BytesWriter, micros: i64) -> None:
    """Writes a time, in microseconds since an epoch: mostly of the same hundred seconds as the last one."""
    if not (_COMPILED and _SIXTEEN <= micros < _LONG):
        writer.write(b"%d" % micros)
        return
    front: i64 = micros // _EIGHT
    if front != _FRONT.number:
        _FRONT.word = eight(front)
        _FRONT.number = front
    write_i64_le(writer, _FRONT.word)
    write_i64_le(writer, eight(micros - front * _EIGHT))


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


_FRONT: Final = _Front()
_COMPILED: Final = not isinstance(put_next, FunctionType)
