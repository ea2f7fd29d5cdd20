"""What a run needs of a store: how the sidecar is told, how the book is read, and what can be broken about it."""

from pathlib import Path
from typing import Protocol

from tests.chaos.books import LedgerBook
from tests.chaos.fault import Fault


class Store(Protocol):
    """One book's store. ``setting`` is the line for sidecar.yaml, empty for the default; ``faults`` are its own."""

    name: str
    setting: str
    faults: tuple[Fault, ...]

    async def start(self, folder: Path) -> None:
        """Makes what the sidecar needs; ``folder`` is the run's own, not the data folder."""
        ...

    async def heal(self) -> None:
        """Whatever was broken works again."""
        ...

    async def read(self, data: Path) -> LedgerBook:
        """The book, while no sidecar runs."""
        ...

    async def close(self) -> None:
        """Ends what ``start`` made."""
        ...
