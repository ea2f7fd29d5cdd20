"""A parent that counts limits, behind a real Unix socket on a loop of its own."""

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from sidecar.core import budgets, leases, purses
from sidecar.core.clock import SystemClock
from sidecar.storage.link import BookStore, Channel, LinkLimitStore, LinkServer, Wire, connect

_BUDGETS = (budgets.BudgetAsk, budgets.BudgetStanding, purses.PartAsk, purses.PurseAsk)
WIRE = Wire([leases.Ask, leases.Answer, leases.CounterAsk, leases.Standing, *_BUDGETS])


@contextlib.contextmanager
def running() -> Iterator[Path]:
    """The socket's path."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    book = BookStore(SystemClock())
    handlers = {"lease": book.decide, "ping": lambda: True}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "link"
        server = LinkServer(path, lambda pid: Channel(WIRE, handlers))
        try:
            asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
            yield path
        finally:
            asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()


class Worker(LinkLimitStore):
    """A worker's store of limits with a channel of its own."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._own = channel

    @classmethod
    async def open(cls, path: Path) -> "Worker":
        channel = Channel(WIRE, {})
        await connect(path, channel)
        return cls(channel)

    async def close(self) -> None:
        self._own.close()
