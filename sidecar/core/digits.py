"""Numbers as text, on the hot path.

Compiled code works the digits out: a loop over them is shorter than formatting, and tables of texts lie in memory that
no close cache holds. Interpreted code leaves it to ``bytes``, for which a digit costs more than the whole number.
"""

from types import FunctionType
from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, u8

_ZERO: Final = 48
_COMMA: Final = 44
_MYRIAD: Final = 10_000
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
    """Writes a number of up to sixteen digits, none below 0, digit by digit."""
    if number < _MYRIAD:
        _up_to_four(writer, number)
        return
    front: i64 = number // _MYRIAD
    work_out(writer, front)
    number -= front * _MYRIAD
    front = number * 5243 >> 19  # number // 100: below a myriad a multiplication will do
    _two(writer, front)
    _two(writer, number - front * 100)


def _up_to_four(writer: BytesWriter, number: i64) -> None:
    if number < 100:
        _up_to_two(writer, number)
        return
    front: i64 = number * 5243 >> 19
    _up_to_two(writer, front)
    _two(writer, number - front * 100)


def _up_to_two(writer: BytesWriter, number: i64) -> None:
    if number < 10:
        writer.append(u8(_ZERO + number))
    else:
        _two(writer, number)


def _two(writer: BytesWriter, number: i64) -> None:
    front: i64 = number * 103 >> 10  # number // 10
    writer.append(u8(_ZERO + front))
    writer.append(u8(_ZERO + number - front * 10))


_COMPILED: Final = not isinstance(put, FunctionType)
