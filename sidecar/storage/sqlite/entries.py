"""The ledger's writing side: plain functions of a connection. The statements stand, named, in ``queries/``."""

import logging
from collections.abc import Sequence
from importlib.resources import files

import apsw

from sidecar.core.batches import Batch
from sidecar.core.ports import Position
from sidecar.storage.sqlite.assigning import MARK_BATCH
from sidecar.storage.sqlite.connection import transaction
from sidecar.storage.sqlite.errors import is_data_error

REJECTED_ROWS = 10_000
_log = logging.getLogger("sidecar.storage")
_folder = files(__package__) / "queries"
_INSERT = (_folder / "insert_entries.sql").read_text("utf-8")
_TEMPORARY = (_folder / "temporary_batch.sql").read_text("utf-8")
_GROUP = (_folder / "group_batch.sql").read_text("utf-8")
_PROJECTIONS = [
    (_folder / f"add_{what}.sql").read_text("utf-8").format(period=period, time=time)
    for what in ("calls", "meters", "latency")
    for period, time in (("minute", "minute"), ("hour", "minute / 60"), ("day", "minute / 1440"))
]
_PROJECTIONS += [(_folder / "touch_keys.sql").read_text("utf-8"), MARK_BATCH]


_POSITION = "SELECT segment, byte FROM journal_positions WHERE journal = ?"
_MOVE = "INSERT INTO journal_positions VALUES (?, ?, ?) ON CONFLICT (journal) DO UPDATE SET (segment, byte) = (?2, ?3)"


def position(connection: apsw.Connection, journal: int = 0) -> Position:
    row = connection.execute(_POSITION, (journal,)).fetchone()
    return Position() if row is None else Position(*row)


def append(connection: apsw.Connection, records: Sequence[bytes], new_position: Position, journal: int = 0) -> int:
    values = (journal, new_position.segment, new_position.offset)
    with transaction(connection):
        new = _store(connection, records, new_position) if records else 0
        connection.execute(_MOVE, values)
    return new


def _store(connection: apsw.Connection, records: Sequence[bytes], at: Position) -> int:
    """Stores all of them, or halves the batch until what cannot be stored stands alone and can be set aside.

    One bad record in n costs about log2(n) attempts more; without one there is a single attempt.
    """
    connection.execute("SAVEPOINT batch")
    try:
        new = _insert(connection, records)
    except apsw.Error as error:
        if not is_data_error(error):
            raise
        connection.execute("ROLLBACK TO batch; RELEASE batch")
        if len(records) == 1:
            _reject(connection, records[0], str(error), at)
            return 0
        middle = len(records) // 2
        return _store(connection, records[:middle], at) + _store(connection, records[middle:], at)
    connection.execute("RELEASE batch")
    return new


def _insert(connection: apsw.Connection, records: Sequence[bytes]) -> int:
    before = connection.execute("SELECT coalesce(max(seq), 0) FROM entries").get
    connection.execute(_INSERT, {"batch": b"[%b]" % b",".join(text for text, _ in Batch.of(records).blocks)})
    new = connection.changes()
    if new:
        connection.execute(_TEMPORARY)
        connection.execute(_GROUP, {"before": before})
        for statement in _PROJECTIONS:
            connection.execute(statement)
        connection.execute("DELETE FROM temp.batch")
    return new


def _reject(connection: apsw.Connection, payload: bytes, reason: str, at: Position) -> None:
    values = (at.segment, at.offset, reason, payload)
    connection.execute("INSERT INTO rejected_records (segment, byte, reason, payload) VALUES (?, ?, ?, ?)", values)
    newest = connection.last_insert_rowid()
    connection.execute("DELETE FROM rejected_records WHERE seq <= ?", (newest - REJECTED_ROWS,))
    _log.error("a journal record is no entry and was set aside as row %d of rejected_records: %s", newest, reason)


def rejected(connection: apsw.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM rejected_records").get)
