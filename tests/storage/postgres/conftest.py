"""Its server and its database are those of tests/storage."""

from collections.abc import AsyncIterator, Iterator

import pytest

from sidecar.storage.postgres import PostgresStore
from tests.storage.postgres.server import Database, Process


@pytest.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    opened = await PostgresStore.open(database.url, journal="node-1")
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def own_process() -> Iterator[Process]:
    """A server that a test may stop."""
    process = Process()
    yield process
    process.remove()
