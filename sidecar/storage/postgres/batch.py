"""Journal records on their way into staging: as they stand where that is safe, else decoded and judged one by one.

A record is a JSON array of 18 numbers and plain texts and an object. With the object wrapped in a quote character that
no JSON text can hold, and as long as no text holds a backslash, the batch *is* a CSV file, whose texts keep their
quotes. So a batch costs a few passes of C over its bytes and no decoded object per event, and the interpreter lock is
free while the server works; ``benchmarks/ledger_postgres.py`` measures both ways. What the bytes cannot tell (a comma
inside a text, a text where a number belongs) makes columns that do not fit, or ``staging_is_well_formed.sql`` finds it.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from sidecar.storage.postgres.texts import stored

QUOTE = "\x01"
COLUMNS = (
    *("kind", "event_id", "started_us", "tenant", "key_id", "plan", "sandbox", "route", "method", "status", "outcome"),
    *("units", "cost", "bytes_in", "bytes_out", "total_us", "upstream_us", "first_byte_us", "meters"),
)
_CHUNK = 1024  # records; the interpreter lock is held for about 0.2 ms at a time
_TEXTS = frozenset({3, 4, 5, 7, 8, 10})
_BOUNDS = {2: 9223372036854775, 6: 1, 9: 999} | dict.fromkeys(range(11, 18), 2**48)
_METER_BOUND = 2**48
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
Row = tuple[Any, ...]


def as_csv(records: Sequence[bytes]) -> list[bytes] | None:
    """The batch as CSV for staging, in parts; None when its bytes alone do not show that this is what it says."""
    parts = []
    for start in range(0, len(records), _CHUNK):
        part = _part_as_csv(records[start : start + _CHUNK])
        if part is None:
            return None
        parts.append(part)
    return parts


def _part_as_csv(records: Sequence[bytes]) -> bytes | None:
    count = len(records)
    text = b"\n".join(records) + b"\n"
    if b"\\" in text or b"\x01" in text or b"\r" in text or text.count(b"\n") != count:
        return None
    if text.count(b",{") != count or text.count(b"}]\n") != count:
        return None
    return text.replace(b",{", b",\x01{").replace(b"}]\n", b"}\x01\n")


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
    values = json.loads(record)
    if not isinstance(values, list) or len(values) != len(COLUMNS) or values[0] != "d":
        raise ValueError("not a done record")
    if not isinstance(values[1], str) or _UUID.fullmatch(values[1]) is None:
        raise ValueError("the event id is no UUID")
    for position in _TEXTS:
        if not isinstance(values[position], str):
            raise ValueError(f"{COLUMNS[position]} is no text")
        values[position] = f'"{stored(values[position])}"'
    for position, bound in _BOUNDS.items():
        if type(values[position]) is not int or not 0 <= values[position] <= bound:
            raise ValueError(f"{COLUMNS[position]} is no whole number from 0 to {bound}")
    values[0], values[1], values[18] = '["d"', f'"{values[1]}"', _meters(values[18])
    return tuple(values)


def _meters(meters: Any) -> str:
    if not isinstance(meters, dict):
        raise ValueError("meters is no object")
    for name, value in meters.items():
        if type(value) is not int or not 0 <= value <= _METER_BOUND:
            raise ValueError(f"the meter {name[:60]!r} is no whole number from 0 to {_METER_BOUND}")
    return json.dumps({stored(name): value for name, value in meters.items()}, separators=(",", ":"))
