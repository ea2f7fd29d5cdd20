"""The sidecar with less of its ledger than it has, for ``python -m benchmarks journal``: what each part costs.

    python benchmarks/bare.py none|alone|free|switched run ...

``none`` journals nothing, and makes no record to journal; ``alone`` journals, and nobody reads what it writes; ``free``
ships it to a ledger that takes everything and does nothing, as one on a core of its own would seem. ``switched`` is
``free``, and with each SIGUSR1, which has to come while no call is under way, it becomes ``alone``, ``none``, and
``free`` again. Everything else is the sidecar's own: without a journal too, writes wait for the end of the event loop's
turn.
"""

import asyncio
import signal
import sys
from collections.abc import Sequence

from sidecar.app import App
from sidecar.cli import main
from sidecar.core.ports import Position
from sidecar.serve import running

WAYS = ("free", "alone", "none")


class FreeLedger:
    """Takes every batch and keeps none."""

    async def append(self, records: Sequence[bytes], position: Position) -> int:
        return len(records)

    async def forget_events(self, *, before_us: int, at_most: int) -> int:
        return 0

    async def forget_sums(self, *, minutes_before_us: int, hours_before_us: int, at_most: int) -> int:
        return 0

    async def rejected(self) -> int:
        return 0


class Bare(App):
    """An app whose ledger costs nothing, and whose journal may be none."""

    _unread: asyncio.Task[None] | None = None
    _way = "free"

    async def start(self) -> None:
        await super().start()
        self._shipper._ledger = FreeLedger()
        self._become(sys.argv[1] if sys.argv[1] in WAYS else "free")
        if sys.argv[1] == "switched":
            following = dict(zip(WAYS, WAYS[1:] + WAYS[:1], strict=True))
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: self._become(following[self._way]))

    def _become(self, way: str) -> None:
        self._lane.journal = None if way == "none" else self._journal
        if way == "alone":
            self._shipper._task.cancel()
            self._unread = asyncio.create_task(self._forget())
        elif self._unread is not None:
            self._unread.cancel()
            self._unread = None
            self._shipper.start()
        self._way = way

    async def _forget(self) -> None:
        """What is written counts as shipped as often as it would be, and its segments are used again."""
        while True:
            await asyncio.sleep(0.2)
            self._journal.release(self._journal.position, 0, self._clock.monotonic_ns())


if __name__ == "__main__":
    assert running.App is App  # or this would measure the whole sidecar three times
    running.App = Bare
    sys.exit(main(sys.argv[2:]))
