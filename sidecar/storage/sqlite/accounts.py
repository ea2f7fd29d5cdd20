"""Accounts: plain functions of a connection."""

import json
from collections.abc import Sequence
from typing import Any

import apsw

from sidecar.core.accounts import Account, Notice
from sidecar.core.billing import Period
from sidecar.core.values import AccessState
from sidecar.storage.sqlite import inbox, tenants
from sidecar.storage.sqlite.connection import transaction

_ACCOUNT = (
    "SELECT tenant, customer, subscription, status, plan, access, since_ns, until_ns, trial_until_s, ends_s, periods,"
    " read_ns FROM accounts"
)


def account(connection: apsw.Connection, tenant: str) -> Account | None:
    row = connection.execute(f"{_ACCOUNT} WHERE tenant = ?", (tenant,)).fetchone()
    return None if row is None else _account(row)


def accounts(connection: apsw.Connection, after: str, limit: int) -> list[Account]:
    rows = connection.execute(f"{_ACCOUNT} WHERE tenant > ? ORDER BY tenant LIMIT ?", (after, limit))
    return [_account(row) for row in rows]


def accounts_of(connection: apsw.Connection, customer: str) -> list[Account]:
    rows = connection.execute(f"{_ACCOUNT} WHERE customer = ? ORDER BY tenant", (customer,))
    return [_account(row) for row in rows]


def accounts_due(connection: apsw.Connection, at_ns: int, limit: int) -> list[Account]:
    rows = connection.execute(f"{_ACCOUNT} WHERE until_ns <= ? ORDER BY until_ns LIMIT ?", (at_ns, limit))
    return [_account(row) for row in rows]


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
        periods = json.dumps([[period.start_s, period.end_s] for period in new.periods])
        values = (
            *(new.tenant, new.customer, new.subscription, new.status, new.plan, new.access.value, new.since_ns),
            *(new.until_ns, new.trial_until_s, new.ends_s, periods, new.read_ns),
        )
        sql = "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        connection.execute(sql, values)
        _record_change(connection, old, new, actor, at_ns)
        inbox.add_notices(connection, notices)
    return True


def _record_change(connection: apsw.Connection, old: Account | None, new: Account, actor: str, at_ns: int) -> None:
    before = _facts(old) if old else {}
    after = _facts(new)
    if before != after:
        was = {f"was_{name}": value for name, value in before.items()}
        tenants.audit(connection, at_ns, actor, "account.set", new.tenant, **after, **was)
    if old is None or (old.access, old.plan) != (new.access, new.plan):
        tenants.renew(connection)


def _facts(held: Account) -> dict[str, str | None]:
    return {"access": held.access.value, "plan": held.plan, "status": held.status, "customer": held.customer}


def _account(row: tuple[Any, ...]) -> Account:
    tenant, customer, subscription, status, plan, access, since, until, trial, ends, periods, read = row
    parsed = tuple(Period(start, end) for start, end in json.loads(periods))
    state = AccessState(access)
    return Account(tenant, customer, subscription, status, plan, state, since, until, trial, ends, parsed, read)
