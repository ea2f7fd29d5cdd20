"""The adapters that the contract suites run over. A new one is one more entry of ``ADAPTERS``."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.core.ports import Ledger, TenantStore
from sidecar.storage import SqliteStore


def sqlite(folder: Path) -> tuple[TenantStore, Ledger, Callable[[], None]]:
    store = SqliteStore.open(folder / "sidecar.db")
    return store, store, store.close


ADAPTERS = {"sqlite": sqlite}


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[TenantStore, Ledger]]:
    tenants, ledger, close = ADAPTERS[request.param](tmp_path)
    yield tenants, ledger
    close()


@pytest.fixture
def tenant_store(adapter: tuple[TenantStore, Ledger]) -> TenantStore:
    return adapter[0]


@pytest.fixture
def ledger(adapter: tuple[TenantStore, Ledger]) -> Ledger:
    return adapter[1]
