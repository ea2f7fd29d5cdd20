"""Tenants and keys: plain functions of a connection in a transaction; each change writes its audit row in it too."""

import json
from typing import Any

from sidecar.core.errors import Conflict, NotFound
from sidecar.core.values import AccessState, ApiKey, Tenant, Terms
from sidecar.storage.credit_values import tenant_change, tenant_facts, tenant_of, terms_text
from sidecar.storage.postgres.connection import Connection
from sidecar.storage.postgres.texts import all_shown, shown, stored

AUDIT_ROWS = 1_000_000
_TENANT = "SELECT tenant, plan, state, stripe_customer, created_ns, terms FROM sidecar.tenants"
_KEY_COLUMNS = "id, tenant, name, sandbox, digest, pepper, scopes, created_ns, expires_ns, revoked_ns, last_used_ns"
_KEY = f"SELECT {_KEY_COLUMNS} FROM sidecar.api_keys"  # noqa: S608 - fixed texts
_ADD_TENANT = """
    INSERT INTO sidecar.tenants (tenant, plan, state, stripe_customer, created_ns, terms)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (tenant) DO NOTHING RETURNING true
"""
_SET_TENANT = "UPDATE sidecar.tenants SET plan = $2, state = $3, terms = $4 WHERE tenant = $1"
_ADD_KEY = f"""
    INSERT INTO sidecar.api_keys ({_KEY_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT (id) DO NOTHING RETURNING true
"""  # noqa: S608 - fixed texts
_RECORD = "INSERT INTO sidecar.audit_log (at_ns, actor, action, subject, detail) VALUES ($1, $2, $3, $4, $5)"
_FORGET = "DELETE FROM sidecar.audit_log WHERE seq <= (SELECT max(seq) FROM sidecar.audit_log) - $1"


async def tenant(connection: Connection, name: str) -> Tenant | None:
    row = await connection.fetchrow(f"{_TENANT} WHERE tenant = $1", stored(name))
    return None if row is None else _tenant(row)


async def tenants(connection: Connection, after: str, limit: int) -> list[Tenant]:
    rows = await connection.fetch(f"{_TENANT} WHERE tenant > $1 ORDER BY tenant LIMIT $2", stored(after), limit)
    return [_tenant(row) for row in rows]


async def add_tenant(connection: Connection, new: Tenant, actor: str) -> None:
    customer = None if new.stripe_customer is None else stored(new.stripe_customer)
    values = (stored(new.name), stored(new.plan), new.state.value, customer, new.created_ns, terms_text(new.terms))
    if not await connection.fetchval(_ADD_TENANT, *values):
        raise Conflict(f"there is a tenant {new.name!r} already")
    await _record(connection, new.created_ns, actor, "tenant.add", new.name, plan=new.plan, state=new.state.value)


async def set_tenant(
    connection: Connection,
    name: str,
    plan: str | None,
    state: AccessState | None,
    terms: Terms | None,
    actor: str,
    at_ns: int,
) -> Tenant:
    row = await connection.fetchrow(f"{_TENANT} WHERE tenant = $1 FOR UPDATE", stored(name))
    if row is None:
        raise NotFound(f"there is no tenant {name!r}")
    old = _tenant(row)
    new = tenant_change(old, plan, state, terms)
    await connection.execute(_SET_TENANT, stored(name), stored(new.plan), new.state.value, terms_text(new.terms))
    await _record(connection, at_ns, actor, "tenant.set", name, **tenant_facts(old, new))
    return new


async def key(connection: Connection, key_id: str) -> ApiKey | None:
    row = await connection.fetchrow(f"{_KEY} WHERE id = $1", stored(key_id))
    return None if row is None else _key(row)


async def keys(connection: Connection, tenant_name: str, after: str, limit: int) -> list[ApiKey]:
    sql = f"{_KEY} WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3"
    return [_key(row) for row in await connection.fetch(sql, stored(tenant_name), stored(after), limit)]


async def add_key(connection: Connection, new: ApiKey, actor: str) -> None:
    scopes = None if new.scopes is None else list(map(stored, new.scopes))
    values = (
        *(stored(new.id), stored(new.tenant), stored(new.name), new.sandbox, new.digest, stored(new.pepper), scopes),
        *(new.created_ns, new.expires_ns, new.revoked_ns, new.last_used_ns),
    )
    if not await connection.fetchval(_ADD_KEY, *values):
        raise Conflict(f"there is a key {new.id!r} already")
    detail = {"tenant": new.tenant, "name": new.name, "sandbox": new.sandbox, "expires_ns": new.expires_ns}
    await _record(connection, new.created_ns, actor, "key.add", new.id, **detail)


async def end_key(connection: Connection, key_id: str, at_ns: int, revoked: bool, actor: str) -> ApiKey:
    column = "revoked_ns" if revoked else "expires_ns"
    sql = (
        f"UPDATE sidecar.api_keys SET {column} = least({column}, $1) WHERE id = $2"  # noqa: S608 - one of two
        f" RETURNING {_KEY_COLUMNS}"
    )
    row = await connection.fetchrow(sql, at_ns, stored(key_id))
    if row is None:
        raise NotFound(f"there is no key {key_id!r}")
    ended = _key(row)
    action = "key.revoke" if revoked else "key.expire"
    detail = {"expires_ns": ended.expires_ns, "revoked_ns": ended.revoked_ns}
    await _record(connection, at_ns, actor, action, key_id, **detail)
    return ended


async def keys_version(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT value FROM sidecar.keys_version"))


async def audit(connection: Connection, at_ns: int, actor: str, action: str, subject: str, **detail: Any) -> None:
    """The audit row of a change."""
    await connection.execute(_RECORD, at_ns, stored(actor), action, stored(subject), json.dumps(detail))
    await connection.execute(_FORGET, AUDIT_ROWS)


async def renew(connection: Connection) -> None:
    """The new version that tells caches of a change."""
    await connection.execute("UPDATE sidecar.keys_version SET value = value + 1")


async def _record(connection: Connection, at_ns: int, actor: str, action: str, subject: str, **detail: Any) -> None:
    await audit(connection, at_ns, actor, action, subject, **detail)
    await renew(connection)


def _tenant(row: Any) -> Tenant:
    return tenant_of(all_shown(row))


def _key(row: Any) -> ApiKey:
    key_id, tenant_name, name, sandbox, digest, pepper, scopes, *times = row
    narrowed = None if scopes is None else tuple(map(shown, scopes))
    texts = shown(key_id), shown(tenant_name), shown(name)
    return ApiKey(*texts, sandbox, bytes(digest), shown(pepper), narrowed, *times)
