"""The journals of an installation: ``journal`` is that of a process without workers, ``journal-N`` that of a worker.

Whatever a process left is shipped by the next one that can take the folder's lock, whether it goes on with that folder
or not.
"""

import contextlib
import dataclasses
import re
from collections.abc import AsyncIterator
from pathlib import Path

from sidecar.app.parts import Store, open_journal, shipper_of
from sidecar.core.clock import Clock
from sidecar.core.errors import StoreLocked
from sidecar.core.policy import JournalSettings, Snapshot
from sidecar.core.ports import JournalSink
from sidecar.ledger import ShipperReadings
from sidecar.storage import SqliteStore

_NAME = re.compile(r"journal(?:-([1-9][0-9]{0,5}))?")
_SMALL = 256 * 1024


def own_share(settings: JournalSettings, workers: int) -> JournalSettings:
    """One worker's part of the bounds, which are the installation's."""
    return dataclasses.replace(
        settings, max_bytes=settings.max_bytes // workers, ballast_bytes=settings.ballast_bytes // workers
    )


def small(settings: JournalSettings) -> JournalSettings:
    """For a journal that is only read to its end, or never written to."""
    return dataclasses.replace(settings, segment_bytes=_SMALL, max_bytes=8 * _SMALL, ballast_bytes=0)


def numbers(data: str) -> list[int]:
    """The journals that there are, ascending."""
    found = (_NAME.fullmatch(path.name) for path in Path(data).glob("journal*"))
    return sorted(int(match[1] or 0) for match in found if match is not None)


@contextlib.asynccontextmanager
async def sink_of(store: Store, number: int, identity: str) -> AsyncIterator[JournalSink]:
    """Where journal ``number`` is shipped to."""
    if isinstance(store, SqliteStore):
        yield store.sink(number)
        return
    sink = await store.sink(identity)
    try:
        yield sink
    finally:
        await sink.close()


async def recover(snapshot: Snapshot, clock: Clock, store: Store, number: int) -> ShipperReadings | None:
    """Ships what the last process left in journal ``number``; None: nothing was left. StoreLocked: it is in use."""
    journal = open_journal(snapshot, clock, small(snapshot.settings.journal), number)
    try:
        if not journal.leftovers:
            return None
        async with sink_of(store, number, journal.identity) as sink:
            shipper = shipper_of(snapshot.settings, journal, sink, clock)
            await shipper.recover()
            return shipper.readings()
    finally:
        journal.close()


async def recover_all(snapshot: Snapshot, clock: Clock, store: Store) -> list[ShipperReadings]:
    """As ``recover``, for each worker's journal that no process has."""
    found = []
    for number in numbers(snapshot.settings.data):
        with contextlib.suppress(StoreLocked):
            readings = await recover(snapshot, clock, store, number)
            if readings is not None:
                found.append(readings)
    return found
