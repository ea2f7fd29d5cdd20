"""What every process of a sidecar has: a snapshot in force, rooms that close in the opposite order, peppers."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any

from sidecar.core.clock import Clock, SystemClock
from sidecar.core.policy import Snapshot
from sidecar.identity import Peppers, new_key


class Process(ABC):
    """``start`` makes it ready, ``stop`` drains it; both once."""

    def __init__(self, snapshot: Snapshot, clock: Clock | None = None) -> None:
        self.snapshot = snapshot
        self._clock = clock or SystemClock()
        self._rooms = contextlib.AsyncExitStack()
        self._draining = self._started = False
        self._peppers: Peppers

    async def start(self) -> None:
        """Opens everything, in order. SidecarError or OSError says what is in the way; then nothing is open."""
        async with contextlib.AsyncExitStack() as rooms:
            self._rooms = rooms
            await self._open()
            self._rooms = rooms.pop_all()
        self._started = True

    async def stop(self) -> None:
        """Stops listening, lets replies under way end within ``drain``, ships the journal, closes everything."""
        self._draining = True
        await self._rooms.aclose()

    @abstractmethod
    async def _open(self) -> None:
        """Opens everything, each with its clean-up in ``_rooms``."""

    def _open_peppers(self) -> None:
        self._peppers = Peppers.from_settings(self.snapshot.settings.identity.api_key, self.snapshot.settings.data)

    def _mint(self, **known: Any) -> Any:
        return new_key(self._peppers, self.snapshot.settings.identity.api_key.brand, **known)

    def _background(self, work: "Awaitable[None]") -> None:
        task = asyncio.ensure_future(work)
        self._rooms.push_async_callback(_end, task)


async def _end(task: "asyncio.Future[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
