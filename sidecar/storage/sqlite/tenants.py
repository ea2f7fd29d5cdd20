"""Tenants and keys: plain functions of a connection; each change writes its audit row in the same transaction."""

import json
from typing import Any

import apsw

from sidecar.core.errors import Conflict, NotFound
from sidecar.core.values import AccessState, ApiKey, Tenant, Terms
from sidecar.storage.credit_values import tenant_change, tenant_facts, tenant_of, terms_text
from sidecar.storage.sqlite.connection import transaction

AUDIT_ROWS = 1_000_000
_TENANT = "SELECT name, plan, state, stripe_customer, created_ns, terms FROM tenants"
_KEY = (
    "SELECT id, tenant, name, sandbox, digest, pepper, scopes, created_ns, expires_ns, revoked_ns, last_used_ns"
    " FROM api_keys"
)


def tenant(connection: apsw.Connection, name: str) -> Tenant | None:
    row = connection.execute(f"{_TENANT} WHERE name = ?", (name,)).fetchone()
    return None if row is None else tenant_of(row)


def tenants(connection: apsw.Connection, after: str, limit: int) -> list[Tenant]:
    rows = connection.execute(f"{_TENANT} WHERE name > ? ORDER BY name LIMIT ?", (after, limit))
    return [tenant_of(row) for row in rows]


def add_tenant(connection: apsw.Connection, new: Tenant, actor: str) -> None:
    values = (new.name, new.plan, new.state.value, new.stripe_customer, new.created_ns, terms_text(new.terms))
    with transaction(connection):
        connection.execute("INSERT INTO tenants VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING", values)
        if not connection.changes():
            raise Conflict(f"there is a tenant {new.name!r} already")
        _record(connection, new.created_ns, actor, "tenant.add", new.name, plan=new.plan, state=new.state.value)


def set_tenant(
    connection: apsw.Connection,
    name: str,
    plan: str | None,
    state: AccessState | None,
    terms: Terms | None,
    actor: str,
    at_ns: int,
) -> Tenant:
    with transaction(connection):
        old = tenant(connection, name)
        if old is None:
            raise NotFound(f"there is no tenant {name!r}")
        new = tenant_change(old, plan, state, terms)
        sql = "UPDATE tenants SET plan = ?, state = ?, terms = ? WHERE name = ?"
        connection.execute(sql, (new.plan, new.state.value, terms_text(new.terms), name))
        _record(connection, at_ns, actor, "tenant.set", name, **tenant_facts(old, new))
        return new


def key(connection: apsw.Connection, key_id: str) -> ApiKey | None:
    row = connection.execute(f"{_KEY} WHERE id = ?", (key_id,)).fetchone()
    return None if row is None else _key(row)


def keys(connection: apsw.Connection, tenant_name: str, after: str, limit: int) -> list[ApiKey]:
    sql = f"{_KEY} WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?"
    return [_key(row) for row in connection.execute(sql, (tenant_name, after, limit))]


def add_key(connection: apsw.Connection, new: ApiKey, actor: str) -> None:
    with transaction(connection):
        insert_key(connection, new, actor)


def insert_key(connection: apsw.Connection, new: ApiKey, actor: str) -> None:
    """Within the caller's transaction."""
    scopes = None if new.scopes is None else json.dumps(new.scopes)
    values = (
        *(new.id, new.tenant, new.name, int(new.sandbox), new.digest, new.pepper, scopes),
        *(new.created_ns, new.expires_ns, new.revoked_ns, new.last_used_ns),
    )
    sql = "INSERT INTO api_keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
    connection.execute(sql, values)
    if not connection.changes():
        raise Conflict(f"there is a key {new.id!r} already")
    detail = {"tenant": new.tenant, "name": new.name, "sandbox": new.sandbox, "expires_ns": new.expires_ns}
    _record(connection, new.created_ns, actor, "key.add", new.id, **detail)


def end_key(connection: apsw.Connection, key_id: str, at_ns: int, revoked: bool, actor: str) -> ApiKey:
    column = "revoked_ns" if revoked else "expires_ns"
    with transaction(connection):
        sql = f"UPDATE api_keys SET {column} = min(coalesce({column}, ?1), ?1) WHERE id = ?2"  # noqa: S608 - one of two
        connection.execute(sql, (at_ns, key_id))
        ended = key(connection, key_id)
        if ended is None:
            raise NotFound(f"there is no key {key_id!r}")
        action = "key.revoke" if revoked else "key.expire"
        detail = {"expires_ns": ended.expires_ns, "revoked_ns": ended.revoked_ns}
        _record(connection, at_ns, actor, action, key_id, **detail)
        return ended


def keys_version(connection: apsw.Connection) -> int:
    return int(connection.execute("SELECT value FROM keys_version").get)


def audit(connection: apsw.Connection, at_ns: int, actor: str, action: str, subject: str, **detail: Any) -> None:
    """The audit row of a change."""
    values = (at_ns, actor, action, subject, json.dumps(detail))
    connection.execute("INSERT INTO audit_log (at_ns, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)", values)
    newest = connection.last_insert_rowid()
    connection.execute("DELETE FROM audit_log WHERE seq <= ?", (newest - AUDIT_ROWS,))


def renew(connection: apsw.Connection) -> None:
    """The new version that tells caches of a change."""
    connection.execute("UPDATE keys_version SET value = value + 1")


def _record(connection: apsw.Connection, at_ns: int, actor: str, action: str, subject: str, **detail: Any) -> None:
    audit(connection, at_ns, actor, action, subject, **detail)
    renew(connection)


def _key(row: tuple[Any, ...]) -> ApiKey:
    key_id, tenant_name, name, sandbox, digest, pepper, scopes, *times = row
    narrowed = None if scopes is None else tuple(json.loads(scopes))
    return ApiKey(key_id, tenant_name, name, bool(sandbox), digest, pepper, narrowed, *times)
