"""Arrivals, claims, notices and leads: plain functions of a connection in a transaction.

Of what is kept by number, a known one is looked for before it is inserted: a conflict would use a number up.
"""

import json
from collections.abc import Sequence

from sidecar.core.accounts import Arrival, Notice
from sidecar.core.errors import NotFound, StoreFull
from sidecar.core.values import ApiKey
from sidecar.storage.billing_values import ARRIVALS, ATTEMPTS, NOTICE_COLUMNS, NOTICES, first_key_of, notice_of
from sidecar.storage.postgres import tenants
from sidecar.storage.postgres.connection import Connection
from sidecar.storage.postgres.texts import all_shown, all_stored, stored

_RECEIVE = """
    INSERT INTO sidecar.arrivals (id, type, object_id, payload, at_ns)
    SELECT $1::text, $2::text, $3::text, $4::text, $5::bigint
    WHERE NOT EXISTS (SELECT FROM sidecar.arrivals WHERE id = $1)
    ON CONFLICT (id) DO NOTHING RETURNING true
"""
_MAY_BE_FULL = "SELECT max(seq) - min(seq) >= $1 FROM sidecar.arrivals"
_TURN = "SELECT pg_advisory_xact_lock(hashtextextended('sidecar.' || $1::text, 0))"
_EXCESS = "SELECT count(*) - $1 FROM sidecar.arrivals"
_MAKE_ROOM = """
    DELETE FROM sidecar.arrivals
    WHERE seq IN (SELECT seq FROM sidecar.arrivals WHERE finished_ns IS NOT NULL ORDER BY seq LIMIT $1)
"""
_ARRIVALS = """
    SELECT id, type, object_id, payload, at_ns, attempts FROM sidecar.arrivals
    WHERE finished_ns IS NULL AND next_ns <= $1 ORDER BY seq LIMIT $2
"""
_POSTPONE = """
    UPDATE sidecar.arrivals SET attempts = attempts + 1, next_ns = $1::bigint, note = $2,
        finished_ns = CASE WHEN attempts + 1 >= $3 THEN $1::bigint END
    WHERE id = $4 AND finished_ns IS NULL
"""
_MOVE = "INSERT INTO sidecar.cursors VALUES ($1, $2) ON CONFLICT (what) DO UPDATE SET at_s = excluded.at_s"
_CLAIM = "INSERT INTO sidecar.claims VALUES ($1, $2, $3) ON CONFLICT (what) DO NOTHING RETURNING true"
_NOTIFY = """
    INSERT INTO sidecar.notices (id, channel, kind, tenant, facts, at_ns, next_ns)
    SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::bigint, $7::bigint
    WHERE NOT EXISTS (SELECT FROM sidecar.notices WHERE id = $1 AND channel = $2)
    RETURNING true
"""
_FORGET_NOTICES = "DELETE FROM sidecar.notices WHERE seq <= (SELECT max(seq) FROM sidecar.notices) - $1"
_DUE_NOTICES = f"""
    SELECT {NOTICE_COLUMNS} FROM sidecar.notices
    WHERE done_ns IS NULL AND next_ns <= $1 ORDER BY next_ns, seq LIMIT $2
"""  # noqa: S608 - fixed texts
_SETTLE_NOTICE = """
    UPDATE sidecar.notices SET attempts = attempts + 1, done_ns = $3, next_ns = $4, note = $5
    WHERE id = $1 AND channel = $2 RETURNING true
"""
_LEAD = """
    INSERT INTO sidecar.leads AS old VALUES ($1, $2, $3)
    ON CONFLICT (what) DO UPDATE SET node = excluded.node, until_ns = excluded.until_ns
    WHERE old.node = excluded.node OR old.until_ns <= $4
    RETURNING true
"""


async def receive(connection: Connection, arrival: Arrival) -> bool:
    values = (arrival.id, arrival.type, arrival.object_id, arrival.payload, arrival.at_ns)
    new = bool(await connection.fetchval(_RECEIVE, *all_stored(values)))
    if new and await connection.fetchval(_MAY_BE_FULL, ARRIVALS):
        await _make_room(connection)
    return new


async def _make_room(connection: Connection) -> None:
    """Called when there may be more than ARRIVALS: ``seq`` has gaps, so that this counts at last (0.1 s). One node at a
    time, lest two delete the same ones and one takes that for a full table."""
    await connection.execute(_TURN, "arrivals")
    excess = await connection.fetchval(_EXCESS, ARRIVALS)
    if excess > 0 and await connection.execute(_MAKE_ROOM, excess) != f"DELETE {excess}":
        raise StoreFull(f"{ARRIVALS:,} events of the payee wait to be dealt with; no more are taken")


async def arrivals(connection: Connection, at_ns: int, limit: int) -> list[Arrival]:
    return [Arrival(*all_shown(row)) for row in await connection.fetch(_ARRIVALS, at_ns, limit)]


async def finish(connection: Connection, arrival_id: str, at_ns: int, note: str) -> None:
    sql = "UPDATE sidecar.arrivals SET finished_ns = $1, note = $2 WHERE id = $3"
    await connection.execute(sql, at_ns, stored(note), stored(arrival_id))


async def postpone(connection: Connection, arrival_id: str, next_ns: int, note: str) -> None:
    await connection.execute(_POSTPONE, next_ns, stored(note), ATTEMPTS, stored(arrival_id))


async def cursor(connection: Connection, what: str) -> int | None:
    found = await connection.fetchval("SELECT at_s FROM sidecar.cursors WHERE what = $1", stored(what))
    return None if found is None else int(found)


async def move_cursor(connection: Connection, what: str, at_s: int) -> None:
    await connection.execute(_MOVE, stored(what), at_s)


async def claim(connection: Connection, what: str, tenant: str, at_ns: int) -> bool:
    return bool(await connection.fetchval(_CLAIM, stored(what), stored(tenant), at_ns))


async def claimed_ns(connection: Connection, what: str) -> int | None:
    found: int | None = await connection.fetchval("SELECT at_ns FROM sidecar.claims WHERE what = $1", stored(what))
    return found


async def claim_first_key(connection: Connection, key: ApiKey, actor: str) -> bool:
    """Of several at once the claim lets one through; the others wait for how it ends."""
    if await connection.fetchval("SELECT true FROM sidecar.api_keys WHERE tenant = $1 LIMIT 1", stored(key.tenant)):
        return False
    if not await claim(connection, first_key_of(key.tenant), key.tenant, key.created_ns):
        return False
    await tenants.add_key(connection, key, actor)
    return True


async def notify(connection: Connection, notices: Sequence[Notice]) -> int:
    """One node at a time, so that two with the same notices in another order never wait for each other."""
    if notices:
        await connection.execute(_TURN, "notices")
    new = 0
    for notice in notices:
        values = (notice.id, notice.channel, notice.kind, notice.tenant, json.dumps(dict(notice.facts)))
        if await connection.fetchval(_NOTIFY, *all_stored(values), notice.at_ns, notice.next_ns):
            new += 1
    if new:
        await connection.execute(_FORGET_NOTICES, NOTICES)
    return new


async def due_notices(connection: Connection, at_ns: int, limit: int) -> list[Notice]:
    return [notice_of(all_shown(row)) for row in await connection.fetch(_DUE_NOTICES, at_ns, limit)]


async def settle_notice(
    connection: Connection, notice_id: str, channel: str, done: bool, at_ns: int, next_ns: int, note: str
) -> None:
    values = all_stored((notice_id, channel, at_ns if done else None, next_ns, note))
    if not await connection.fetchval(_SETTLE_NOTICE, *values):
        raise NotFound(f"there is no notice {notice_id!r} by {channel}")


async def lead(connection: Connection, what: str, node: str, ttl_ns: int, at_ns: int) -> bool:
    return bool(await connection.fetchval(_LEAD, stored(what), stored(node), at_ns + ttl_ns, at_ns))


async def yield_lead(connection: Connection, what: str, node: str) -> None:
    await connection.execute("DELETE FROM sidecar.leads WHERE what = $1 AND node = $2", stored(what), stored(node))
