"""SQLite as a run's store."""

from pathlib import Path

from sidecar.storage import SqliteStore
from tests.chaos.books import LedgerBook
from tests.chaos.fault import Fault
from tests.chaos.reading import read_book


class Sqlite:
    """One file in the data folder; its faults are those of the disk."""

    name = "sqlite"
    setting = ""
    faults: tuple[Fault, ...] = ()

    async def start(self, folder: Path) -> None:
        return None

    async def heal(self) -> None:
        return None

    async def read(self, data: Path) -> LedgerBook:
        store = SqliteStore.open(data / "sidecar.db", readonly=True)
        try:
            return await read_book(store, await store.rejected())
        finally:
            store.close()

    async def close(self) -> None:
        return None
