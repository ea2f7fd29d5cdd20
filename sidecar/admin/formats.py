"""The formats of exports: CSV and CloudEvents here, Parquet in its own module, because that one needs a library.

A cell of CSV that begins as a formula does in a spreadsheet (``=``, ``+``, ``-``, ``@``, tab, line ends), or with an
apostrophe, gets an apostrophe in front: methods and token subjects are written by clients, and a spreadsheet would run
them (OWASP, CSV injection). Taking one leading apostrophe off gives the text back.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from sidecar.admin.columns import Row, Sheet

_US_PER_S = 1_000_000
_FORMULA = frozenset("=+-@\t\r\n'")
SOURCE = "urn:sidecar:ledger"  # the CloudEvents source: one for all nodes, because ids are unique among them


class Encoder(Protocol):
    """Turns rows into bytes, piece by piece; ``content_type`` and ``extension`` of what comes out."""

    content_type: str
    extension: str

    def begin(self) -> bytes:
        """What stands before the first row."""
        ...

    def rows(self, rows: Sequence[Row]) -> bytes:
        """These rows; may be held back until more have come."""
        ...

    def end(self) -> bytes:
        """What is held back and what stands after the last row."""
        ...


class Csv:
    """RFC 4180 in UTF-8: a header line, CRLF, quotes where needed. Counts are JSON objects, None is empty."""

    content_type = "text/csv; charset=utf-8; header=present"
    extension = "csv"

    def __init__(self, sheet: Sheet) -> None:
        self._names = [column.name for column in sheet.columns]
        self._cells = [_CELLS[column.kind] for column in sheet.columns]

    def begin(self) -> bytes:
        return _csv([self._names])

    def rows(self, rows: Sequence[Row]) -> bytes:
        return _csv([[cell(value) for cell, value in zip(self._cells, row, strict=True)] for row in rows])

    def end(self) -> bytes:
        return b""


class CloudEvents:
    """CloudEvents 1.0 in JSON, one event in each line."""

    content_type = "application/x-ndjson"
    extension = "ndjson"

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet

    def begin(self) -> bytes:
        return b""

    def rows(self, rows: Sequence[Row]) -> bytes:
        return "".join(f"{json.dumps(self._event(row), ensure_ascii=False)}\n" for row in rows).encode()

    def end(self) -> bytes:
        return b""

    def _event(self, row: Row) -> dict[str, Any]:
        sheet = self._sheet
        data = {
            column.name: instant(value) if column.kind == "instant" else value
            for column, value in zip(sheet.columns, row, strict=True)
        }
        event = {
            "specversion": "1.0",
            "id": sheet.identity(row),
            "source": SOURCE,
            "type": sheet.event,
            "time": instant(sheet.at_us(row)),
            "datacontenttype": "application/json",
            "data": data,
        }
        subject = sheet.subject(row)
        return event | {"subject": subject} if subject else event  # an empty subject is not allowed


def instant(us: int) -> str:
    """Unix microseconds in RFC 3339, to the microsecond."""
    whole, rest = divmod(us, _US_PER_S)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:06d}Z"


def guarded(text: str) -> str:
    """The text so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text[:1] in _FORMULA and text else text


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


_CELLS: dict[str, Callable[[Any], Any]] = {
    "text": guarded,
    "integer": lambda value: value,
    "flag": lambda value: "true" if value else "false",
    "instant": instant,
    "counts": lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
}
