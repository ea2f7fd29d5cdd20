"""Accounts: plain functions of a connection."""

from collections.abc import Sequence

import apsw

from sidecar.core.accounts import Account, Notice
from sidecar.storage.billing_values import ACCOUNT_COLUMNS, account_change, account_of, account_values, is_news
from sidecar.storage.sqlite import inbox, tenants
from sidecar.storage.sqlite.connection import transaction

_ACCOUNT = f"SELECT {ACCOUNT_COLUMNS} FROM accounts"  # noqa: S608 - fixed texts


def account(connection: apsw.Connection, tenant: str) -> Account | None:
    row = connection.execute(f"{_ACCOUNT} WHERE tenant = ?", (tenant,)).fetchone()
    return None if row is None else account_of(row)


def accounts(connection: apsw.Connection, after: str, limit: int) -> list[Account]:
    rows = connection.execute(f"{_ACCOUNT} WHERE tenant > ? ORDER BY tenant LIMIT ?", (after, limit))
    return [account_of(row) for row in rows]


def accounts_of(connection: apsw.Connection, customer: str) -> list[Account]:
    rows = connection.execute(f"{_ACCOUNT} WHERE customer = ? ORDER BY tenant", (customer,))
    return [account_of(row) for row in rows]


def accounts_due(connection: apsw.Connection, at_ns: int, limit: int) -> list[Account]:
    rows = connection.execute(f"{_ACCOUNT} WHERE until_ns <= ? ORDER BY until_ns LIMIT ?", (at_ns, limit))
    return [account_of(row) for row in rows]


def save_account(
    connection: apsw.Connection,
    new: Account,
    actor: str,
    at_ns: int,
    notices: Sequence[Notice],
    if_read_ns: int | None,
) -> bool:
    with transaction(connection):
        old = account(connection, new.tenant)
        if if_read_ns is not None and if_read_ns != (old.read_ns if old else 0):
            return False
        sql = "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        connection.execute(sql, account_values(new))
        _record_change(connection, old, new, actor, at_ns)
        inbox.add_notices(connection, notices)
    return True


def _record_change(connection: apsw.Connection, old: Account | None, new: Account, actor: str, at_ns: int) -> None:
    changed = account_change(old, new)
    if changed:
        tenants.audit(connection, at_ns, actor, "account.set", new.tenant, **changed)
    if is_news(old, new):
        tenants.renew(connection)
