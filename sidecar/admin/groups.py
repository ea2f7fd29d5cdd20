"""What usage is grouped by: the words, the cursors that lead from page to page, and the values as JSON shows them."""

import base64
import json
from typing import Any

from sidecar.admin.shapes import time_text
from sidecar.admin.spans import Span
from sidecar.core.clock import NS_PER_S
from sidecar.core.ports import PARTS, TIMES, Group

_MINUTE_US = 60_000_000
_LAST_MINUTE = 253_402_300_799 // 60  # of the year 9999
_WORDS = f"{', '.join(PARTS)}, and one of {', '.join(TIMES)}"


def parse_by(text: str) -> tuple[str, ...]:
    """``route,day`` as the parts of a UsageQuery. ValueError says what to write."""
    by = tuple(part.strip() for part in text.split(","))
    for part in by:
        if part not in PARTS and part not in TIMES:
            raise ValueError(f"usage cannot be grouped by {part!r}; write some of {_WORDS}")
    if len(set(by)) < len(by):
        raise ValueError(f"{text!r} names a part twice")
    if len(set(by) & set(TIMES)) > 1:
        raise ValueError(f"{text!r} holds two times; write one of {', '.join(TIMES)}")
    return by


def parse_sandbox(text: str) -> bool | None:
    """``true``, ``false`` or ``any`` (None)."""
    known = {"true": True, "false": False, "any": None}
    if text not in known:
        raise ValueError(f"sandbox is {text!r}; write true, false or any")
    return known[text]


def named(by: tuple[str, ...], group: Group) -> dict[str, Any]:
    """The group's values by name; times in RFC 3339, ``sandbox`` as a boolean."""
    return {part: _shown(part, value) for part, value in zip(by, group, strict=True)}


def cursor(by: tuple[str, ...], span: Span, group: Group) -> str:
    """Opaque text that leads to the page after ``group``; it keeps the range, so that the pages of ``since=1d`` are
    pages of one and the same day."""
    raw = json.dumps([by, span, group], separators=(",", ":"), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def read_cursor(text: str, by: tuple[str, ...]) -> tuple[Span, Group]:
    """The range and the group of a cursor. ValueError when it is not one of this grouping."""
    wrong = ValueError("after is not a cursor of this list; give the value of next, with the same by")
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        of, span, group = json.loads(raw)
        since_us, until_us = span
    except (ValueError, TypeError, RecursionError):
        raise wrong from None
    if of != list(by) or not isinstance(group, list) or len(group) != len(by):
        raise wrong
    if not all(type(at) is int and at % _MINUTE_US == 0 and at >= 0 for at in (since_us, until_us)):
        raise wrong
    if since_us >= until_us or until_us > (_LAST_MINUTE + 1) * _MINUTE_US:
        raise wrong
    if not all(_fits(part, value) for part, value in zip(by, group, strict=True)):
        raise wrong
    return Span(since_us, until_us), tuple(group)


def _fits(part: str, value: object) -> bool:
    if part in TIMES:
        return type(value) is int and 0 <= value <= _LAST_MINUTE
    if part == "sandbox":
        return type(value) is int and value in (0, 1)
    return isinstance(value, str)


def _shown(part: str, value: str | int) -> Any:
    if part in TIMES:
        return time_text(int(value) * 60 * NS_PER_S)
    return bool(value) if part == "sandbox" else value
