"""A journal that is far behind is read ahead while the ledger takes a batch: whatever fails and whoever gives up, what
the ledger's position says is there."""

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest

from sidecar.core.clock import ManualClock
from sidecar.core.errors import StoreError
from sidecar.core.ports import Position
from sidecar.ledger import Journal, Retention, Shipper, shipper, tail
from tests.journals import begin, end

Make = Callable[..., tuple[bytes, bytes]]
Open = Callable[..., Journal]
DAY_NS = 86_400_000_000_000


class Ledger:
    """Takes a while, and fails before or after it stored what it was given."""

    def __init__(self, pick: random.Random) -> None:
        self.pick = pick
        self.written: list[tuple[Position, bytes]] = []  # in the journal, each with the position after it
        self.kept: dict[bytes, None] = {}
        self.at = Position()
        self.calm = False

    async def position(self) -> Position:
        return self.at

    async def rejected(self) -> int:
        return 0

    async def append(self, records: Sequence[bytes], position: Position) -> int:
        for _ in range(self.pick.randint(0, 6)):
            await asyncio.sleep(0)
        self._may_fail()
        before = len(self.kept)
        self.kept.update(dict.fromkeys(records))
        assert position >= self.at
        self.at = position
        assert all(record in self.kept for end, record in self.written if end <= position)
        await asyncio.sleep(0)
        self._may_fail()
        return len(self.kept) - before

    def _may_fail(self) -> None:
        if not self.calm and self.pick.random() < 0.2:
            raise StoreError("the disk is full")


@pytest.mark.parametrize("seed", range(30))
async def test_a_journal_that_is_behind_arrives_in_order_through_failures_and_cancels(
    open_journal: Open, make_call: Make, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    for module, name, value in (
        (tail, "ENOUGH", 1500),
        (shipper, "_BATCH", 20),
    ):
        monkeypatch.setattr(module, name, value)
    pick = random.Random(seed)
    journal, ledger = open_journal(segment_bytes=8 * 1024), Ledger(pick)
    ledger.calm = True
    ships = Shipper(journal, ledger, clock, keep=Retention(DAY_NS, DAY_NS, DAY_NS), jitter=lambda: 0.0)
    await ships.recover()
    ledger.calm = False
    for _ in range(12):
        for _ in range(pick.choice([0, 5, 30, 120])):
            intent, done = make_call()
            end(journal, begin(journal, intent), done)
            ledger.written.append((journal.position, done))
        flush = asyncio.create_task(ships.flush())
        for _ in range(pick.randint(0, 25)):
            await asyncio.sleep(0)
        flush.cancel()
        await asyncio.gather(flush, return_exceptions=True)
    ledger.calm = True
    await ships.flush()
    assert list(ledger.kept) == [record for _, record in ledger.written]
    assert ledger.at == ships.readings().position == journal.position
    assert journal.readings().unshipped_records == 0
