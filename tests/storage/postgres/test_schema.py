"""The owner's side, and what the application refuses to start with."""

import asyncio
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from sidecar.core.errors import StoreDown, StoreError
from sidecar.storage.postgres import PostgresStore, SchemaState, migrate_schema, schema, schema_state
from tests.storage.postgres.catalogue import catalogue
from tests.storage.postgres.server import APPLICATION, OWNER, PASSWORD, Database, Server, run

SNAPSHOT = Path(__file__).parent / "schema.txt"


@pytest.fixture
def empty(server: Server) -> Iterator[Database]:
    made = server.empty()
    yield made
    server.drop(made)


def as_user(url: str, user: str) -> str:
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{PASSWORD}@{place}"))


async def refusal(url: str) -> str:
    with pytest.raises(StoreError) as raised:
        await PostgresStore.open(url, journal="node")
    assert PASSWORD not in str(raised.value)
    return str(raised.value)


async def test_the_schema_is_what_the_migrations_make(empty: Database) -> None:
    """All at once and one at a time make the same, and what they make is checked in. After adding a migration, write it
    anew: ``python -m tests.storage.postgres.test_schema``."""
    numbers = [number for number, _ in schema.migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert await migrate_schema(empty.owner_url, APPLICATION) == numbers
    connection = await asyncpg.connect(empty.superuser_url)
    fresh = await catalogue(connection, OWNER)
    assert "\n".join(fresh) + "\n" == SNAPSHOT.read_text()
    await connection.execute("DROP SCHEMA sidecar CASCADE")
    owner = await asyncpg.connect(empty.owner_url)
    await owner.execute(schema._BOOK)
    for number, sql in schema.migrations():
        await owner.execute(sql)
        await owner.execute("INSERT INTO sidecar.migrations (number) VALUES ($1)", number)
    assert await catalogue(connection, OWNER) == fresh
    await owner.close()
    await connection.close()


async def test_burned_credits_of_an_older_schema_are_written_down_as_paid_for(empty: Database) -> None:
    """The owner, who migrates, sees no rows of its own tables while row security is forced."""
    superuser = await asyncpg.connect(empty.superuser_url)
    owner = await asyncpg.connect(empty.owner_url)
    await owner.execute(schema._BOOK)
    for number, sql in schema.migrations():
        if number < 9:
            await owner.execute(sql)
            await owner.execute("INSERT INTO sidecar.migrations (number) VALUES ($1)", number)
    await owner.close()
    row = "INSERT INTO sidecar.credit_grants VALUES ('acme', $1, 50, 'USD', 120000000000, 100, NULL, NULL, '', $2)"
    await superuser.executemany(row, [("pi_1", 30), ("pi_2", 0)])
    await superuser.execute("INSERT INTO sidecar.credit_books VALUES ('acme', 90, 0)")
    await migrate_schema(empty.owner_url, APPLICATION)
    found = await superuser.fetch("SELECT * FROM sidecar.credit_burns")
    assert [tuple(each) for each in found] == [("acme", "pi_1", 2, 90, 30, 0, 30, 30, "USD")]
    forced = "SELECT relname FROM pg_class WHERE relname LIKE 'credit%' AND relkind = 'r' AND NOT relforcerowsecurity"
    assert await superuser.fetch(forced) == []
    await superuser.close()


async def test_applying_again_applies_nothing(database: Database) -> None:
    assert await migrate_schema(database.owner_url, APPLICATION) == []
    newest = len(schema.migrations())
    for url in (database.url, database.owner_url):
        assert await schema_state(url) == SchemaState(newest, ())


async def test_a_database_without_the_schema_says_what_to_run(empty: Database) -> None:
    assert "schema apply" in await refusal(empty.url)
    assert await schema_state(empty.url) == SchemaState(0, tuple(number for number, _ in schema.migrations()))


async def test_an_older_and_a_newer_schema_are_told(database: Database, superuser: asyncpg.Connection) -> None:
    await superuser.execute("DELETE FROM sidecar.migrations WHERE number > 2")
    assert "schema apply" in await refusal(database.url)
    await superuser.execute("INSERT INTO sidecar.migrations VALUES (99)")
    assert "newer sidecar" in await refusal(database.url)
    with pytest.raises(StoreError, match="newer sidecar"):
        await migrate_schema(database.owner_url, APPLICATION)


async def test_a_superuser_and_the_owner_are_refused(database: Database) -> None:
    """Neither is bound by row-level security as the application has to be (http.md 3)."""
    assert "superuser" in await refusal(database.superuser_url)
    assert "owns the tables" in await refusal(database.owner_url)


@pytest.mark.parametrize(
    ("options", "grant", "words"),
    [
        ("NOINHERIT BYPASSRLS", "sidecar_ingest, sidecar_reader, sidecar_operator", "BYPASSRLS"),
        ("NOINHERIT", "sidecar_ingest", "not a member"),
        ("INHERIT", "sidecar_ingest, sidecar_reader, sidecar_operator", "inherits"),
        ("NOINHERIT", f"sidecar_ingest, sidecar_reader, sidecar_operator, {OWNER}", "owns"),
    ],
)
async def test_a_login_with_other_rights_is_refused(
    database: Database, superuser: asyncpg.Connection, options: str, grant: str, words: str
) -> None:
    role = f"sidecar_test_{abs(hash((options, grant, database.url)))}"
    await superuser.execute(f"CREATE ROLE {role} LOGIN {options} PASSWORD '{PASSWORD}'; GRANT {grant} TO {role}")
    try:
        assert words in await refusal(as_user(database.url, role))
    finally:
        await superuser.execute(f"DROP ROLE {role}")


async def test_the_application_role_must_be_there_and_another_one(empty: Database) -> None:
    for role, words in (("nobody_of_this_name", "no role"), (OWNER, "one of its own")):
        with pytest.raises(StoreError, match=words):
            await migrate_schema(empty.owner_url, role)
    assert (await schema_state(empty.owner_url)).version == 0, "all or nothing"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://app:{PASSWORD}@127.0.0.1:1/db",
        f"postgresql://app:{PASSWORD}@host.invalid/db",
        f"postgresql://app:{PASSWORD}@[::1/db",
        f"postgresql://app:{PASSWORD}@127.0.0.1:{PASSWORD}/db",
        f"postgresql://app:{PASSWORD}@127.0.0.1/db?sslmode={PASSWORD}",
        f"mysql://app:{PASSWORD}@127.0.0.1/db",
    ],
)
async def test_what_cannot_be_reached_is_told_without_the_password(url: str) -> None:
    with pytest.raises(StoreError) as raised:
        async with asyncio.timeout(15):
            await PostgresStore.open(url, journal="node")
    assert PASSWORD not in str(raised.value)
    assert raised.value.__cause__ is None
    if "127.0.0.1:1/" in url:
        assert isinstance(raised.value, StoreDown)


def test_statements_are_named_files_that_say_what_they_are_for() -> None:
    for folder in ("migrations", "queries"):
        found = [entry for entry in (files(schema.__package__) / folder).iterdir() if entry.name.endswith(".sql")]
        assert found
        assert all(entry.read_text("utf-8").startswith("-- ") for entry in found)


if __name__ == "__main__":  # writes the snapshot anew

    async def _lines(database: Database) -> list[str]:
        connection = await asyncpg.connect(database.superuser_url)
        return await catalogue(connection, OWNER)

    from tests.storage.postgres.server import shared_server

    with shared_server() as made:
        SNAPSHOT.write_text("\n".join(run(_lines(made.migrated()))) + "\n")
