"""Parquet, by pyarrow, which is not there unless the extra ``parquet`` was installed."""

import io
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from sidecar.admin.columns import Row, Sheet

ROW_GROUP = 16_384  # rows held back until they are written: about 4 MiB of events


class _Pipe(io.RawIOBase):
    """A file that gives up what was written to it."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += memoryview(data)
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


class Parquet:
    """One file with row groups of at most ROW_GROUP rows and a page more; compressed with Zstandard.

    Memory: one row group, and about 2 KiB per row group for the footer: 12 MiB for a hundred million events. ValueError
    when pyarrow is missing.
    """

    content_type = "application/vnd.apache.parquet"
    extension = "parquet"

    def __init__(self, sheet: Sheet) -> None:
        try:
            self._arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        except ImportError:
            raise ValueError("parquet needs pyarrow; install it with: pip install 'sidecar[parquet]'") from None
        arrow = self._arrow
        kinds = {
            "text": arrow.string(),
            "integer": arrow.int64(),
            "flag": arrow.bool_(),
            "instant": arrow.timestamp("us", tz="UTC"),
            "counts": arrow.map_(arrow.string(), arrow.int64()),
        }
        self._counts = [column.kind == "counts" for column in sheet.columns]
        self._schema = arrow.schema([(column.name, kinds[column.kind]) for column in sheet.columns])
        self._pipe = _Pipe()
        self._writer = parquet.ParquetWriter(self._pipe, self._schema, compression="zstd")
        self._batches: list[Any] = []
        self._held = 0

    def begin(self) -> bytes:
        return self._pipe.take()

    def rows(self, rows: Sequence[Row]) -> bytes:
        columns = [
            [list(value.items()) for value in values] if counts else values
            for counts, values in zip(self._counts, zip(*rows, strict=True), strict=False)
        ]
        arrays = [self._arrow.array(values, kind) for values, kind in zip(columns, self._schema.types, strict=False)]
        if rows:
            self._batches.append(self._arrow.RecordBatch.from_arrays(arrays, schema=self._schema))
            self._held += len(rows)
        if self._held >= ROW_GROUP:
            self._write()
        return self._pipe.take()

    def end(self) -> bytes:
        self._write()
        self._writer.close()
        return self._pipe.take()

    def _write(self) -> None:
        if self._held:
            table = self._arrow.Table.from_batches(self._batches, schema=self._schema)
            self._writer.write_table(table, row_group_size=self._held)
            self._batches, self._held = [], 0
