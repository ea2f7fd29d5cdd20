"""Sidecars that are broken on purpose, one seam each: the comparison of the books must find every one of them.

``python -m tests.chaos.broken HOW run ...`` takes the words of ``sidecar run``. When the environment says so
(``CHAOS_CALLS``) it kills itself at the worst instant, so that nothing depends on luck. HOW:

==============  ================================================================================================
``done-late``   the done record is written a moment after the last byte of the reply, and the kill is in between
``both-late``   the same, and the intent too
``no-dedupe``   a batch whose commit was ambiguous is shipped again under new event ids
``soft-sums``   such a batch is added to the sums again, although its events are known
==============  ================================================================================================
"""

import asyncio
import os
import signal
import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import apsw

from sidecar.app import parts
from sidecar.cli.entry import main
from sidecar.core.errors import StoreError
from sidecar.core.ids import EventIds
from sidecar.core.ports import JournalSink, Position
from sidecar.ledger import Entry, Journal
from sidecar.storage import SqliteStore

CALLS = int(os.environ.get("CHAOS_CALLS", "0"))
_LATE_S = 0.2
_KILL_S = 0.1  # after the reply has left, before it is written down


class LateJournal(Journal):
    """Writes done records, and with ``intents_too`` intents, after the fact."""

    intents_too = False
    _seen = 0

    def begin(self, call: Entry, size: int) -> None:
        if not self.intents_too:
            super().begin(call, size)
            return
        self._seen += 1
        call.segment, call.reserved = 1, size

    def end(self, call: Entry) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(_LATE_S, self._end, call)
        if not self.intents_too:
            self._seen += 1
        if self._seen >= CALLS:  # several calls may have begun since the last one ended
            loop.call_later(_KILL_S, os.kill, os.getpid(), signal.SIGKILL)

    def _end(self, call: Entry) -> None:
        if self.intents_too:
            super().begin(call, call.reserved)
        super().end(call)
        self.flush()


class VeryLateJournal(LateJournal):
    intents_too = True


class AmbiguousStore(SqliteStore):
    """The answer to the first batch is lost after its commit. What comes again is taken for new."""

    _failed = False

    def sink(self, journal: int) -> JournalSink:
        return self  # the journal of the only process: its batches come through ``append`` here

    async def append(self, records: Sequence[bytes], position: Position) -> int:
        if self._failed or not records:
            return await super().append(records, position)
        self._failed = True
        await super().append(records, position)
        self.repeat()
        raise StoreError("the answer was lost")

    @abstractmethod
    def repeat(self) -> None:
        """How it goes wrong."""


class DoublingStore(AmbiguousStore):
    """The dedupe key is made anew at each attempt."""

    _again = False

    def repeat(self) -> None:
        self._again = True

    async def append(self, records: Sequence[bytes], position: Position) -> int:
        if self._again:
            self._again, ids = False, EventIds()
            records = [record[:6] + ids.next(1_800_000_000_000_000_000) + record[42:] for record in records]
        return await super().append(records, position)


class SoftSumsStore(AmbiguousStore):
    """Sums are added to from the batch, not from what was new in it."""

    def repeat(self) -> None:
        other = apsw.Connection(str(self._path))
        other.set_busy_timeout(5_000)
        other.execute("UPDATE calls_by_minute SET requests = requests + 1")
        other.close()


SEAMS: dict[str, tuple[str, Any]] = {
    "done-late": ("Journal", LateJournal),
    "both-late": ("Journal", VeryLateJournal),
    "no-dedupe": ("SqliteStore", DoublingStore),
    "soft-sums": ("SqliteStore", SoftSumsStore),
}


if __name__ == "__main__":
    name, replacement = SEAMS[sys.argv[1]]
    setattr(parts, name, replacement)
    sys.exit(main(sys.argv[2:]))
