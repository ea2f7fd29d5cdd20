"""What a number in a reply counts as, and where in a JSON document it stands.

A count is an integer from 0 to 2^48 (281,474,976,710,656): sums of thirty thousand of the largest still fit 64 bits.
"""

import re
from typing import Final

MAX_VALUE: Final = 1 << 48
NONE: Final = -1  # there is no value: absent or null
INVALID: Final = -2  # there is one, but it is no count
_MAX_TEXT: Final = 200  # characters; no factor's value is longer
_DIGITS: Final = re.compile(r"[0-9]{1,15}")


def find(document: object, path: tuple[str | int, ...]) -> object:
    """What stands at ``path``: texts are members of objects, numbers places in lists, from the end when negative. None
    when there is nothing or null."""
    for step in path:
        if isinstance(step, str):
            if not isinstance(document, dict):
                return None
            document = document.get(step)
        else:
            if not isinstance(document, list) or not -len(document) <= step < len(document):
                return None
            document = document[step]
    return document


def counted(value: object) -> int:
    """The count that a JSON value is, NONE for null, INVALID for what is no count.

    An integral number counts however it is written (``12``, ``12.0``, ``1.2e1``), and so does a text of digits:
    protobuf's JSON writes 64-bit integers as texts. Booleans do not, though Python takes them for numbers.
    """
    if value is None:
        return NONE
    if isinstance(value, bool):
        return INVALID
    if isinstance(value, int):
        return value if 0 <= value <= MAX_VALUE else INVALID
    if isinstance(value, float):
        return int(value) if 0 <= value <= MAX_VALUE and value.is_integer() else INVALID
    return counted_text(value) if isinstance(value, str) and value else INVALID


def counted_text(text: str) -> int:
    """The count that a text of digits is, NONE for an empty one."""
    if not text:
        return NONE
    if _DIGITS.fullmatch(text) is None:
        return INVALID
    value = int(text)
    return value if value <= MAX_VALUE else INVALID


def named(value: object) -> str | None:
    """The text by which a factor is looked up, None for null; of what nobody can have written as a name, ``""``."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) <= MAX_VALUE else ""
    return value if isinstance(value, str) and len(value) <= _MAX_TEXT else ""
