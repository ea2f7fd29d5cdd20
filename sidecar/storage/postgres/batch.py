"""Journal records on their way into staging: as they stand where that is safe, else decoded and judged one by one.

A record is a JSON array of 18 numbers and plain texts and an object. As long as no text holds a backslash, and so no
quote, doubling every quote makes a CSV file of the batch: a text ends the quotation that it begins, and the object
becomes one quotation. So a batch costs a few passes of C over its bytes and no decoded object per event, and the
interpreter lock is free while the server works; ``benchmarks/ledger_postgres.py`` measures both ways. A comma inside a
text makes a column too many, which the server refuses; the quotes of a text where a number belongs are counted.
"""

import json
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from sidecar.core.batches import Batch
from sidecar.storage.postgres.texts import stored

COLUMNS = (
    *("event_id", "started_us", "tenant", "key_id", "plan", "sandbox", "route", "method", "status", "outcome"),
    *("units", "cost", "bytes_in", "bytes_out", "total_us", "upstream_us", "first_byte_us", "meters"),
)
_BEGIN = b'["d",'
_BETWEEN = b'}],\n[""d"",'  # two records of a block, when quotes are doubled
_QUOTES = 16  # around the texts of a record; the names of its meters have more
_TEXTS = frozenset({2, 3, 4, 6, 7, 9})
_BOUNDS = {1: 9223372036854775, 5: 1, 8: 999} | dict.fromkeys(range(10, 17), 2**48)
_METER_BOUND = 2**48
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
Row = tuple[Any, ...]


class Csv:
    """The batch as CSV for staging, block by block, each made while the server reads the one before: the interpreter
    lock is held for about 0.1 ms at a time, and malloc need not ask the kernel. ``complete`` when all are made; they
    end before one that ``as_csv`` does not make."""

    def __init__(self, records: Sequence[bytes]) -> None:
        self.complete = False
        self._records = Batch.of(records)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for text, count in self._records.gathered():
            part = as_csv(text, count)
            if part is None:
                return
            yield part
        self.complete = True


def as_csv(text: bytes, count: int) -> bytes | None:
    """A block of a batch as CSV for staging; None when its bytes alone do not show that this is what it says."""
    if b"\\" in text or b"\r" in text or text.count(b"\n") != count - 1 or not text.startswith(_BEGIN):
        return None
    # What was replaced how often is seen by the length.
    doubled = text.replace(b'"', b'""')
    if len(doubled) - len(text) != _QUOTES * count + 2 * text.count(b'":'):
        return None
    if b'""' in text:
        doubled = doubled.replace(b'""""', b'""')  # an empty text is one quotation
    opened = doubled.replace(b"{", b'"{')
    closed = opened.replace(_BETWEEN, b'}"\n')
    if len(opened) - len(doubled) != count or len(opened) - len(closed) != (count - 1) * (len(_BETWEEN) - 3):
        return None
    return closed[len(_BEGIN) + 2 : -1] + b'"\n' if closed.endswith(b"}]") else None


def as_rows(records: Sequence[bytes]) -> tuple[list[tuple[Row, bytes]], list[tuple[bytes, str]]]:
    """Rows for staging, each with its record; and the records that are none, each with the reason."""
    good: list[tuple[Row, bytes]] = []
    bad: list[tuple[bytes, str]] = []
    for record in records:
        try:
            good.append((_row(record), record))
        except (ValueError, RecursionError) as error:
            bad.append((record, str(error)[:200] or "not a done record"))
    return good, bad


def _row(record: bytes) -> Row:
    """ValueError for what is no done record."""
    found = json.loads(record)
    if not isinstance(found, list) or len(found) != 1 + len(COLUMNS) or found[0] != "d":
        raise ValueError("not a done record")
    values = found[1:]
    if not isinstance(values[0], str) or _UUID.fullmatch(values[0]) is None:
        raise ValueError("the event id is no UUID")
    for position in _TEXTS:
        if not isinstance(values[position], str):
            raise ValueError(f"{COLUMNS[position]} is no text")
        values[position] = stored(values[position])
    for position, bound in _BOUNDS.items():
        if type(values[position]) is not int or not 0 <= values[position] <= bound:
            raise ValueError(f"{COLUMNS[position]} is no whole number from 0 to {bound}")
    values[17] = _meters(values[17])
    return tuple(values)


def _meters(meters: Any) -> str:
    if not isinstance(meters, dict):
        raise ValueError("meters is no object")
    for name, value in meters.items():
        if type(value) is not int or not 0 <= value <= _METER_BOUND:
            raise ValueError(f"the meter {name[:60]!r} is no whole number from 0 to {_METER_BOUND}")
    return json.dumps({stored(name): value for name, value in meters.items()}, separators=(",", ":"))
