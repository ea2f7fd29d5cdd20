"""Arrivals, claims, notices and leads: plain functions of a connection."""

import json
from collections.abc import Sequence

import apsw

from sidecar.core.accounts import Arrival, Notice
from sidecar.core.errors import NotFound, StoreFull
from sidecar.core.values import ApiKey
from sidecar.storage.billing_values import ARRIVALS, ATTEMPTS, NOTICE_COLUMNS, NOTICES, first_key_of, notice_of
from sidecar.storage.sqlite import tenants
from sidecar.storage.sqlite.connection import transaction


def receive(connection: apsw.Connection, arrival: Arrival) -> bool:
    with transaction(connection):
        values = (arrival.id, arrival.type, arrival.object_id, arrival.payload, arrival.at_ns)
        sql = "INSERT INTO arrivals (id, type, object_id, payload, at_ns) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        connection.execute(sql, values)
        new = bool(connection.changes())
        if new and connection.execute("SELECT max(seq) - min(seq) >= ? FROM arrivals", (ARRIVALS,)).get:
            _make_room(connection)
    return new


def _make_room(connection: apsw.Connection) -> None:
    """Called when there may be more than ARRIVALS: ``seq`` has gaps, so that this counts at last."""
    excess = connection.execute("SELECT count(*) - ? FROM arrivals", (ARRIVALS,)).get
    if excess > 0:
        oldest = "SELECT seq FROM arrivals WHERE finished_ns IS NOT NULL ORDER BY seq LIMIT ?"
        sql = f"DELETE FROM arrivals WHERE seq IN ({oldest})"  # noqa: S608 - made of constants
        connection.execute(sql, (excess,))
        if connection.changes() < excess:
            raise StoreFull(f"{ARRIVALS:,} events of the payee wait to be dealt with; no more are taken")


def arrivals(connection: apsw.Connection, at_ns: int, limit: int) -> list[Arrival]:
    sql = (
        "SELECT id, type, object_id, payload, at_ns, attempts FROM arrivals"
        " WHERE finished_ns IS NULL AND next_ns <= ? ORDER BY seq LIMIT ?"
    )
    return [Arrival(*row) for row in connection.execute(sql, (at_ns, limit))]


def finish(connection: apsw.Connection, arrival_id: str, at_ns: int, note: str) -> None:
    sql = "UPDATE arrivals SET finished_ns = ?, note = ? WHERE id = ?"
    connection.execute(sql, (at_ns, note, arrival_id))


def postpone(connection: apsw.Connection, arrival_id: str, next_ns: int, note: str) -> None:
    sql = (
        "UPDATE arrivals SET attempts = attempts + 1, next_ns = ?1, note = ?2,"
        " finished_ns = CASE WHEN attempts + 1 >= ?3 THEN ?1 END WHERE id = ?4 AND finished_ns IS NULL"
    )
    connection.execute(sql, (next_ns, note, ATTEMPTS, arrival_id))


def cursor(connection: apsw.Connection, what: str) -> int | None:
    found = connection.execute("SELECT at_s FROM cursors WHERE what = ?", (what,)).fetchone()
    return None if found is None else int(found[0])


def move_cursor(connection: apsw.Connection, what: str, at_s: int) -> None:
    sql = "INSERT INTO cursors VALUES (?, ?) ON CONFLICT DO UPDATE SET at_s = excluded.at_s"
    connection.execute(sql, (what, at_s))


def claim(connection: apsw.Connection, what: str, tenant: str, at_ns: int) -> bool:
    connection.execute("INSERT INTO claims VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (what, tenant, at_ns))
    return bool(connection.changes())


def claimed_ns(connection: apsw.Connection, what: str) -> int | None:
    row = connection.execute("SELECT at_ns FROM claims WHERE what = ?", (what,)).fetchone()
    return None if row is None else int(row[0])


def claim_first_key(connection: apsw.Connection, key: ApiKey, actor: str) -> bool:
    with transaction(connection):
        if connection.execute("SELECT 1 FROM api_keys WHERE tenant = ? LIMIT 1", (key.tenant,)).fetchone():
            return False
        if not claim(connection, first_key_of(key.tenant), key.tenant, key.created_ns):
            return False
        tenants.insert_key(connection, key, actor)
        return True


def notify(connection: apsw.Connection, notices: Sequence[Notice]) -> int:
    with transaction(connection):
        return add_notices(connection, notices)


def add_notices(connection: apsw.Connection, notices: Sequence[Notice]) -> int:
    """Within the caller's transaction."""
    new = 0
    for notice in notices:
        sql = (
            "INSERT INTO notices (id, channel, kind, tenant, facts, at_ns, next_ns) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING"
        )
        facts = json.dumps(dict(notice.facts))
        values = (notice.id, notice.channel, notice.kind, notice.tenant, facts, notice.at_ns, notice.next_ns)
        connection.execute(sql, values)
        new += connection.changes()
    if new:
        connection.execute("DELETE FROM notices WHERE seq <= (SELECT max(seq) FROM notices) - ?", (NOTICES,))
    return new


def due_notices(connection: apsw.Connection, at_ns: int, limit: int) -> list[Notice]:
    sql = (
        f"SELECT {NOTICE_COLUMNS} FROM notices"  # noqa: S608 - fixed texts
        " WHERE done_ns IS NULL AND next_ns <= ? ORDER BY next_ns, seq LIMIT ?"
    )
    return [notice_of(row) for row in connection.execute(sql, (at_ns, limit))]


def settle_notice(
    connection: apsw.Connection, notice_id: str, channel: str, done: bool, at_ns: int, next_ns: int, note: str
) -> None:
    sql = "UPDATE notices SET attempts = attempts + 1, done_ns = ?, next_ns = ?, note = ? WHERE id = ? AND channel = ?"
    connection.execute(sql, (at_ns if done else None, next_ns, note, notice_id, channel))
    if not connection.changes():
        raise NotFound(f"there is no notice {notice_id!r} by {channel}")


def lead(connection: apsw.Connection, what: str, node: str, ttl_ns: int, at_ns: int) -> bool:
    sql = (
        "INSERT INTO leads VALUES (?1, ?2, ?3) ON CONFLICT (what) DO UPDATE SET node = ?2, until_ns = ?3"
        " WHERE node = ?2 OR until_ns <= ?4"
    )
    connection.execute(sql, (what, node, at_ns + ttl_ns, at_ns))
    return bool(connection.changes())


def yield_lead(connection: apsw.Connection, what: str, node: str) -> None:
    connection.execute("DELETE FROM leads WHERE what = ? AND node = ?", (what, node))
