"""Rows of the outbox and parities: plain functions of a connection in a transaction."""

from typing import Any

from sidecar.core.billing import OPEN_STATES, OutboxRow, Parity, RowQuery, Window
from sidecar.core.errors import Conflict, NotFound
from sidecar.storage.billing_values import PARITY_COLUMNS, ROW_COLUMNS, WAITING, outbox_row, parity_of, parity_values
from sidecar.storage.postgres import tenants
from sidecar.storage.postgres.connection import Connection
from sidecar.storage.postgres.texts import all_shown, all_stored, shown, stored

_ROW = f"SELECT {ROW_COLUMNS} FROM sidecar.outbox"  # noqa: S608 - fixed texts
_OPEN = "state IN ('pending', 'sent')"
_INSERT = f"""
    INSERT INTO sidecar.outbox (
        tenant, customer, meter, event_name, begin_minute, end_minute, period_start_s, period_end_s, minute, version,
        value, identifier, state, created_ns, note
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
    RETURNING {ROW_COLUMNS}
"""  # noqa: S608 - fixed texts
_SUPERSEDE = """
    UPDATE sidecar.outbox SET state = 'superseded'
    WHERE event_name = $1 AND customer = $2 AND minute = $3 AND version > 0 AND attempts = 0
        AND state IN ('pending', 'held')
"""
# One statement: what another node did to the row before this one got its lock is looked at again.
_ATTEMPT = f"""
    UPDATE sidecar.outbox
    SET state = 'sent', attempts = attempts + 1, first_attempt_ns = coalesce(first_attempt_ns, $2)
    WHERE id = $1 AND {_OPEN}
    RETURNING {ROW_COLUMNS}
"""  # noqa: S608 - fixed texts
_SETTLE = f"""
    UPDATE sidecar.outbox
    SET state = $2, next_ns = $3, round = round + $4, http = $5, request_id = $6, note = $7, settled_ns = $8,
        verified_ns = $9
    WHERE id = $1
    RETURNING {ROW_COLUMNS}
"""  # noqa: S608 - fixed texts
_SUMS = """
    SELECT minute / 60, sum(value)::bigint FROM sidecar.outbox AS given
    WHERE event_name = $1 AND customer = $2 AND minute >= $3 AND minute < $4 AND state = ANY ($5::text[])
        AND (version = 0 OR version = (
            SELECT max(version) FROM sidecar.outbox AS newest
            WHERE newest.event_name = $1 AND newest.customer = $2 AND newest.minute = given.minute
                AND newest.state = ANY ($5::text[])
        ))
    GROUP BY 1
"""
# What lies wholly before the floor, in the order in which it may go: a row goes before its minutes, which say of what
# is left of the ledger that it was billed.
_FORGET = [
    f"DELETE FROM sidecar.{table} WHERE ctid = ANY (ARRAY("  # noqa: S608 - fixed texts
    f"SELECT ctid FROM sidecar.{table} WHERE {condition} LIMIT $2 FOR UPDATE SKIP LOCKED))"
    for table, condition in (
        ("outbox", "state IN ('verified', 'superseded', 'dropped') AND minute < $1 AND end_minute <= $1"),
        ("assigned_minutes", "minute < $1"),
        ("excused_minutes", "minute < $1"),
        ("marks", "minute < $1"),
        ("parities", "final AND period_end_s <= $1 * 60"),
    )
]
_SAVE_PARITY = f"""
    INSERT INTO sidecar.parities ({PARITY_COLUMNS})
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    ON CONFLICT (tenant, meter, period_start_s, period_end_s, invoice) DO UPDATE SET
        customer = excluded.customer, ledger = excluded.ledger, assigned = excluded.assigned,
        accepted = excluded.accepted, verified = excluded.verified, payee = excluded.payee,
        billed = excluded.billed, final = excluded.final, at_ns = excluded.at_ns
    WHERE NOT parities.final
"""  # noqa: S608 - fixed texts


async def insert(
    connection: Connection,
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
) -> OutboxRow:
    period = window.period
    where = (window.tenant, window.customer, meter, event_name, window.begin, window.end, period.start_s, period.end_s)
    values = all_stored((*where, minute, version, value, identifier, state, at_ns, note))
    return _row(await connection.fetchrow(_INSERT, *values))


async def supersede(connection: Connection, event_name: str, customer: str, minute: int) -> None:
    """Older totals of the hour that nobody was told."""
    await connection.execute(_SUPERSEDE, stored(event_name), stored(customer), minute)


async def replace(connection: Connection, row_id: int, note: str, at_ns: int) -> None:
    """Another row took its place."""
    sql = "UPDATE sidecar.outbox SET state = 'superseded', note = $1, settled_ns = $2 WHERE id = $3"
    await connection.execute(sql, stored(note), at_ns, row_id)


async def due(connection: Connection, at_ns: int, limit: int) -> list[OutboxRow]:
    sql = f"{_ROW} WHERE {_OPEN} AND next_ns <= $1 ORDER BY minute, id LIMIT $2"
    return [_row(found) for found in await connection.fetch(sql, at_ns, limit)]


async def attempt(connection: Connection, row_id: int, at_ns: int) -> OutboxRow:
    found = await connection.fetchrow(_ATTEMPT, row_id, at_ns)
    if found is None:
        state = (await row(connection, row_id, locked=True)).state
        raise Conflict(f"row {row_id} of the outbox is {state}; only {' and '.join(OPEN_STATES)} are sent")
    return _row(found)


async def settle(
    connection: Connection,
    row_id: int,
    state: str,
    at_ns: int,
    next_ns: int,
    rounds: int,
    http: int,
    request_id: str,
    note: str,
) -> OutboxRow:
    before = await row(connection, row_id, locked=True)
    settled = None if state in OPEN_STATES else before.settled_ns or at_ns
    verified = at_ns if state == "verified" else before.verified_ns
    values = all_stored((row_id, state, next_ns, rounds, http, request_id, note, settled, verified))
    after = _row(await connection.fetchrow(_SETTLE, *values))
    if state in (*WAITING, "dropped") and state != before.state:
        facts = {"row": str(row_id), "identifier": before.identifier, "note": note}
        await tenants.audit(connection, at_ns, "billing", f"outbox.{state}", before.tenant, **facts)
    return after


async def rows(connection: Connection, query: RowQuery) -> list[OutboxRow]:
    wanted: dict[str, Any] = {
        "tenant = ": query.tenant,
        "customer = ": query.customer,
        "event_name = ": query.event_name,
        "minute >= ": query.since,
        "minute < ": query.until,
    }
    asked = {condition: value for condition, value in wanted.items() if value is not None}
    where = ["id > $1", *(f"{condition}${number}" for number, condition in enumerate(asked, 2))]
    bound: list[Any] = [query.after, *all_stored(asked.values())]
    if query.states:
        bound.append(list(query.states))
        where.append(f"state = ANY (${len(bound)}::text[])")
    sql = f"{_ROW} WHERE {' AND '.join(where)} ORDER BY id LIMIT ${len(bound) + 1}"
    return [_row(found) for found in await connection.fetch(sql, *bound, query.limit)]


async def row_sums(
    connection: Connection, customer: str, event_name: str, begin: int, end: int, states: tuple[str, ...]
) -> dict[int, int]:
    found = await connection.fetch(_SUMS, stored(event_name), stored(customer), begin, end, list(states))
    return {int(hour): int(value) for hour, value in found}


async def row_counts(connection: Connection) -> dict[str, tuple[int, int]]:
    found = await connection.fetch("SELECT state, count(*), min(created_ns) FROM sidecar.outbox GROUP BY state")
    return {shown(state): (count, oldest) for state, count, oldest in found}


async def forget_billed(connection: Connection, before: int, at_most: int) -> int:
    gone = 0
    # First, whether it grows or not: nobody assigns while this row is locked, so no minute that goes is billed anew.
    await connection.execute("UPDATE sidecar.books SET floor = greatest(floor, $1)", before)
    for statement in _FORGET:
        if gone < at_most:
            status = await connection.execute(statement, before, at_most - gone)
            gone += int(status.rpartition(" ")[2])
    return gone


async def save_parity(connection: Connection, parity: Parity) -> None:
    await connection.execute(_SAVE_PARITY, *all_stored(parity_values(parity)))


async def parities(connection: Connection, tenant: str | None, since_ns: int, limit: int) -> list[Parity]:
    where, bound = ("AND tenant = $3", (stored(tenant),)) if tenant is not None else ("", ())
    sql = f"""
        SELECT {PARITY_COLUMNS} FROM sidecar.parities WHERE at_ns >= $1 {where}
        ORDER BY at_ns DESC, tenant, meter LIMIT $2
    """  # noqa: S608 - fixed texts
    return [parity_of(all_shown(found)) for found in await connection.fetch(sql, since_ns, limit, *bound)]


async def row(connection: Connection, row_id: int, *, locked: bool = False) -> OutboxRow:
    """``locked``: nobody else changes it before this transaction ends. NotFound."""
    found = await connection.fetchrow(f"{_ROW} WHERE id = $1" + (" FOR UPDATE" if locked else ""), row_id)
    if found is None:
        raise NotFound(f"the outbox has no row {row_id}")
    return _row(found)


def _row(found: Any) -> OutboxRow:
    return outbox_row(all_shown(found))
