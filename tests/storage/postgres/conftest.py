"""One server per test process, one database per test."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from sidecar.storage.postgres import PostgresStore
from tests.storage.postgres.server import Database, Process, Server, shared_server


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
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    opened = await PostgresStore.open(database.url, journal="node-1")
    yield opened
    await opened.close()


@pytest.fixture
async def superuser(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Sees and may do everything, as no role of the sidecar's does."""
    connection = await asyncpg.connect(database.superuser_url)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
def own_process() -> Iterator[Process]:
    """A server that a test may stop."""
    process = Process()
    yield process
    process.remove()
