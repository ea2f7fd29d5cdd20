"""The schema: numbered migrations, forward only, applied by the owner; the application only looks at its number."""

import asyncio
import contextlib
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from sidecar.core.errors import StoreError
from sidecar.storage.postgres.address import Address
from sidecar.storage.postgres.connection import INGEST, OPERATOR, READER, Connection, dial
from sidecar.storage.postgres.errors import explained

MIN_VERSION = 140000
_GRANT_OPTIONS_SINCE = 160000  # before, inheriting was an attribute of the member and not of the membership
_ROLES = (INGEST, READER, OPERATOR)
_TIMEOUT_S = 600.0
_SETTINGS = {"application_name": "sidecar schema", "search_path": "pg_catalog", "lock_timeout": "10s"}
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('sidecar.schema', 0))"
# One row per applied migration. Before the first one, so it is made here.
_BOOK = """
    CREATE SCHEMA IF NOT EXISTS sidecar;
    CREATE TABLE IF NOT EXISTS sidecar.migrations (
        number     integer     NOT NULL PRIMARY KEY,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""
_EXISTS = """
    SELECT EXISTS (
        SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = 'sidecar' AND relname = 'migrations'
    )
"""
_SERVER = """
    SELECT current_setting('server_version_num')::integer AS version, current_setting('server_encoding') AS encoding
"""
# What the login may do by itself, without SET ROLE. MEMBER: may become that role; USAGE: has its rights already.
_LOGIN = """
    SELECT
        rolname, rolsuper, rolbypassrls,
        (
            SELECT count(*) FROM pg_roles AS working WHERE rolname = ANY ($1::text[]) AND pg_has_role(oid, 'MEMBER')
        ) AS roles,
        EXISTS (
            SELECT FROM pg_roles AS working WHERE rolname = ANY ($1::text[]) AND pg_has_role(oid, 'USAGE')
        ) AS inherits,
        EXISTS (
            SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
            WHERE nspname = 'sidecar' AND pg_has_role(relowner, 'MEMBER')
        ) AS owns
    FROM pg_roles WHERE rolname = session_user
"""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """``version``: the newest migration that was applied, 0 for none; ``pending``: those that this version adds."""

    version: int
    pending: tuple[int, ...]


def migrations() -> list[tuple[int, str]]:
    """(number, SQL) of every ``migrations/NNNN_name.sql``, ascending from 1 without a gap."""
    folder = files(__package__) / "migrations"
    found = sorted((entry.name, entry) for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name[:4]), entry.read_text("utf-8")) for name, entry in found]


async def migrate_schema(owner_url: str, application_role: str) -> list[int]:
    """Brings the schema to this version as its owner, and lets ``application_role`` work with it.

    Everything happens in one transaction under a lock, so that several at once do it once. Returns the numbers that
    were applied, none when all were. StoreError.
    """
    address = Address.parse(owner_url)
    with explained(address):
        async with asyncio.timeout(_TIMEOUT_S):
            connection = await dial(address, _SETTINGS)
            try:
                await _check_server(connection)
                async with connection.transaction():
                    await connection.execute(_LOCK)
                    await _make_roles(connection)
                    applied = await _apply(connection)
                    await _admit(connection, application_role)
                return applied
            finally:
                connection.terminate()


async def schema_state(url: str) -> SchemaState:
    """How far the schema is, asked as the owner or as the application. StoreError."""
    address = Address.parse(url)
    with explained(address):
        connection = await dial(address, _SETTINGS | {"statement_timeout": "10s"})
        try:
            async with asyncio.timeout(_TIMEOUT_S), connection.transaction():
                version = await _version(connection)
        finally:
            connection.terminate()
    return SchemaState(version, tuple(number for number, _ in migrations() if number > version))


async def check(connection: Connection, address: Address) -> None:
    """StoreError, with what to do, unless server, login and schema are fit for work."""
    await _check_server(connection)
    login = await connection.fetchrow(_LOGIN, list(_ROLES))
    name = login["rolname"]
    if login["rolsuper"] or login["rolbypassrls"]:
        what = "is a superuser" if login["rolsuper"] else "has BYPASSRLS"
        raise StoreError(
            f'PostgreSQL at {address}: the role "{name}" {what}, so one tenant could see another; log in as a role of '
            "its own, see docs/postgresql.md"
        )
    if login["owns"]:
        raise StoreError(
            f'PostgreSQL at {address}: the role "{name}" owns the tables; log in as a role that does not, see '
            "docs/postgresql.md"
        )
    async with connection.transaction():
        version = await _version(connection)
    if version < len(migrations()):
        raise StoreError(
            f"PostgreSQL at {address} has schema {version}, this version needs {len(migrations())}; run: "
            "sidecar schema apply"
        )
    if version > len(migrations()):
        raise StoreError(
            f"PostgreSQL at {address} has schema {version}, this version knows up to {len(migrations())}; run a newer "
            "sidecar on it"
        )
    if login["roles"] < len(_ROLES) or login["inherits"]:
        raise StoreError(
            f'PostgreSQL at {address}: the role "{name}" is not a member of {", ".join(_ROLES)}, or inherits from '
            "them; run: sidecar schema apply"
        )


async def _check_server(connection: Connection) -> None:
    server = await connection.fetchrow(_SERVER)
    if server["version"] < MIN_VERSION:
        raise StoreError(
            f"PostgreSQL {server['version'] // 10_000} is too old; {MIN_VERSION // 10_000} or later is needed"
        )
    if server["encoding"] != "UTF8":
        raise StoreError(f"the database's encoding is {server['encoding']}; make one with ENCODING 'UTF8'")


async def _version(connection: Connection) -> int:
    if not await connection.fetchval(_EXISTS):
        return 0
    if not await connection.fetchval("SELECT has_schema_privilege('sidecar', 'USAGE')"):  # not the owner
        await connection.execute(f"SET LOCAL ROLE {INGEST}")
    try:
        return int(await connection.fetchval("SELECT coalesce(max(number), 0) FROM sidecar.migrations"))
    except asyncpg.InsufficientPrivilegeError:
        raise StoreError("this role may not read the schema's number; run: sidecar schema apply") from None


async def _make_roles(connection: Connection) -> None:
    present = {row[0] for row in await connection.fetch("SELECT rolname FROM pg_roles WHERE rolname LIKE 'sidecar%'")}
    missing = [role for role in _ROLES if role not in present]
    try:
        for role in missing:
            with contextlib.suppress(asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
                async with connection.transaction():  # roles are of all databases: another one's owner may be quicker
                    await connection.execute(f"CREATE ROLE {role} NOLOGIN NOINHERIT")
    except asyncpg.InsufficientPrivilegeError:
        statements = "; ".join(f"CREATE ROLE {role} NOLOGIN NOINHERIT" for role in missing)
        raise StoreError(f"the owner may not make roles; let a superuser run: {statements}") from None


async def _apply(connection: Connection) -> list[int]:
    await connection.execute(_BOOK)
    version = int(await connection.fetchval("SELECT coalesce(max(number), 0) FROM sidecar.migrations"))
    if version > len(migrations()):
        raise StoreError(f"the schema is {version}, this version knows up to {len(migrations())}; run a newer sidecar")
    pending = [(number, sql) for number, sql in migrations() if number > version]
    for number, sql in pending:
        await connection.execute(sql)
        await connection.execute("INSERT INTO sidecar.migrations (number) VALUES ($1)", number)
    return [number for number, _ in pending]


async def _admit(connection: Connection, role: str) -> None:
    """Lets ``role`` become each of the working roles, without inheriting from them."""
    found = await connection.fetchrow(
        "SELECT rolinherit, quote_ident(rolname) AS name, rolname = session_user AS own FROM pg_roles"
        " WHERE rolname = $1",
        role,
    )
    if found is None:
        raise StoreError(f'there is no role "{role}"; make it with CREATE ROLE and LOGIN, see docs/postgresql.md')
    if found["own"]:
        raise StoreError(
            f'the role "{role}" is the owner; the application needs one of its own, see docs/postgresql.md'
        )
    modern = (await connection.fetchrow(_SERVER))["version"] >= _GRANT_OPTIONS_SINCE
    if not modern and found["rolinherit"]:
        raise StoreError(f"the role inherits; let its owner run: ALTER ROLE {found['name']} NOINHERIT")
    member = "SELECT count(*) FROM pg_roles WHERE rolname = ANY ($1::text[]) AND pg_has_role($2, oid, 'MEMBER')"
    inherits = "SELECT count(*) FROM pg_roles WHERE rolname = ANY ($1::text[]) AND pg_has_role($2, oid, 'USAGE')"
    await connection.execute(
        "DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO sidecar_ingest', current_database()); END $$"
    )
    members, inheriting = [await connection.fetchval(sql, list(_ROLES), role) for sql in (member, inherits)]
    if members == len(_ROLES) and not inheriting:
        return
    grant = f"GRANT {', '.join(_ROLES)} TO {found['name']}" + (" WITH INHERIT FALSE, SET TRUE" if modern else "")
    try:
        await connection.execute(grant)
    except asyncpg.InsufficientPrivilegeError:
        raise StoreError(f"the owner may not grant the roles; let a superuser run: {grant}") from None
