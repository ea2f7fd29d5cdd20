"""Rows of the outbox and parities: plain functions of a connection."""

from typing import Any

import apsw

from sidecar.core.billing import OPEN_STATES, OutboxRow, Parity, RowQuery, Window
from sidecar.core.errors import Conflict, NotFound
from sidecar.storage.billing_values import PARITY_COLUMNS, ROW_COLUMNS, WAITING, outbox_row, parity_of, parity_values
from sidecar.storage.sqlite import tenants
from sidecar.storage.sqlite.connection import transaction

_ROW = f"SELECT {ROW_COLUMNS} FROM outbox"  # noqa: S608 - fixed texts
_OPEN = "state IN ('pending', 'sent')"
# What lies wholly before the floor, in the order in which it may go: a row goes before its minutes, which say of what
# is left of the ledger that it was billed.
_FORGET = (
    "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE state IN ('verified', 'superseded', 'dropped')"
    " AND minute < :before AND end_minute <= :before ORDER BY id LIMIT :at_most)",
    "DELETE FROM assigned_minutes WHERE (tenant, meter, minute) IN (SELECT tenant, meter, minute FROM assigned_minutes"
    " WHERE minute < :before LIMIT :at_most)",
    "DELETE FROM excused_minutes WHERE (tenant, meter, minute) IN (SELECT tenant, meter, minute FROM excused_minutes"
    " WHERE minute < :before LIMIT :at_most)",
    "DELETE FROM marks WHERE (tenant, minute) IN (SELECT tenant, minute FROM marks WHERE minute < :before"
    " LIMIT :at_most)",
    "DELETE FROM parities WHERE (tenant, meter, period_start_s, period_end_s, invoice) IN (SELECT tenant, meter,"
    " period_start_s, period_end_s, invoice FROM parities WHERE period_end_s <= :before * 60 AND final = 1"
    " LIMIT :at_most)",
)


def insert(
    connection: apsw.Connection,
    window: Window,
    meter: str,
    event_name: str,
    minute: int,
    version: int,
    value: int,
    identifier: str,
    state: str,
    at_ns: int,
    note: str,
) -> int:
    """Within the caller's transaction. The row's id."""
    period = window.period
    sql = (
        "INSERT INTO outbox (tenant, customer, meter, event_name, begin_minute, end_minute, period_start_s,"
        " period_end_s, minute, version, value, identifier, state, created_ns, note)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    where = (window.tenant, window.customer, meter, event_name, window.begin, window.end, period.start_s, period.end_s)
    connection.execute(sql, (*where, minute, version, value, identifier, state, at_ns, note))
    return int(connection.last_insert_rowid())


def supersede(connection: apsw.Connection, event_name: str, customer: str, minute: int) -> None:
    """Older totals of the hour that nobody was told; within the caller's transaction."""
    sql = (
        "UPDATE outbox SET state = 'superseded' WHERE event_name = ? AND customer = ? AND minute = ? AND version > 0"
        " AND attempts = 0 AND state IN ('pending', 'held')"
    )
    connection.execute(sql, (event_name, customer, minute))


def replace(connection: apsw.Connection, row_id: int, note: str, at_ns: int) -> None:
    """Another row took its place; within the caller's transaction."""
    sql = "UPDATE outbox SET state = 'superseded', note = ?, settled_ns = ? WHERE id = ?"
    connection.execute(sql, (note, at_ns, row_id))


def row(connection: apsw.Connection, row_id: int) -> OutboxRow:
    found = connection.execute(f"{_ROW} WHERE id = ?", (row_id,)).fetchone()
    if found is None:
        raise NotFound(f"the outbox has no row {row_id}")
    return outbox_row(found)


def due(connection: apsw.Connection, at_ns: int, limit: int) -> list[OutboxRow]:
    sql = f"{_ROW} WHERE {_OPEN} AND next_ns <= ? ORDER BY minute, id LIMIT ?"
    return [outbox_row(found) for found in connection.execute(sql, (at_ns, limit))]


def attempt(connection: apsw.Connection, row_id: int, at_ns: int) -> OutboxRow:
    with transaction(connection):
        found = row(connection, row_id)
        if found.state not in OPEN_STATES:
            raise Conflict(f"row {row_id} of the outbox is {found.state}; only {' and '.join(OPEN_STATES)} are sent")
        sql = (
            "UPDATE outbox SET state = 'sent', attempts = attempts + 1,"
            " first_attempt_ns = coalesce(first_attempt_ns, ?) WHERE id = ?"
        )
        connection.execute(sql, (at_ns, row_id))
        return row(connection, row_id)


def settle(
    connection: apsw.Connection,
    row_id: int,
    state: str,
    at_ns: int,
    next_ns: int,
    rounds: int,
    http: int,
    request_id: str,
    note: str,
) -> OutboxRow:
    with transaction(connection):
        before = row(connection, row_id)
        settled = None if state in OPEN_STATES else before.settled_ns or at_ns
        verified = at_ns if state == "verified" else before.verified_ns
        sql = (
            "UPDATE outbox SET state = ?, next_ns = ?, round = round + ?, http = ?, request_id = ?, note = ?,"
            " settled_ns = ?, verified_ns = ? WHERE id = ?"
        )
        connection.execute(sql, (state, next_ns, rounds, http, request_id, note, settled, verified, row_id))
        if state in (*WAITING, "dropped") and state != before.state:
            facts = {"row": str(row_id), "identifier": before.identifier, "note": note}
            tenants.audit(connection, at_ns, "billing", f"outbox.{state}", before.tenant, **facts)
        return row(connection, row_id)


def rows(connection: apsw.Connection, query: RowQuery) -> list[OutboxRow]:
    wanted: dict[str, Any] = {
        "tenant = ?": query.tenant,
        "customer = ?": query.customer,
        "event_name = ?": query.event_name,
        "minute >= ?": query.since,
        "minute < ?": query.until,
    }
    asked = {condition: value for condition, value in wanted.items() if value is not None}
    where = ["id > ?", *asked]
    bound: list[Any] = [query.after, *asked.values()]
    if query.states:
        where.append(f"state IN ({', '.join('?' * len(query.states))})")
        bound += query.states
    sql = f"{_ROW} WHERE {' AND '.join(where)} ORDER BY id LIMIT ?"
    return [outbox_row(found) for found in connection.execute(sql, (*bound, query.limit))]


def row_sums(
    connection: apsw.Connection, customer: str, event_name: str, begin: int, end: int, states: tuple[str, ...]
) -> dict[int, int]:
    marks = ", ".join("?" * len(states))
    sql = f"""
        SELECT minute / 60, sum(value) FROM outbox AS given
        WHERE event_name = ? AND customer = ? AND minute >= ? AND minute < ? AND state IN ({marks})
        AND (version = 0 OR version = (
            SELECT max(version) FROM outbox AS newest WHERE newest.event_name = given.event_name
            AND newest.customer = given.customer AND newest.minute = given.minute AND newest.state IN ({marks})
        ))
        GROUP BY 1
    """  # noqa: S608 - fixed texts
    bound = (event_name, customer, begin, end, *states, *states)
    return {int(hour): int(value) for hour, value in connection.execute(sql, bound)}


def row_counts(connection: apsw.Connection) -> dict[str, tuple[int, int]]:
    sql = "SELECT state, count(*), min(created_ns) FROM outbox GROUP BY state"
    return {state: (count, oldest) for state, count, oldest in connection.execute(sql)}


def forget_billed(connection: apsw.Connection, before: int, at_most: int) -> int:
    gone = 0
    with transaction(connection):
        connection.execute("UPDATE books SET floor = max(floor, ?)", (before,))
        for statement in _FORGET:
            if gone < at_most:
                connection.execute(statement, {"before": before, "at_most": at_most - gone})
                gone += connection.changes()
    return gone


def save_parity(connection: apsw.Connection, parity: Parity) -> None:
    sql = (
        "INSERT INTO parities VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (tenant, meter, period_start_s, period_end_s, invoice) DO UPDATE SET"
        " customer = excluded.customer, ledger = excluded.ledger, assigned = excluded.assigned,"
        " accepted = excluded.accepted, verified = excluded.verified, payee = excluded.payee,"
        " billed = excluded.billed, final = excluded.final, at_ns = excluded.at_ns WHERE parities.final = 0"
    )
    connection.execute(sql, parity_values(parity))


def parities(connection: apsw.Connection, tenant: str | None, since_ns: int, limit: int) -> list[Parity]:
    where, bound = ("AND tenant = ?", (tenant,)) if tenant is not None else ("", ())
    sql = f"""
        SELECT {PARITY_COLUMNS} FROM parities WHERE at_ns >= ? {where} ORDER BY at_ns DESC, tenant, meter LIMIT ?
    """  # noqa: S608 - fixed texts
    return [parity_of(found) for found in connection.execute(sql, (since_ns, *bound, limit))]
