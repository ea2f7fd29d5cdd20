"""The ledger: plain functions of a connection. The statements stand, named, in ``queries/``."""

import dataclasses
import logging
from collections.abc import Sequence
from importlib.resources import files

import apsw

from sidecar.core.ports import Position, UsageReport, UsageTotals
from sidecar.storage.sqlite.connection import transaction
from sidecar.storage.sqlite.errors import is_data_error

REJECTED_ROWS = 10_000
US_PER_MINUTE = 60_000_000
_log = logging.getLogger("sidecar.storage")
_folder = files(__package__) / "queries"
_INSERT = (_folder / "insert_entries.sql").read_text("utf-8")
_TEMPORARY = (_folder / "temporary_batch.sql").read_text("utf-8")
_GROUP = (_folder / "group_batch.sql").read_text("utf-8")
_PROJECTIONS = [
    (_folder / f"{name}.sql").read_text("utf-8") for name in ("add_to_rollups", "add_to_meter_rollups", "touch_keys")
]
_USAGE = (_folder / "usage.sql").read_text("utf-8")
_USAGE_METERS = (_folder / "usage_meters.sql").read_text("utf-8")
_METER_TOTAL = (_folder / "meter_total.sql").read_text("utf-8")
_FORGET = (_folder / "forget_events.sql").read_text("utf-8")


def position(connection: apsw.Connection) -> Position:
    segment, byte = connection.execute("SELECT segment, byte FROM journal_positions WHERE journal = 0").get
    return Position(segment, byte)


def append(connection: apsw.Connection, records: Sequence[bytes], new_position: Position) -> int:
    values = (new_position.segment, new_position.offset)
    with transaction(connection):
        new = _store(connection, records, new_position) if records else 0
        connection.execute("UPDATE journal_positions SET segment = ?, byte = ? WHERE journal = 0", values)
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
    connection.execute(_INSERT, {"batch": b"[%b]" % b",".join(records)})
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


def forget(connection: apsw.Connection, before_us: int, at_most: int) -> int:
    with transaction(connection):
        connection.execute(_FORGET, {"before_us": before_us, "at_most": at_most})
        return connection.changes()


def usage(connection: apsw.Connection, tenant: str, since_us: int, until_us: int) -> UsageReport:
    asked = {"tenant": tenant, "since": since_us // US_PER_MINUTE, "until": until_us // US_PER_MINUTE}
    routes: dict[str, UsageTotals] = {}
    statuses: dict[str, UsageTotals] = {}
    totals = sandbox = UsageTotals()
    unknown = 0
    connection.execute("BEGIN")  # both questions of the same moment
    try:
        for route, status_class, is_sandbox, *sums, indeterminate in connection.execute(_USAGE, asked):
            part = UsageTotals(*sums)
            if is_sandbox:
                sandbox = _add(sandbox, part)
                continue
            label = f"{status_class}xx" if status_class else "none"
            totals = _add(totals, part)
            routes[route] = _add(routes.get(route, UsageTotals()), part)
            statuses[label] = _add(statuses.get(label, UsageTotals()), part)
            unknown += indeterminate
        meters = {meter: value for meter, value in connection.execute(_USAGE_METERS, asked) if value is not None}
    finally:
        connection.execute("COMMIT")
    return UsageReport(tenant, since_us, until_us, totals, routes, statuses, meters, sandbox, unknown)


def meter_total(
    connection: apsw.Connection, tenant: str, meter: str, since_us: int, until_us: int, sandbox: bool
) -> int:
    asked = {
        "tenant": tenant,
        "meter": meter,
        "since": since_us // US_PER_MINUTE,
        "until": until_us // US_PER_MINUTE,
        "sandbox": int(sandbox),
    }
    return int(connection.execute(_METER_TOTAL, asked).get)


def _add(left: UsageTotals, right: UsageTotals) -> UsageTotals:
    return UsageTotals(*map(sum, zip(dataclasses.astuple(left), dataclasses.astuple(right), strict=True)))
