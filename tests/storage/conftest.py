"""A real PostgreSQL for what moves to it."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from tests.storage.postgres.server import Database, Server, shared_server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with shared_server() as running:
        yield running


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    made = server.migrated()
    yield made
    server.drop(made)


@pytest.fixture
async def superuser(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.superuser_url)
    yield connection
    await connection.close()
