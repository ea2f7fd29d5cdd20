"""The ledger's writing side: plain functions of a connection in a transaction. The statements stand in ``queries/``."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files

from asyncpg.exceptions import UniqueViolationError

from sidecar.core.errors import StoreError
from sidecar.core.latency import BUCKETS, bucket_upper_us
from sidecar.core.ports import Position
from sidecar.storage.postgres import batch
from sidecar.storage.postgres.connection import Connection
from sidecar.storage.postgres.errors import DATA_ERRORS

REJECTED_ROWS = 10_000
_log = logging.getLogger("sidecar.storage")
_folder = files(__package__) / "queries"
TEMPORARY = (_folder / "temporary_tables.sql").read_text("utf-8")
_MISSING_DAYS = (_folder / "missing_days.sql").read_text("utf-8")
_INSERT = (_folder / "insert_entries.sql").read_text("utf-8")
# A row that may be known takes the server half as long again: it is written, looked for and then confirmed.
_INSERT_NEW = _INSERT.format(known="")
_INSERT_UNKNOWN = (
    (_folder / "insert_unknown_entries.sql")
    .read_text("utf-8")
    .format(insert=_INSERT.format(known="ON CONFLICT (tenant, started_us, event_id) DO NOTHING"))
)
_GROUP = (_folder / "group_entries.sql").read_text("utf-8")
_PROJECTIONS = [(_folder / "sum_meters.sql").read_text("utf-8")]
_PROJECTIONS += [
    (_folder / f"add_{what}.sql").read_text("utf-8").format(period=period, time=time)
    for what in ("calls", "meters", "latency")
    for period, time in (("minute", "minute"), ("hour", "minute / 60"))
]
# Last those whose rows other nodes and the billing side want too: they are held until the commit.
_PROJECTIONS += [(_folder / f"{name}.sql").read_text("utf-8") for name in ("touch_keys", "mark_batch")]
# What needs no answer in between goes in one message: for each answer this loop may have to wait for the interpreter.
_ADD_NEW = f"SAVEPOINT fresh;\n{_INSERT_NEW};\nRELEASE SAVEPOINT fresh"
_ADD_UNKNOWN = f"ROLLBACK TO SAVEPOINT fresh;\n{_INSERT_UNKNOWN};\nRELEASE SAVEPOINT fresh"
_PROJECT = ";\n".join(_PROJECTIONS)
_BUCKET_BOUNDS = [bucket_upper_us(index) for index in range(BUCKETS - 1)]
_POSITION = "SELECT segment, byte FROM sidecar.journal_positions WHERE journal = $1"
_MOVE = "UPDATE sidecar.journal_positions SET segment = $2, byte = $3, rejected = rejected + $4 WHERE journal = $1"
_REJECT = "INSERT INTO sidecar.rejected_records (journal, segment, byte, reason, payload) VALUES ($1, $2, $3, $4, $5)"
_FORGET_REJECTED = """
    DELETE FROM sidecar.rejected_records WHERE seq <= (SELECT max(seq) FROM sidecar.rejected_records) - $1
"""
_EMPTY = """
    DELETE FROM pg_temp.staging; DELETE FROM pg_temp.grouped;
    DELETE FROM pg_temp.grouped_meters; DELETE FROM pg_temp.summed_meters
"""
_Rows = Sequence[tuple[batch.Row, bytes]]
_Refused = list[tuple[bytes, str]]


class MissingPartitions(StoreError):
    """The batch has events of ``days`` whose partitions can be made."""

    def __init__(self, days: list[int]) -> None:
        super().__init__("partitions are missing")
        self.days = days


async def position(connection: Connection, journal: str, *, locked: bool = False) -> Position:
    """The journal's place in the ledger; ``locked``: nobody else moves it before this transaction ends."""
    row = await connection.fetchrow(_POSITION + (" FOR UPDATE" if locked else ""), journal)
    return Position() if row is None else Position(row["segment"], row["byte"])


async def append(
    connection: Connection, journal: str, records: Sequence[bytes], at: Position, *, any_day: bool = False
) -> int:
    """Stores the records and moves the position; returns how many were new. MissingPartitions, unless ``any_day``."""
    refused: _Refused = []
    new = await _store(connection, records, refused, any_day) if records else 0
    if refused:
        values = [(journal, at.segment, at.offset, reason, payload) for payload, reason in refused]
        await connection.executemany(_REJECT, values)
        await connection.execute(_FORGET_REJECTED, REJECTED_ROWS)
        _log.error("%d journal records are no entries and were set aside: %s", len(refused), refused[0][1])
    await connection.execute(_MOVE, journal, at.segment, at.offset, len(refused))
    return new


async def rejected(connection: Connection, journal: str) -> int:
    count = await connection.fetchval("SELECT rejected FROM sidecar.journal_positions WHERE journal = $1", journal)
    return int(count or 0)


async def make_partitions(connection: Connection, days: list[int]) -> None:
    """In a transaction of its own: it holds no lock yet that another node could be waiting for."""
    await connection.execute("SELECT sidecar.make_partitions($1::bigint[])", days)


async def _store(connection: Connection, records: Sequence[bytes], refused: _Refused, any_day: bool) -> int:
    new = await _attempt(connection, lambda: _copy_csv(connection, records, any_day))
    if isinstance(new, int):
        return new
    good, bad = batch.as_rows(records)
    refused += bad
    return await _store_rows(connection, good, refused, any_day)


async def _store_rows(connection: Connection, rows: _Rows, refused: _Refused, any_day: bool) -> int:
    """Stores all of them, or halves until what cannot be stored stands alone and can be set aside.

    One bad record in n costs about log2(n) attempts more; without one there is a single attempt.
    """
    if not rows:
        return 0
    values = [row for row, _ in rows]
    found = await _attempt(connection, lambda: _copy_rows(connection, values, any_day))
    if isinstance(found, int):
        await connection.execute(_EMPTY)
        return found
    if len(rows) == 1:
        refused.append((rows[0][1], found))
        return 0
    middle = len(rows) // 2
    first, second = rows[:middle], rows[middle:]
    new = await _store_rows(connection, first, refused, any_day)
    return new + await _store_rows(connection, second, refused, any_day)


async def _attempt(connection: Connection, copy: Callable[[], Awaitable[bool]]) -> int | str:
    """How many of what ``copy`` puts into staging were new; or, when the data is to blame, why nothing was stored."""
    await connection.execute("SAVEPOINT batch")
    why = "not as a record is written"
    try:
        if await copy():
            new = await _load(connection)
            await connection.execute("RELEASE SAVEPOINT batch")
            return new
    except DATA_ERRORS as error:
        why = str(error)[:200]
    await connection.execute("ROLLBACK TO SAVEPOINT batch; RELEASE SAVEPOINT batch")
    return why


async def _load(connection: Connection) -> int:
    """Staging to entries and sums. A batch whose answer was lost comes again: only then is any of it known."""
    try:
        await connection.execute(_ADD_NEW)
    except UniqueViolationError:
        await connection.execute(_ADD_UNKNOWN)
    new = int(await connection.fetchval(_GROUP, _BUCKET_BOUNDS))
    if new:
        await connection.execute(_PROJECT)
    return new


async def _copy_csv(connection: Connection, records: Sequence[bytes], any_day: bool) -> bool:
    source = batch.Csv(records)
    await connection.copy_to_table("staging", schema_name="pg_temp", source=source, columns=batch.COLUMNS, format="csv")
    if source.complete:
        await _check_days(connection, any_day)
    return source.complete


async def _check_days(connection: Connection, any_day: bool) -> None:
    days = [] if any_day else await connection.fetchval(_MISSING_DAYS)
    if days:
        raise MissingPartitions(days)


async def _copy_rows(connection: Connection, rows: Sequence[batch.Row], any_day: bool) -> bool:
    await connection.copy_records_to_table("staging", schema_name="pg_temp", records=rows, columns=batch.COLUMNS)
    await _check_days(connection, any_day)
    return True
