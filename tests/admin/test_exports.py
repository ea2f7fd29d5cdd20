"""Exports read back equal the ledger, in every format, in bounded memory."""

import csv
import io
import json
import sys
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet
import pytest
from pyarrow import BufferReader

from sidecar.admin.columns import EVENTS, event_rows
from sidecar.admin.formats import guarded, instant
from sidecar.core.errors import NotFound
from sidecar.core.ports import EventPage

NAMES = [column.name for column in EVENTS.columns]
KINDS = {column.name: column.kind for column in EVENTS.columns}


async def fetched(book: Any, **asked: Any) -> bytes:
    export = await book.operations.export(**asked)
    return b"".join([chunk async for chunk in export.chunks])


async def fill(book: Any, count: int = 2_500) -> list[dict[str, Any]]:
    """Calls over two pages and more, hostile texts among them; what an export must say about each."""
    await book.tenant("acme", "pro")
    texts = ["GET", "=1+1", "+A", "-B", "@C", "'D", "a,b", 'q"uote', "two\r\nlines", "Ünïcode", ""]
    records = [
        book.record(
            n, method=texts[n % len(texts)], key_id=f"jwt:{texts[-n % len(texts)]}", sandbox=n % 5 == 0,
            started_us=book.now_us - 3_600_000_000 + n, tenant="acme" if n % 3 else "beta",
            meters={"requests": 1, "tokens?": 1} if n % 2 else {},
        )
        for n in range(count)
    ]  # fmt: skip
    await book.add(*records)
    return [dict(zip(NAMES, row, strict=True)) for row in event_rows(records, "USD")]


def by_id(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["event_id"])


def from_csv(name: str, text: str) -> Any:
    match KINDS[name]:
        case "text":
            return text.removeprefix("'")
        case "integer":
            return int(text)
        case "flag":
            return {"true": True, "false": False}[text]
        case "instant":
            return round(datetime.fromisoformat(text).timestamp() * 1_000_000)
    return json.loads(text)


async def test_csv_read_back_is_the_ledger(book: Any) -> None:
    expected = await fill(book)
    raw = await fetched(book, what="events", format="csv")
    assert raw.startswith(",".join(NAMES).encode() + b"\r\n")
    assert raw.endswith(b"\r\n")
    rows = list(csv.DictReader(io.StringIO(raw.decode(), newline=""), strict=True))
    assert by_id([{name: from_csv(name, text) for name, text in row.items()} for row in rows]) == by_id(expected)
    assert not [cell for row in rows for cell in row.values() if cell[:1] in set("=+-@\t\r\n")]


async def test_parquet_read_back_is_the_ledger(book: Any) -> None:
    expected = await fill(book)
    table = pyarrow.parquet.read_table(BufferReader(await fetched(book, what="events", format="parquet")))
    rows = table.to_pylist()
    for row in rows:
        row["time"] = round(row["time"].timestamp() * 1_000_000)
        row |= {name: dict(row[name]) for name in ("meters", "anomalies", "shadow_refused")}
    assert by_id(rows) == by_id(expected)
    assert str(table.schema.field("cost_micros").type) == "int64"


async def test_cloudevents_read_back_are_the_ledger(book: Any) -> None:
    expected = await fill(book)
    lines = (await fetched(book, what="events", format="cloudevents")).decode().split("\n")
    assert lines.pop() == ""
    events = [json.loads(line) for line in lines]
    for event in events:
        assert event["specversion"] == "1.0"
        assert (event["source"], event["type"]) == ("urn:sidecar:ledger", "sidecar.call.v1")
        assert event["id"] == event["data"]["event_id"]
        assert event["subject"] == event["data"]["tenant"]
        assert event["time"] == event["data"]["time"]
    rows = [event["data"] | {"time": from_csv("time", event["data"]["time"])} for event in events]
    assert by_id(rows) == by_id(expected)


async def test_usage_read_back_is_the_sums(book: Any) -> None:
    expected = await fill(book)
    raw = await fetched(book, what="usage", format="csv", by="tenant,day,sandbox", sandbox="any")
    rows = list(csv.DictReader(io.StringIO(raw.decode(), newline="")))
    assert [(row["tenant"], row["sandbox"], row["day"]) for row in rows] == [
        (tenant, sandbox, "2026-11-23T00:00:00.000000Z") for tenant in ("acme", "beta") for sandbox in ("false", "true")
    ]
    assert sum(int(row["requests"]) for row in rows) == len(expected)
    assert sum(int(row["cost_micros"]) for row in rows) == sum(row["cost_micros"] for row in expected)
    assert {row["currency"] for row in rows} == {"USD"}
    lines = (await fetched(book, what="usage", format="cloudevents", by="tenant,day")).decode().splitlines()
    again = (await fetched(book, what="usage", format="cloudevents", by="tenant,day")).decode().splitlines()
    assert lines == again
    assert len({json.loads(line)["id"] for line in lines}) == len(lines) == 2
    parquet = await fetched(book, what="usage", format="parquet", tenant="acme")
    assert pyarrow.parquet.read_table(BufferReader(parquet)).column("tenant").to_pylist() == ["acme"]


@pytest.mark.parametrize(("format", "length"), [("csv", 5_000), ("parquet", 18_000), ("cloudevents", 5_000)])
async def test_an_export_needs_the_memory_of_a_page(book: Any, format: str, length: int) -> None:
    """It holds pages of 1,000 and row groups of 16,384, not the file: twice the length, the same peak."""
    template, count = book.record(0), 10

    async def events(*, after: str | None, limit: int, **rest: Any) -> EventPage:
        begin = int(after or 0)
        page = [replace(template, event_id=f"{n:036}", started_us=n) for n in range(begin, begin + limit)]
        return EventPage(tuple(page), str(begin + limit) if begin + limit < count else None)

    book.store.events = events
    await fetched(book, what="events", format=format)  # what is imported and cached once
    peaks, sizes = [], []
    for factor in (1, 2):
        count = factor * length
        export = await book.operations.export(what="events", format=format)
        tracemalloc.start()
        sizes.append(sum([len(chunk) async for chunk in export.chunks]))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert sizes[1] > 1.8 * sizes[0]
    assert peaks[1] < 1.2 * peaks[0]


async def test_an_empty_export_is_a_whole_file(book: Any) -> None:
    await book.tenant("acme", "pro")
    assert (await fetched(book, what="events", format="csv", tenant="acme")).count(b"\r\n") == 1
    assert await fetched(book, what="events", format="cloudevents") == b""
    raw = await fetched(book, what="events", format="parquet")
    table = pyarrow.parquet.read_table(BufferReader(raw))
    assert (table.num_rows, table.column_names) == (0, NAMES)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"what": "event", "format": "csv"}, "write events or usage"),
        ({"what": "events", "format": "xlsx"}, "write one of csv, parquet, cloudevents"),
        ({"what": "events", "format": "csv", "by": "route"}, "events are single calls"),
        ({"what": "events", "format": "csv", "route": "a"}, "events are single calls"),
        ({"what": "events", "format": "csv", "since": "31d"}, "single events are kept for 30d"),
        ({"what": "usage", "format": "csv", "by": "rout"}, "grouped by 'rout'"),
        ({"what": "usage", "format": "csv", "sandbox": "maybe"}, "write true, false or any"),
    ],
)
async def test_what_cannot_be_exported_is_told_before_anything_is_sent(
    book: Any, asked: dict[str, str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        await book.operations.export(**asked)


async def test_a_ghost_has_no_export(book: Any) -> None:
    with pytest.raises(NotFound):
        await book.operations.export(what="events", format="csv", tenant="ghost")


async def test_parquet_without_its_library_says_what_to_install(book: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'sidecar\[parquet\]'"):
        await book.operations.export(what="events", format="parquet")


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "\ta", "\ra", "\na", "'a", "a=b", "", "GET"])
def test_a_guarded_text_is_no_formula_and_gives_the_text_back(text: str) -> None:
    cell = guarded(text)
    assert cell[:1] not in set("=+-@\t\r\n") or cell == ""
    assert (cell[1:] if cell.startswith("'") else cell) == text


def test_instants_keep_every_microsecond() -> None:
    assert instant(1_795_437_296_000_001) == "2026-11-23T12:34:56.000001Z"
    assert datetime.fromisoformat(instant(0)) == datetime(1970, 1, 1, tzinfo=UTC)
