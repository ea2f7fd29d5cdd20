"""Takes an installation from a SQLite file to PostgreSQL: every row once, however often it is interrupted.

1. The file gets the move's id, and so does the database, which must be empty; no sidecar writes to it from then on.
2. Each table is copied in pages in the order of its key. A page and the key of its last row are one transaction of the
   database, so what is there is always a whole number of pages, and the next run goes on behind them.
3. Counts and sums of every table are compared.
4. The file is marked as moved, and refuses to be written to. Then, in one transaction, the database gets the position
   of the journal and is released. A crash in between leaves neither in use: the next run does what is missing.
"""

from collections.abc import Callable

from sidecar.core.errors import StoreError
from sidecar.storage.postgres import MoveTarget
from sidecar.storage.postgres.address import Address
from sidecar.storage.sqlite import TABLES, SqliteStore

PAGE = 5000  # rows; some megabytes
_TOLD_EVERY = 1_000_000  # rows
# PostgreSQL has no sums per day: it adds up those per hour, which hold the same.
DERIVED = ("calls_by_day", "meters_by_day", "latency_by_day")
MOVED = tuple(name for name in TABLES if name not in DERIVED)
_VALUES = ("requests", "units", "cost", "bytes_in", "bytes_out", "total_us", "upstream_us", "indeterminate")
_SUMMED = {
    "tenants": ("created_ns",),
    "api_keys": ("created_ns", "expires_ns", "revoked_ns", "last_used_ns"),
    "keys_version": ("value",),
    "audit_log": ("at_ns",),
    "entries": ("started_us", "status", "sandbox", *_VALUES[1:-1], "first_byte_us"),
    "books": ("floor",),
    "accounts": ("since_ns", "until_ns", "read_ns"),
    "marks": ("minute",),
    "assigned_minutes": ("minute", "value"),
    "excused_minutes": ("minute", "value"),
    "outbox": ("id", "minute", "version", "value", "attempts", "next_ns"),
    "parities": ("ledger", "assigned", "accepted", "verified", "payee", "billed", "at_ns"),
    "arrivals": ("attempts", "at_ns", "finished_ns"),
    "cursors": ("at_s",),
    "claims": ("at_ns",),
    "notices": ("attempts", "at_ns", "done_ns"),
    "credit_grants": ("amount", "granted_ns", "priority", "expires_ns", "revoked_ns", "burned", "bonus"),
    "credit_burns": ("begin_minute", "end_minute", "due", "above", "amount", "earned"),
    "credit_books": ("until_minute", "uncovered"),
    "crossings": ("start_s", "threshold", "quantity", "end_s", "used", "at_ns"),
    "rejected_records": ("segment", "byte"),
} | {
    f"{what}_by_{period}": (period, "status_class", "sandbox", *values)
    for period in ("minute", "hour")
    for what, values in (("calls", _VALUES), ("meters", ("value",)), ("latency", ("bucket", "calls")))
}
_TOLD = {*_VALUES, "first_byte_us", "calls"}


async def move(source: SqliteStore, url: str, journal: str, say: Callable[[str], None], *, page: int = PAGE) -> bool:
    """Moves all of ``source``, which was opened for it, to the PostgreSQL at ``url``; False: that was done before.

    ``journal``: identity of the journal that was shipped to ``source``. ``say`` gets lines for people; ``page`` is the
    rows of one transaction. StoreError at the first failure: the same call goes on from there.
    """
    new = await source.moved_to() is None
    target = MoveTarget(url, await source.begin_move(f"PostgreSQL at {Address.parse(url)}"), journal)
    try:
        if await target.begin(MOVED, new=new):
            await source.end_move()
            return False
        for table in MOVED:
            await _copy(source, target, table, page, say)
        await _compare(source, target, say)
        await source.end_move()
        await target.finish(await source.position(), await source.rejected())
    finally:
        await target.close()
    return True


async def _copy(source: SqliteStore, target: MoveTarget, table: str, page: int, say: Callable[[str], None]) -> None:
    columns = TABLES[table].columns
    key = [columns.index(column) for column in TABLES[table].key]
    after, done = await target.place(table)
    copied = 0
    while not done:
        rows = await source.copy_rows(table, after, page)
        done = len(rows) < page
        last = tuple(rows[-1][index] for index in key) if rows else after
        await target.add(table, columns, rows, after, last, done=done)
        after = last
        copied += len(rows)
        if copied // _TOLD_EVERY > (copied - len(rows)) // _TOLD_EVERY:
            say(f"{table}: {copied:,} rows so far")


async def _compare(source: SqliteStore, target: MoveTarget, say: Callable[[str], None]) -> None:
    """A line per table. StoreError when a table is not the same on both sides."""
    different = []
    for table in MOVED:
        columns = _SUMMED[table]
        here, there = await source.totals(table, columns), await target.totals(table, columns)
        sums = [f", {column} {there[1 + index]:,}" for index, column in enumerate(columns) if _is_told(column)]
        if here == there:
            say(f"{table}: {here[0]:,} rows{''.join(sums)}: the same on both sides")
        else:
            different.append(table)
            say(f"{table}: DIFFERENT: (rows, {', '.join(columns)}) were {here}, are {there}")
    if different:
        raise StoreError(
            f"{', '.join(different)}: PostgreSQL does not hold what the file does, so somebody else wrote to one of "
            "them; the file can be used on; to move it, make an empty database"
        )


def _is_told(column: str) -> bool:
    return column in _TOLD
