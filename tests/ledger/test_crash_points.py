"""Promises 1 and 2 at every point at which a process or a machine can end: none is left to luck.

One workload runs on a watched disk. Before each primitive operation, and in the middle of each store and each commit,
the disk is copied; each copy is then what a process finds that starts after a crash at that instant. What was
acknowledged by then must be in the ledger once, as it was; at most the calls that were not acknowledged may be unknown.
"""

import asyncio
import itertools
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest

from sidecar.core.clock import ManualClock
from sidecar.core.errors import SidecarError
from sidecar.core.ids import EventIds
from sidecar.core.policy import JournalSettings
from sidecar.core.records import PROGRESS, encode_call, principal_fragment, text_fragment
from sidecar.ledger import Journal, Retention, Shipper
from sidecar.storage import SqliteStore
from tests.chaos.books import sums_differ
from tests.chaos.reading import read_book
from tests.journals import Text, intent_of
from tests.ledger.watched_disk import Disk, Image, Operation, lay_out, watch

_YEAR_NS = 400 * 86_400_000_000_000
_SETTINGS = {"segment_bytes": 4096, "max_bytes": 96 * 1024, "ballast_bytes": 8 * 1024, "group_ns": 1_000_000}


@dataclass(frozen=True, slots=True)
class Crash:
    """A disk at an instant, and what had begun and what was acknowledged by then."""

    at: str
    image: Image
    begun: frozenset[str]
    acknowledged: frozenset[str]


@dataclass
class Work:
    """Calls on a journal, a shipper and a store in ``folder``. ``patient``: goes on where something fails;
    ``by_turns``: three calls end in each turn."""

    folder: Path
    durability: str = "process"
    fsync: Callable[[int], None] = os.fdatasync
    segment_bytes: int = 4096
    patient: bool = False
    by_turns: bool = False
    begun: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    clock: ManualClock = field(default_factory=ManualClock)
    ids: EventIds = field(default_factory=EventIds)
    ended: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = SqliteStore.open(self.folder / "sidecar.db")
        settings = JournalSettings(**_SETTINGS | {"durability": self.durability, "segment_bytes": self.segment_bytes})
        try:
            self.journal = Journal(self.folder / "journal", settings, self.clock, fsync=self.fsync)
        except BaseException:
            self.store.close()
            raise
        keep = Retention(_YEAR_NS, _YEAR_NS, _YEAR_NS)
        self.shipper = Shipper(self.journal, self.store, self.clock, keep=keep, jitter=lambda: 0.0)

    async def play(self, calls: int) -> None:
        """``calls`` calls with pauses for shipping; a long one stays open over many segments, and makes progress."""
        long_call = self.begin(0)
        for number in range(1, calls):
            call = self.begin(number % 4 * 30)
            if number % 5 == 3:
                self.progress(call)
            if number % 7 == 1:
                self.progress(long_call)
            await self.end(call)
            if number % 6 == 5:
                await self.ship()
        await self.end(long_call)
        await self.ship()

    def begin(self, pad: int) -> "tuple[Text, tuple[bytes, ...], int] | None":
        """None when the journal refuses the call."""
        event_id = self.ids.next(self.clock.wall_ns())
        self.clock.advance(0.01)
        principal = principal_fragment("acme", "key1", "pro", sandbox=False)
        head = (event_id, self.clock.wall_ns() // 1000, principal, text_fragment("search" + "x" * pad), b'"GET"')
        self.begun.add(event_id.decode())
        try:
            call = Text(intent_of(head))
            self.journal.begin(call, len(call.intent))
            if not self.by_turns:
                self.journal.flush()
            return call, head, pad
        except SidecarError:
            assert self.patient
            return None

    def progress(self, call: "tuple[Text, tuple[bytes, ...], int] | None") -> None:
        """Half of what it will be."""
        if call is not None:
            record = encode_call(*call[1], 200, b"ok", 1, 3, 1, 1, 15, 10, 10, b'{"requests":1}', PROGRESS)
            self.journal.progress(call[0], record)

    async def end(self, call: "tuple[Text, tuple[bytes, ...], int] | None") -> None:
        """Its reply may go out, at the turn's end: it is acknowledged."""
        if call is None:
            return
        call[0].done = encode_call(*call[1], 200, b"ok", 2, 7, 1, 2, 30, 20, 10, b'{"requests":1}')
        self.journal.end(call[0])
        if self.durability == "sync":
            await self.journal.synced()
        self.ended.append(call[1][0].decode())
        if len(self.ended) == 3 or not self.by_turns:
            self.journal.flush()
            self._acknowledge()

    def _acknowledge(self) -> None:
        self.acknowledged.update(self.ended)
        self.ended.clear()

    async def ship(self) -> None:
        """As often as it takes, or once."""
        if self.patient:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.005):
                    await self.shipper.flush()
        else:
            await self.shipper.flush()
            self._acknowledge()

    def close(self) -> None:
        """Ends everything."""
        self.journal.close()
        self.store.close()


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory where there is one: what is tested here is the order of things, not the disk."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="sidecar-", dir=memory if os.access(memory, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


class Copies:
    """The disk before every operation, in the middle of every store, and in the middle of every commit."""

    def __init__(self, disk: Disk, begun: set[str], acknowledged: set[str]) -> None:
        self._disk = disk
        self._begun, self._acknowledged = begun, acknowledged
        self._cuts = itertools.cycle((1, 6, 9, 40, -1))
        self._log = b""
        self._known: set[tuple[object, ...]] = set()
        self.crashes: list[Crash] = []
        disk.before, disk.after = self.before, self.after

    def before(self, operation: Operation) -> None:
        name = f"{len(self.crashes)}: before {operation.kind} of {operation.what[:60]!r}"
        image = self._copy(name, self._disk.image())
        if operation.kind == "sql":
            self._log = image.get("sidecar.db-wal", b"")
        elif operation.kind == "store":
            # A header is two words of eight bytes, which no processor tears.
            part = operation.value[: next(self._cuts) if operation.start else 8]
            old = operation.map[operation.start : operation.start + len(part)]
            operation.map.tear(operation.start, part)
            self._copy(f"{name}, torn after {len(part)} bytes", self._disk.image())
            operation.map.tear(operation.start, old)

    def after(self, operation: Operation) -> None:
        image = self._disk.image()
        log = image.get("sidecar.db-wal", b"")
        if operation.kind == "sql" and log != self._log:
            changed = [at for at in range(0, len(log), 512) if log[at : at + 512] != self._log[at : at + 512]]
            middle = (changed[0] + changed[-1]) // 2
            torn = image | {"sidecar.db-wal": log[:middle] + self._log[middle:]}
            self._copy(f"{len(self.crashes)}: in the middle of {operation.what!r}", torn)

    def _copy(self, name: str, image: Image) -> Image:
        begun, acknowledged = frozenset(self._begun), frozenset(self._acknowledged)
        known = (acknowledged, *((file, id(content)) for file, content in image.items()))
        if known not in self._known:
            self._known.add(known)
            self.crashes.append(Crash(name, image, begun, acknowledged))
        return image


async def events_of(store: SqliteStore) -> dict[str, tuple[str, int]]:
    """Event id to outcome and units, once per event; the sums must agree with them."""
    book = await read_book(store, await store.rejected())
    found = {event.event_id: (event.outcome, event.units) for event in book.events}
    assert len(found) == len(book.events)
    assert book.rejected == 0
    assert list(sums_differ(book)) == []
    return found


async def check(crash: Crash, folder: Path, *, damage: bool = False) -> None:
    """What a start makes of it; and that the next start changes nothing. ``damage``: files may be kept aside."""
    work = Work(folder)
    try:
        await work.shipper.recover()
        found = await events_of(work.store)
        lost = {event for event in crash.acknowledged if found.get(event) != ("ok", 2)}
        assert not lost, f"{crash.at}: lost {lost}"
        assert found.keys() <= crash.begun, crash.at
        unknown = {event for event, (outcome, _) in found.items() if outcome == "indeterminate"}
        assert unknown <= crash.begun - crash.acknowledged, crash.at
        kinds = Counter(Path(name).suffix for name in os.listdir(folder / "journal"))
        assert damage or not kinds[".corrupt"], crash.at
        assert kinds[".segment"] == 1, crash.at
        await work.end(work.begin(0))
        await work.shipper.flush()
        before = await events_of(work.store)
        assert len(before) == len(found) + 1
    finally:
        work.close()
    again = Work(folder)
    try:
        await again.shipper.recover()
        assert await events_of(again.store) == before, crash.at
    finally:
        again.close()


async def crashes_of(place: Path, work_of: Callable[[Path, Disk], Work], calls: int) -> list[Crash]:
    """Plays the workload once."""
    with pytest.MonkeyPatch.context() as patch:
        (place / "life").mkdir()
        disk = watch(place / "life", patch)
        begun: set[str] = set()
        acknowledged: set[str] = set()
        copies = Copies(disk, begun, acknowledged)
        work = work_of(place / "life", disk)
        work.begun, work.acknowledged = begun, acknowledged
        await work.shipper.recover()
        await work.play(calls)
        work.close()
    return copies.crashes


@pytest.mark.parametrize("by_turns", [False, True], ids=["each record at once", "by turns"])
async def test_kill_at_every_operation(place: Path, by_turns: bool) -> None:
    """First start, calls, new segments, carries, shipping, deletions and a clean end; then every copy is started."""
    crashes = await crashes_of(place, lambda folder, disk: Work(folder, by_turns=by_turns), calls=30)
    assert len({crash.image.get("sidecar.db-wal") for crash in crashes}) > 10
    assert len(crashes) > 120 and len(crashes[-1].acknowledged) == 30
    for number, crash in enumerate(crashes):
        lay_out(crash.image, place / str(number))
        await check(crash, place / str(number))
        shutil.rmtree(place / str(number))


async def test_kill_at_every_operation_of_a_recovery(place: Path) -> None:
    """A recovery that is itself killed, at each of its operations, leaves what the next one needs."""
    several = await with_several_segments(place)
    for outer in random.Random(3).sample(several, 4):
        await kill_its_recovery(outer, place)


@pytest.mark.chaos
async def test_kill_at_every_operation_of_every_recovery(place: Path) -> None:
    """The same, after a crash at each operation of the workload: some thousand starts."""
    for outer in await with_several_segments(place):
        await kill_its_recovery(outer, place)


async def with_several_segments(place: Path) -> list[Crash]:
    """The crashes whose recovery has something to do."""
    crashes = await crashes_of(place, lambda folder, disk: Work(folder), calls=24)
    return [crash for crash in crashes if sum(name.endswith(".segment") for name in crash.image) > 2]


async def kill_its_recovery(outer: Crash, place: Path) -> None:
    """At each operation; then the second recovery is checked."""
    life = place / "outer"
    lay_out(outer.image, life)
    with pytest.MonkeyPatch.context() as patch:
        copies = Copies(watch(life, patch), set(outer.begun), set(outer.acknowledged))
        work = Work(life)
        await work.shipper.recover()
        work.close()
    shutil.rmtree(life)
    assert len(copies.crashes) > 5
    for number, inner in enumerate(copies.crashes):
        folder = place / f"inner{number}"
        lay_out(inner.image, folder)
        await check(inner, folder)
        shutil.rmtree(folder)


@pytest.mark.parametrize("keeps", [0.0, 0.5], ids=["nothing unsynced stays", "some pages stay"])
async def test_power_cut_at_every_operation(place: Path, keeps: float) -> None:
    """durability: sync. Pages that were not synced are lost, all of them or some in no order; what was acknowledged is
    not among them. Files that were removed stay removed: their records were committed, in a database that syncs."""
    rng = random.Random(int(keeps * 10))
    cut: list[Crash] = []
    with pytest.MonkeyPatch.context() as patch:
        (place / "life").mkdir()
        disk = watch(place / "life", patch)
        work = Work(place / "life", durability="sync", fsync=disk.fdatasync, segment_bytes=16 * 1024)

        def before(operation: Operation) -> None:
            acknowledged = frozenset(work.acknowledged)
            image = disk.after_power_cut(disk.image(), lambda: rng.random() < keeps)
            at = f"{len(cut)}: power cut before {operation.kind} of {operation.what[:60]!r}"
            cut.append(Crash(at, image, frozenset(work.begun), acknowledged))

        disk.before = before
        await work.shipper.recover()
        await work.play(24)
        work.close()
    for number, crash in enumerate(cut):
        lay_out(crash.image, place / str(number))
        await check(crash, place / str(number), damage=keeps > 0)
        shutil.rmtree(place / str(number))


_DISK_ERRORS = (28, 5)  # ENOSPC, EIO
_SQL_ERRORS = (apsw.FullError, apsw.IOError, apsw.BusyError)


class Failing:
    """The ``at``-th operation that can fail does so: once, or with all after it; before it is done, or after."""

    def __init__(self, disk: Disk, at: int, how: str) -> None:
        self._at, self._how, self._count = at, how, 0
        self.failed = 0
        if how == "though it was done":
            disk.after = self.step
        else:
            disk.before = self.step

    def step(self, operation: Operation) -> None:
        if operation.kind == "store" or operation.what in ("ROLLBACK", "ROLLBACK TO batch; RELEASE batch"):
            return  # a store into blocks that are there cannot fail, nor can the end of a transaction that did nothing
        if self._how == "though it was done" and operation.what != "COMMIT":
            return
        self._count += 1
        if self._count == self._at or (self._how == "for ever" and self._count > self._at):
            self.failed += 1
            if operation.kind == "sql":
                raise _SQL_ERRORS[self._at % len(_SQL_ERRORS)]("made to fail")
            number = _DISK_ERRORS[self._at % len(_DISK_ERRORS)]
            raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("how", ["once", "for ever", "though it was done"])
async def test_an_error_at_every_operation(place: Path, how: str) -> None:
    """A full disk, a broken one, a locked database, an ambiguous commit: when all works again, nothing is missing."""
    for at in itertools.count(1):
        folder = place / str(at)
        folder.mkdir()
        begun: set[str] = set()
        acknowledged: set[str] = set()
        with pytest.MonkeyPatch.context() as patch:
            failing = Failing(watch(folder, patch), at, how)
            await play_badly(folder, begun, acknowledged)
        crash = Crash(f"operation {at} failed {how}", {}, frozenset(begun), frozenset(acknowledged))
        await check(crash, folder)
        shutil.rmtree(folder)
        if not failing.failed:
            break
    assert at > 5


async def play_badly(folder: Path, begun: set[str], acknowledged: set[str]) -> None:
    """A life that may be short: a start that fails ends the process, as it does in earnest."""
    try:
        work = Work(folder, patient=True, begun=begun, acknowledged=acknowledged)
    except (SidecarError, OSError):
        return
    try:
        await work.shipper.recover()
    except (SidecarError, OSError):
        work.close()
        return
    try:
        await work.play(14)
    finally:
        work.close()
