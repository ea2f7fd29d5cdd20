"""The sidecar with less of its ledger than it has, for ``python -m benchmarks journal``: what each part costs.

    python benchmarks/bare.py none|unshipped run ...

``none`` journals nothing; ``unshipped`` journals and leaves the ledger alone. Everything else is the sidecar's own.
"""

import asyncio
import sys

from sidecar import serve
from sidecar.app import App
from sidecar.cli import main


class NoJournal:
    """Takes every record and keeps none."""

    def begin(self, intent: bytes) -> int:
        return 1

    def progress(self, call: int, record: bytes) -> bool:
        return True

    def end(self, call: int, done: bytes) -> None:
        return None

    def synced(self) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


class Bare(App):
    """An app whose shipper does nothing, and whose journal may be none."""

    async def start(self) -> None:
        await super().start()
        assert self._shipper._task is not None
        self._shipper._task.cancel()
        self._shipper._task = None
        if sys.argv[1] == "none":
            self._lane.journal = NoJournal()


if __name__ == "__main__":
    serve.App = Bare  # type: ignore[misc]
    sys.exit(main(sys.argv[2:]))
