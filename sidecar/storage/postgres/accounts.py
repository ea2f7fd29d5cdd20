"""Accounts: plain functions of a connection in a transaction."""

from collections.abc import Sequence
from typing import Any

from sidecar.core.accounts import Account, Notice
from sidecar.storage.billing_values import ACCOUNT_COLUMNS, account_change, account_of, account_values, is_news
from sidecar.storage.postgres import inbox, tenants
from sidecar.storage.postgres.connection import Connection
from sidecar.storage.postgres.texts import all_shown, all_stored, stored

_ACCOUNT = f"SELECT {ACCOUNT_COLUMNS} FROM sidecar.accounts"  # noqa: S608 - fixed texts
# A lock of the name: of an account that is not there yet there is no row to lock.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('sidecar.account/' || $1::text, 0))"
_SAVE = f"""
    INSERT INTO sidecar.accounts ({ACCOUNT_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    ON CONFLICT (tenant) DO UPDATE SET
        customer = excluded.customer, subscription = excluded.subscription, status = excluded.status,
        plan = excluded.plan, access = excluded.access, since_ns = excluded.since_ns, until_ns = excluded.until_ns,
        trial_until_s = excluded.trial_until_s, ends_s = excluded.ends_s, periods = excluded.periods,
        read_ns = excluded.read_ns
"""  # noqa: S608 - fixed texts


async def account(connection: Connection, tenant: str) -> Account | None:
    found = await _found(connection, f"{_ACCOUNT} WHERE tenant = $1", stored(tenant))
    return found[0] if found else None


async def accounts(connection: Connection, after: str, limit: int) -> list[Account]:
    return await _found(connection, f"{_ACCOUNT} WHERE tenant > $1 ORDER BY tenant LIMIT $2", stored(after), limit)


async def accounts_of(connection: Connection, customer: str) -> list[Account]:
    return await _found(connection, f"{_ACCOUNT} WHERE customer = $1 ORDER BY tenant", stored(customer))


async def accounts_due(connection: Connection, at_ns: int, limit: int) -> list[Account]:
    return await _found(connection, f"{_ACCOUNT} WHERE until_ns <= $1 ORDER BY until_ns LIMIT $2", at_ns, limit)


async def save_account(
    connection: Connection,
    new: Account,
    actor: str,
    at_ns: int,
    notices: Sequence[Notice],
    if_read_ns: int | None,
) -> bool:
    await connection.execute(_LOCK, stored(new.tenant))
    old = await account(connection, new.tenant)
    if if_read_ns is not None and if_read_ns != (old.read_ns if old else 0):
        return False
    await connection.execute(_SAVE, *all_stored(account_values(new)))
    changed = account_change(old, new)
    if changed:
        await tenants.audit(connection, at_ns, actor, "account.set", new.tenant, **changed)
    if is_news(old, new):
        await tenants.renew(connection)
    await inbox.notify(connection, notices)
    return True


async def _found(connection: Connection, sql: str, *bound: Any) -> list[Account]:
    return [account_of(all_shown(row)) for row in await connection.fetch(sql, *bound)]
