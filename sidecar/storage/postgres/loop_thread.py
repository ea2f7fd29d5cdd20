"""An event loop on a thread of its own, so that the work of a batch never holds the lane's loop."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from sidecar.core.errors import StoreError

_T = TypeVar("_T")


class LoopThread:
    """Runs coroutines for callers on any loop. Callers bound how many there are."""

    def __init__(self, name: str, *, niceness: int = 0) -> None:
        """``niceness`` is added to the thread's own, where the platform lets threads differ (Linux)."""
        self._loop = asyncio.new_event_loop()
        self.open = True
        self._thread = threading.Thread(target=self._serve, args=(niceness,), name=f"sidecar-{name}", daemon=True)
        self._thread.start()

    async def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What ``work`` returns or raises. Cancelling the caller cancels the work. StoreError after ``close``."""
        if not self.open:
            work.close()
            raise StoreError("the store is closed")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def close(self) -> None:
        """Cancels what still runs and ends the thread. More than once is once."""
        if self.open:
            self.open = False
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop))
            self._loop.call_soon_threadsafe(self._loop.stop)
            await asyncio.to_thread(self._thread.join)

    def _serve(self, niceness: int) -> None:
        if niceness and hasattr(os, "setpriority"):
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + niceness)
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _cancel_all(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
