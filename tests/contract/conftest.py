"""The adapters that the contract suites run over. A new one is one more entry of ``ADAPTERS``."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from sidecar.core.billing_store import BillingStore
from sidecar.core.credit_store import CreditStore, CrossingStore
from sidecar.core.ports import Ledger, TenantStore
from sidecar.storage import SqliteStore
from sidecar.storage.postgres import PostgresStore
from tests.storage.postgres.server import Server, run, shared_server


class Books(BillingStore, CreditStore, CrossingStore, Ledger, TenantStore, Protocol):
    """What an adapter of BillingStore is."""


Made = tuple[Books, Callable[[], None]]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with shared_server() as running:
        yield running


def sqlite(request: pytest.FixtureRequest) -> Made:
    folder: Path = request.getfixturevalue("tmp_path")
    store = SqliteStore.open(folder / "sidecar.db")
    return store, store.close


def postgres(request: pytest.FixtureRequest) -> Made:
    running: Server = request.getfixturevalue("server")
    database = running.migrated()
    store = run(PostgresStore.open(database.url, journal="node"))

    def close() -> None:
        run(store.close())
        running.drop(database)

    return store, close


ADAPTERS = {"sqlite": sqlite, "postgres": postgres}


@pytest.fixture(params=ADAPTERS)
def books(request: pytest.FixtureRequest) -> Iterator[Books]:
    store, close = ADAPTERS[request.param](request)
    yield store
    close()


@pytest.fixture
def tenant_store(books: Books) -> TenantStore:
    return books


@pytest.fixture
def ledger(books: Books) -> Ledger:
    return books
