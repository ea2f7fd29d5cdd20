"""Done records on their way from a journal to the ledger: as text, for stores take a batch whole and no record of it
alone. Thousands of small objects that wait for their turn would lie in memory that no close cache holds.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, overload

from sidecar.core.records import BETWEEN, records_in

BLOCK_BYTES: Final = 128 * 1024  # a block ends with the record that reaches this: some 450 records of usual size


class Batch(Sequence[bytes]):
    """A sequence of records in order, kept as ``blocks``: for each its text, with ``BETWEEN`` between two records, and
    how many those are. A block has at least one."""

    __slots__ = ("_count", "blocks")

    def __init__(self, blocks: Iterable[tuple[bytes, int]] = ()) -> None:
        self.blocks: list[tuple[bytes, int]] = []
        self._count = 0
        self.extend(blocks)

    @classmethod
    def of(cls, records: Sequence[bytes]) -> "Batch":
        """The records as a batch; themselves where they are one."""
        if isinstance(records, Batch):
            return records
        return cls(_gathered((record, 1) for record in records))

    def add(self, text: bytes, count: int) -> None:
        """One more block."""
        self.blocks.append((text, count))
        self._count += count

    def extend(self, blocks: Iterable[tuple[bytes, int]]) -> None:
        """More blocks."""
        for text, count in blocks:
            self.add(text, count)

    def gathered(self) -> Iterator[tuple[bytes, int]]:
        """Its blocks, those that are small joined until they have BLOCK_BYTES."""
        return _gathered(self.blocks)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        for text, _ in self.blocks:
            yield from records_in(text)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        """Takes all of it apart: for what is rare."""
        return list(self)[index]


def _gathered(blocks: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    texts, records, size = list[bytes](), 0, 0
    for text, count in blocks:
        texts.append(text)
        records += count
        size += len(text)
        if size >= BLOCK_BYTES:
            yield BETWEEN.join(texts), records
            texts, records, size = [], 0, 0
    if texts:
        yield BETWEEN.join(texts), records
