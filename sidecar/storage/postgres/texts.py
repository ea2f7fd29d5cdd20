"""Texts that PostgreSQL cannot hold. It refuses U+0000, which a name may have; nothing is lost or merged over that.

U+0001 becomes the escape: U+0000 is stored as U+0001 ``0`` and U+0001 as U+0001 ``1``. No two texts are stored alike,
and a text without either, which is every text of a sane installation, is stored as it is.
"""

from collections.abc import Iterable
from typing import Any


def stored(text: str) -> str:
    """The text as the database holds it. ValueError for one that is not Unicode (a lone surrogate)."""
    if "\x00" in text or "\x01" in text:
        text = text.replace("\x01", "\x011").replace("\x00", "\x010")
    if not text.isascii():
        text.encode()  # UnicodeEncodeError is a ValueError
    return text


def shown(text: str) -> str:
    """The text that ``stored`` was given."""
    if "\x01" in text:
        return text.replace("\x010", "\x00").replace("\x011", "\x01")
    return text


def all_stored(values: Iterable[Any]) -> list[Any]:
    """Every text among the values in stored form."""
    return [stored(value) if isinstance(value, str) else value for value in values]


def all_shown(values: Iterable[Any]) -> list[Any]:
    """The values that ``all_stored`` was given."""
    return [shown(value) if isinstance(value, str) else value for value in values]
