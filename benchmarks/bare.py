"""The sidecar with less of its ledger than it has, for ``python -m benchmarks journal``: what each part costs.

    python benchmarks/bare.py none|free|switched run ...

``none`` journals nothing, and makes no record to journal; ``free`` journals, and ships to a ledger that takes
everything and does nothing, as one on a core of its own would seem; ``switched`` is ``free``, and with each SIGUSR1,
which has to come while no call is under way, it becomes ``none`` or ``free`` again. Everything else is the sidecar's
own: without a journal too, writes wait for the end of the event loop's turn.
"""

import asyncio
import signal
import sys
from collections.abc import Sequence

from sidecar.app import App
from sidecar.cli import main
from sidecar.core.ports import Position
from sidecar.serve import running


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

    async def start(self) -> None:
        await super().start()
        self._shipper._ledger = FreeLedger()
        if sys.argv[1] == "none":
            self._lane.journal = None
        if sys.argv[1] == "switched":
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._switch)

    def _switch(self) -> None:
        self._lane.journal = self._journal if self._lane.journal is None else None


if __name__ == "__main__":
    assert running.App is App  # or this would measure the whole sidecar three times
    running.App = Bare
    sys.exit(main(sys.argv[2:]))
