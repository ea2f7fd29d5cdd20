"""Credits and thresholds: plain functions of a connection."""

from collections.abc import Mapping, Sequence

import apsw

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
from sidecar.storage.sqlite import inbox, tenants
from sidecar.storage.sqlite.connection import one_moment, transaction

_GRANT = f"SELECT {GRANT_COLUMNS} FROM credit_grants"  # noqa: S608 - fixed texts
_BOOK = "SELECT tenant, until_minute, uncovered FROM credit_books WHERE tenant = ?"

# Rows of a tenant are few: its grants and, at most twice as many, what was burned of them.
_SHARES = f"""
    SELECT {SHARE_COLUMNS} FROM credit_burns WHERE tenant = ? AND end_minute > ? AND begin_minute < ?
    ORDER BY begin_minute, above
"""  # noqa: S608 - fixed texts
_EXPIRED = f"{_GRANT} WHERE tenant = ? AND expires_ns > ? AND expires_ns <= ?"


def add_grant(connection: apsw.Connection, grant: Grant, actor: str) -> tuple[Grant, bool]:
    with transaction(connection):
        known = _one(connection, grant.tenant, grant.source)
        if known is not None:
            return same_grant(known, grant), False
        still = f"SELECT count(*) FROM credit_grants WHERE tenant = ?1 AND {OPEN.format(until='?2')}"  # noqa: S608
        check_room(grant.tenant, int(connection.execute(still, (grant.tenant, grant.granted_ns)).get))
        connection.execute("INSERT INTO credit_grants VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", grant_values(grant))
        tenants.audit(connection, grant.granted_ns, actor, "credits.grant", grant.tenant, **grant_facts(grant))
        tenants.renew(connection)
    return grant, True


def revoke_grant(connection: apsw.Connection, tenant: str, source: str, at_ns: int, actor: str) -> Grant:
    with transaction(connection):
        sql = (
            "UPDATE credit_grants SET revoked_ns = min(coalesce(revoked_ns, ?1), ?1) WHERE tenant = ?2 AND source = ?3"
        )
        connection.execute(sql, (at_ns, tenant, source))
        found = _one(connection, tenant, source)
        if found is None:
            raise NotFound(f"{tenant} has no grant {source!r}")
        tenants.audit(connection, at_ns, actor, "credits.revoke", tenant, **grant_facts(found))
        tenants.renew(connection)
    return found


def grants(connection: apsw.Connection, tenant: str, after: str, limit: int) -> list[Grant]:
    sql = f"{_GRANT} WHERE tenant = ? AND source > ? ORDER BY source LIMIT ?"
    return [grant_of(row) for row in connection.execute(sql, (tenant, after, limit))]


def credit(connection: apsw.Connection, tenant: str) -> tuple[Book | None, list[Grant]]:
    with one_moment(connection):
        return _credit(connection, tenant)


def credit_history(connection: apsw.Connection, tenant: str, begin: int, end: int) -> CreditHistory:
    with one_moment(connection):
        book, grants = _credit(connection, tenant)
        shares = [share_of(row) for row in connection.execute(_SHARES, (tenant, begin, end))]
        ends = tenant, begin * NS_PER_MINUTE - NS_PER_MINUTE, end * NS_PER_MINUTE
        expired = [grant_of(row) for row in connection.execute(_EXPIRED, ends)]
    return CreditHistory(book, grants, shares, expired)


def _credit(connection: apsw.Connection, tenant: str) -> tuple[Book | None, list[Grant]]:
    book = book_of(connection.execute(_BOOK, (tenant,)).fetchone())
    until_ns = 0 if book is None else book.until * NS_PER_MINUTE
    sql = f"{_GRANT} WHERE tenant = ?1 AND {OPEN.format(until='?2')}"
    return book, [grant_of(row) for row in connection.execute(sql, (tenant, until_ns))]


def settle_credits(
    connection: apsw.Connection,
    book: Book,
    burned: Mapping[str, int],
    if_until: int | None,
    shares: Sequence[Share],
) -> bool:
    with transaction(connection):
        old = book_of(connection.execute(_BOOK, (book.tenant,)).fetchone())
        if (None if old is None else old.until) != if_until:
            return False
        connection.execute(
            "INSERT OR REPLACE INTO credit_books VALUES (?, ?, ?)", (book.tenant, book.until, book.uncovered)
        )
        sql = "UPDATE credit_grants SET burned = ? WHERE tenant = ? AND source = ?"
        connection.executemany(sql, [(amount, book.tenant, source) for source, amount in burned.items()])
        rows = [share_values(book.tenant, share) for share in shares]
        connection.executemany("INSERT INTO credit_burns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    return True


def cross(connection: apsw.Connection, crossing: Crossing, notices: Sequence[Notice]) -> bool:
    with transaction(connection):
        values = crossing_values(crossing)
        connection.execute("INSERT INTO crossings VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", values)
        if not connection.changes():
            return False
        inbox.add_notices(connection, notices)
        before_s = crossing.at_ns // 10**9 - KEEP_CROSSINGS_S
        connection.execute(
            "DELETE FROM crossings WHERE (tenant, name, start_s, threshold, quantity) IN"
            " (SELECT tenant, name, start_s, threshold, quantity FROM crossings WHERE end_s < ? LIMIT 100)",
            (before_s,),
        )
    return True


def _one(connection: apsw.Connection, tenant: str, source: str) -> Grant | None:
    row = connection.execute(f"{_GRANT} WHERE tenant = ? AND source = ?", (tenant, source)).fetchone()
    return None if row is None else grant_of(row)
