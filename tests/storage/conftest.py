"""A real PostgreSQL: one server per test process, one database per test."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from tests.storage.postgres.server import Database, Server, shared_server


@pytest.fixture(scope="session")
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
    """Sees and may do everything, as no role of the sidecar's does."""
    connection = await asyncpg.connect(database.superuser_url)
    yield connection
    await connection.close()
