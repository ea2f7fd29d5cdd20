"""Group fsync: who waits is woken by the round that covers him; a failed fsync is not tried again on the same file."""

import asyncio
import errno
import os
from collections.abc import Callable

import pytest

from sidecar.core.clock import ManualClock
from sidecar.core.errors import JournalFull
from sidecar.ledger import Journal, Retention, Shipper
from sidecar.ledger.segment import HEADER, read_frames
from sidecar.storage import SqliteStore
from tests.journals import begin, end, serve

Make = Callable[..., tuple[bytes, bytes]]
Open = Callable[..., Journal]


class Disk:
    """fdatasync that fails for the descriptors it is told to, as a dying disk does, and remembers what it was asked."""

    def __init__(self) -> None:
        self.failing: set[int] = set()
        self.asked: list[int] = []

    def fsync(self, fd: int) -> None:
        self.asked.append(fd)
        if fd in self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(fd)


@pytest.fixture
def disk() -> Disk:
    return Disk()


async def test_a_waiter_is_woken_when_all_before_it_is_on_the_disk(
    open_journal: Open, make_call: Make, disk: Disk
) -> None:
    journal = open_journal(fsync=disk.fsync, durability="sync")
    journal.open()
    intent, done = make_call()
    end(journal, begin(journal, intent), done)
    synced = journal.synced()
    assert not synced.done()
    await synced
    assert journal._segment.durable == journal._segment.written
    assert len(disk.asked) == 1
    assert journal.synced().done(), "nothing was written since"


async def test_one_fsync_covers_a_group(open_journal: Open, make_call: Make, disk: Disk) -> None:
    journal = open_journal(fsync=disk.fsync, durability="sync")
    journal.open()
    waiting = []
    for _ in range(20):
        intent, done = make_call()
        end(journal, begin(journal, intent), done)
        waiting.append(journal.synced())
    await asyncio.gather(*waiting)
    assert len(disk.asked) == 1


async def test_without_durability_there_is_nothing_to_wait_for(open_journal: Open, make_call: Make) -> None:
    journal = open_journal(durability="process")
    journal.open()
    begin(journal, make_call()[0])
    assert journal.synced().done()


async def test_a_failed_fsync_goes_on_in_a_new_segment_with_all_that_may_be_lost(
    open_journal: Open, make_call: Make, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """Rebello et al., USENIX ATC 2020: a second fsync of the same file succeeds without having written anything."""
    journal = open_journal(fsync=disk.fsync, durability="group")
    journal.open()
    first = make_call()
    end(journal, begin(journal, first[0]), first[1])
    await journal.synced()
    failed = journal._segment
    disk.failing.add(failed.fd)
    second = make_call()
    end(journal, begin(journal, second[0]), second[1])
    await journal.synced()
    assert journal._segment is not failed
    assert read_frames(
        journal._segment.map, journal._segment.number, HEADER.size, journal._segment.size, journal._segment.size
    ).payloads == [(second[0], 0), (second[1], 1)]
    assert disk.asked.count(failed.fd) == 2
    assert journal.readings().fsync_failures == 1
    assert "fsync of" in caplog.text


async def written_twice(open_journal: Open, make_call: Make, disk: Disk) -> Journal:
    """A journal whose disk kept nothing of the file that ten calls stand in, so that they stand in a second one too."""
    journal = open_journal(fsync=disk.fsync, durability="group")
    journal.open()
    disk.failing.add(journal._segment.fd)
    serve(journal, make_call, 10)
    await journal.synced()
    return journal


async def test_records_written_twice_are_counted_once(
    open_journal: Open, make_call: Make, disk: Disk, store: SqliteStore, clock: ManualClock
) -> None:
    journal = await written_twice(open_journal, make_call, disk)
    journal.close()
    shipper = Shipper(open_journal(), store, clock, keep=Retention(1 << 60, 1 << 60, 1 << 60))
    await shipper.recover()
    report = await store.usage("acme", since_us=0, until_us=1 << 60)
    assert (report.totals.requests, shipper.readings().recovered) == (10, 20)


async def test_records_written_twice_are_shipped_twice_and_then_none_is_left(
    open_journal: Open, make_call: Make, disk: Disk, clock: ManualClock
) -> None:
    journal = await written_twice(open_journal, make_call, disk)
    assert journal.readings().unshipped_records == 20
    records, position = journal.tail.take()
    journal.release(position, len(records), clock.monotonic_ns())
    assert (len(records), journal.readings().unshipped_records) == (20, 0)


async def test_without_room_the_failed_file_is_not_asked_again_until_there_is(
    open_journal: Open, make_call: Make, disk: Disk
) -> None:
    journal = open_journal(fsync=disk.fsync, durability="group")
    journal.open()
    failed = journal._segment
    disk.failing.add(failed.fd)
    rewrite = journal._sync._rewrite
    refusals = iter([False, False])
    journal._sync._rewrite = lambda segment: next(refusals, True) and rewrite(segment)
    intent, done = make_call()
    end(journal, begin(journal, intent), done)
    await journal.synced()
    assert disk.asked.count(failed.fd) == 1
    assert journal._segment is not failed
    assert failed.durable == failed.written


async def test_many_segments_under_group_fsync(
    open_journal: Open, make_call: Make, disk: Disk, clock: ManualClock
) -> None:
    """Segments are deleted while rounds run: no round ever asks for a descriptor that was closed."""
    journal = open_journal(fsync=disk.fsync, durability="group", segment_bytes=8 * 1024, max_bytes=64 * 1024)
    journal.open()
    for number in range(400):
        intent, done = make_call()
        end(journal, begin(journal, intent), done)
        records, position = journal.tail.take()
        journal.release(position, len(records), clock.monotonic_ns())
        if number % 40 == 0:
            await journal.synced()
    assert journal.readings().fsync_failures == 0


async def test_a_disk_that_never_keeps_anything_is_given_up_and_taken_back(
    open_journal: Open, make_call: Make, disk: Disk
) -> None:
    """With ``sync`` nobody waits for ever, nothing begins meanwhile, and it goes on by itself once the disk works."""
    journal = open_journal(fsync=disk.fsync, durability="sync", group_ns=1_000)
    journal.open()
    disk.failing = set(range(1 << 16))
    intent, done = make_call()
    end(journal, begin(journal, intent), done)
    with pytest.raises(JournalFull, match="does not keep"):
        await journal.synced()
    with pytest.raises(JournalFull, match="does not keep"):
        begin(journal, make_call()[0])
    disk.failing = set()
    await journal.synced()
    end(journal, begin(journal, make_call()[0]), done)


def _take_all(journal: Journal) -> None:
    records, position = journal.tail.take()
    journal.release(position, len(records), 0)


async def test_what_the_ledger_took_while_its_file_could_not_be_written_again_holds_up_nobody(
    open_journal: Open, make_call: Make, disk: Disk
) -> None:
    """The file failed, there was no room to write it again, then the ledger took all of it and it was deleted."""
    journal = open_journal(fsync=disk.fsync, durability="sync", group_ns=1_000)
    journal.open()
    failed = journal._segment
    disk.failing.add(failed.fd)
    rewrite = journal._sync._rewrite
    journal._sync._rewrite = lambda segment: False
    intent, done = make_call()
    end(journal, begin(journal, intent), done)
    waiting = journal.synced()
    async with asyncio.timeout(5):
        while not journal._sync._unsafe:
            await asyncio.sleep(0.001)
    journal._advance()
    _take_all(journal)
    journal._files.submit(int).result()
    assert failed.map.closed
    disk.failing = set()
    journal._sync._rewrite = rewrite
    async with asyncio.timeout(5):
        await waiting
        intent, done = make_call()
        end(journal, begin(journal, intent), done)
        await journal.synced()


async def test_a_file_that_was_deleted_during_the_round_that_failed_holds_up_nobody(
    open_journal: Open, make_call: Make, disk: Disk
) -> None:
    journal = open_journal(fsync=disk.fsync, durability="sync", group_ns=1_000)
    journal.open()
    failed = journal._segment
    disk.failing.add(failed.fd)
    intent, done = make_call()
    end(journal, begin(journal, intent), done)
    waiting = journal.synced()
    journal._sync._timer.cancel()
    journal._sync._start()  # the round waits in the thread
    journal._advance()
    _take_all(journal)
    journal._files.submit(int).result()
    assert failed.map.closed
    disk.failing = set()
    async with asyncio.timeout(5):
        await waiting
        intent, done = make_call()
        end(journal, begin(journal, intent), done)
        await journal.synced()
