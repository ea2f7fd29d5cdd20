"""Credits and thresholds: plain functions of a connection in a transaction."""

from collections.abc import Mapping, Sequence

from sidecar.core.accounts import Notice
from sidecar.core.credits import NS_PER_MINUTE, Book, CreditHistory, Grant, Share
from sidecar.core.crossings import Crossing
from sidecar.core.errors import NotFound
from sidecar.storage.credit_values import (
    GRANT_COLUMNS,
    KEEP_CROSSINGS_S,
    OPEN,
    SHARE_COLUMNS,
    book_of,
    check_room,
    crossing_values,
    grant_facts,
    grant_of,
    grant_values,
    same_grant,
    share_of,
    share_values,
)
from sidecar.storage.postgres import inbox, tenants
from sidecar.storage.postgres.connection import Connection
from sidecar.storage.postgres.texts import all_shown, all_stored, stored

_GRANT = f"SELECT {GRANT_COLUMNS} FROM sidecar.credit_grants"  # noqa: S608 - fixed texts
_BOOK = "SELECT tenant, until_minute, uncovered FROM sidecar.credit_books WHERE tenant = $1"
# Of the name: of a tenant without any grant there is no row to lock.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('sidecar.credits/' || $1::text, 0))"
_OPEN = f"tenant = $1 AND {OPEN.format(until='$2')}"
_ADD = "INSERT INTO sidecar.credit_grants VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
_REVOKE = f"""
    UPDATE sidecar.credit_grants SET revoked_ns = least(revoked_ns, $1) WHERE tenant = $2 AND source = $3
    RETURNING {GRANT_COLUMNS}
"""  # noqa: S608 - fixed texts
_SETTLE = """
    INSERT INTO sidecar.credit_books VALUES ($1, $2, $3)
    ON CONFLICT (tenant) DO UPDATE SET until_minute = excluded.until_minute, uncovered = excluded.uncovered
"""
# Rows of a tenant are few: its grants and, at most twice as many, what was burned of them.
_SHARES = f"""
    SELECT {SHARE_COLUMNS} FROM sidecar.credit_burns WHERE tenant = $1 AND end_minute > $2 AND begin_minute < $3
    ORDER BY begin_minute, above
"""  # noqa: S608 - fixed texts
_EXPIRED = f"{_GRANT} WHERE tenant = $1 AND expires_ns > $2 AND expires_ns <= $3"
_BURN = "INSERT INTO sidecar.credit_burns VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_CROSS = "INSERT INTO sidecar.crossings VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING true"
_FORGET = """
    DELETE FROM sidecar.crossings WHERE (tenant, name, start_s, threshold, quantity) IN
        (SELECT tenant, name, start_s, threshold, quantity FROM sidecar.crossings WHERE end_s < $1 LIMIT 100
         FOR UPDATE SKIP LOCKED)
"""


async def add_grant(connection: Connection, grant: Grant, actor: str) -> tuple[Grant, bool]:
    await connection.execute(_LOCK, stored(grant.tenant))
    row = await connection.fetchrow(
        f"{_GRANT} WHERE tenant = $1 AND source = $2", stored(grant.tenant), stored(grant.source)
    )
    if row is not None:
        return same_grant(grant_of(all_shown(row)), grant), False
    still = f"SELECT count(*) FROM sidecar.credit_grants WHERE {_OPEN}"  # noqa: S608 - fixed texts
    check_room(grant.tenant, await connection.fetchval(still, stored(grant.tenant), grant.granted_ns))
    await connection.execute(_ADD, *all_stored(grant_values(grant)))
    await tenants.audit(connection, grant.granted_ns, actor, "credits.grant", grant.tenant, **grant_facts(grant))
    await tenants.renew(connection)
    return grant, True


async def revoke_grant(connection: Connection, tenant: str, source: str, at_ns: int, actor: str) -> Grant:
    row = await connection.fetchrow(_REVOKE, at_ns, stored(tenant), stored(source))
    if row is None:
        raise NotFound(f"{tenant} has no grant {source!r}")
    found = grant_of(all_shown(row))
    await tenants.audit(connection, at_ns, actor, "credits.revoke", tenant, **grant_facts(found))
    await tenants.renew(connection)
    return found


async def grants(connection: Connection, tenant: str, after: str, limit: int) -> list[Grant]:
    sql = f"{_GRANT} WHERE tenant = $1 AND source > $2 ORDER BY source LIMIT $3"
    return [grant_of(all_shown(row)) for row in await connection.fetch(sql, stored(tenant), stored(after), limit)]


async def credit(connection: Connection, tenant: str) -> tuple[Book | None, list[Grant]]:
    row = await connection.fetchrow(_BOOK, stored(tenant))
    book = book_of(None if row is None else all_shown(row))
    until_ns = 0 if book is None else book.until * NS_PER_MINUTE
    rows = await connection.fetch(f"{_GRANT} WHERE {_OPEN}", stored(tenant), until_ns)
    return book, [grant_of(all_shown(row)) for row in rows]


async def credit_history(connection: Connection, tenant: str, begin: int, end: int) -> CreditHistory:
    name, begin_ns, end_ns = stored(tenant), begin * NS_PER_MINUTE, end * NS_PER_MINUTE
    book, grants = await credit(connection, tenant)
    shares = [share_of(all_shown(row)) for row in await connection.fetch(_SHARES, name, begin, end)]
    ended = await connection.fetch(_EXPIRED, name, begin_ns - NS_PER_MINUTE, end_ns)
    return CreditHistory(book, grants, shares, [grant_of(all_shown(row)) for row in ended])


async def settle_credits(
    connection: Connection, book: Book, burned: Mapping[str, int], if_until: int | None, shares: Sequence[Share]
) -> bool:
    await connection.execute(_LOCK, stored(book.tenant))
    row = await connection.fetchrow(_BOOK, stored(book.tenant))
    if (None if row is None else row["until_minute"]) != if_until:
        return False
    await connection.execute(_SETTLE, stored(book.tenant), book.until, book.uncovered)
    sql = "UPDATE sidecar.credit_grants SET burned = $1 WHERE tenant = $2 AND source = $3"
    values = [(amount, stored(book.tenant), stored(source)) for source, amount in sorted(burned.items())]
    await connection.executemany(sql, values)
    await connection.executemany(_BURN, [all_stored(share_values(book.tenant, share)) for share in shares])
    return True


async def cross(connection: Connection, crossing: Crossing, notices: Sequence[Notice]) -> bool:
    if not await connection.fetchval(_CROSS, *all_stored(crossing_values(crossing))):
        return False
    await inbox.notify(connection, notices)
    await connection.execute(_FORGET, crossing.at_ns // 10**9 - KEEP_CROSSINGS_S)
    return True
