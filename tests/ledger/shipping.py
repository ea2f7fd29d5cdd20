"""A shipper, a ledger that fails, and what the ledger says afterwards."""

import asyncio
from collections.abc import Sequence

from sidecar.core.clock import ManualClock
from sidecar.core.errors import StoreError
from sidecar.core.ports import Position
from sidecar.ledger import Journal, Retention, Shipper
from sidecar.storage import SqliteStore

DAY_NS = 86_400_000_000_000


class FlakyStore:
    """A ledger whose disk fails: ``before`` failures lose the batch, ``after`` failures lose only the answer."""

    def __init__(self, store: SqliteStore, *, before: int = 0, after: int = 0) -> None:
        self._store = store
        self.before = before
        self.after = after
        self.forgot = asyncio.Event()
        for name in ("position", "rejected", "usage", "meter_total", "forget_sums"):
            setattr(self, name, getattr(store, name))

    async def forget_events(self, *, before_us: int, at_most: int) -> int:
        gone = await self._store.forget_events(before_us=before_us, at_most=at_most)
        self.forgot.set()
        return gone

    async def append(self, records: Sequence[bytes], position: Position) -> int:
        if self.before:
            self.before -= 1
            raise StoreError("the disk is full")
        new = await self._store.append(records, position)
        if self.after:
            self.after -= 1
            raise StoreError("the answer was lost")
        return new


def shipper_of(journal: Journal, ledger: object, clock: ManualClock, days: int = 30) -> Shipper:
    keep = Retention(days * DAY_NS, 400 * DAY_NS, 4000 * DAY_NS)
    return Shipper(journal, ledger, clock, keep=keep, jitter=lambda: 0.0)


async def recovered(journal: Journal, ledger: object, clock: ManualClock, days: int = 30) -> Shipper:
    """A shipper that has shipped what was left, and may start."""
    shipper = shipper_of(journal, ledger, clock, days)
    await shipper.recover()
    return shipper


async def requests(store: SqliteStore, clock: ManualClock, tenant: str = "acme") -> tuple[int, int]:
    """Calls and indeterminate calls in the ledger."""
    report = await store.usage(tenant, since_us=0, until_us=clock.wall_ns() // 1000 + 60_000_000)
    return report.totals.requests, report.indeterminate
