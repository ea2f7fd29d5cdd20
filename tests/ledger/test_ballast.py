"""A full disk: the ballast lets the ledger go on, comes back first, and traffic waits for it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from sidecar.core.clock import ManualClock
from sidecar.core.errors import JournalFull
from sidecar.core.policy import JournalSettings
from sidecar.ledger import Journal
from tests.journals import begin, end

Make = Callable[..., tuple[bytes, bytes]]
KIB = 1024


class SmallDisk:
    """The system calls that reserve room, on a disk of ``size`` bytes on which ``others`` lie already."""

    def __init__(self, folder: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.size, self.others = folder, size, 0
        self._reserve = os.posix_fallocate
        monkeypatch.setattr(os, "posix_fallocate", self.reserve)
        monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=max(self.free, 0), f_frsize=1))

    @property
    def free(self) -> int:
        return self.size - self.others - sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file())

    def reserve(self, fd: int, offset: int, length: int) -> None:
        if length > self.free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._reserve(fd, offset, length)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallDisk:
    return SmallDisk(tmp_path, 256 * KIB, monkeypatch)


def a_journal(tmp_path: Path, clock: ManualClock, ballast: int = 64 * KIB) -> Journal:
    settings = JournalSettings(segment_bytes=16 * KIB, max_bytes=512 * KIB, ballast_bytes=ballast)
    return Journal(tmp_path / "journal", settings, clock)


def fill(journal: Journal, make_call: Make) -> list[bytes]:
    served = []
    with pytest.raises(JournalFull):
        while True:
            intent, done = make_call()
            end(journal, begin(journal, intent), done)
            served.append(done)
    return served


def released(journal: Journal) -> int:
    count = 0
    while True:
        records, position = journal.tail.take()
        journal.release(position, len(records), 0)
        count += len(records)
        if not journal.tail.more:
            journal._files.submit(int).result()  # deletes and makes files in order
            return count


def test_traffic_stops_at_a_full_disk_and_leaves_the_ballast_to_the_ledger(
    tmp_path: Path, clock: ManualClock, make_call: Make, disk: SmallDisk
) -> None:
    journal = a_journal(tmp_path, clock)
    journal.open()
    served = fill(journal, make_call)
    assert disk.free < 16 * KIB
    assert (tmp_path / "journal" / "ballast").stat().st_size == 64 * KIB
    assert journal.make_room(), "the ledger's disk is full"
    assert disk.free >= 64 * KIB
    assert not journal.make_room(), "once"
    disk.others = disk.free  # which the ledger used
    clock.advance(1)
    with pytest.raises(JournalFull):
        begin(journal, make_call()[0])
    assert released(journal) == len(served)
    for _ in range(3):
        clock.advance(1)
        released(journal)
    assert (tmp_path / "journal" / "ballast").exists(), "what shipping freed is ballast first"
    end(journal, begin(journal, make_call()[0]), make_call()[1])
    journal.close()


def test_traffic_does_not_take_back_what_was_let_go_for_the_ledger(
    tmp_path: Path, clock: ManualClock, make_call: Make, disk: SmallDisk
) -> None:
    """The ledger tries again only after a while; till then the room must not become ballast, or the next try fails."""
    journal = a_journal(tmp_path, clock)
    journal.open()
    fill(journal, make_call)
    assert journal.make_room()
    for _ in range(3):
        clock.advance(1)
        with pytest.raises(JournalFull):
            begin(journal, make_call()[0])
        journal._files.submit(int).result()
    assert disk.free >= 64 * KIB
    released(journal)
    for _ in range(2):
        clock.advance(1)
        released(journal)
    assert (tmp_path / "journal" / "ballast").exists(), "the ledger works again"
    begin(journal, make_call()[0])
    journal.close()


def test_a_disk_that_does_not_say_what_is_free_ends_nothing(
    tmp_path: Path, clock: ManualClock, make_call: Make, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = a_journal(tmp_path, clock)
    journal.open()
    assert journal.make_room()

    def broken(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", broken)
        for _ in range(3):
            released(journal)
    for _ in range(3):
        released(journal)
    assert (tmp_path / "journal" / "ballast").exists()
    journal.close()


def test_a_start_on_a_full_disk_uses_the_ballast(
    tmp_path: Path, clock: ManualClock, make_call: Make, disk: SmallDisk
) -> None:
    journal = a_journal(tmp_path, clock)
    journal.open()
    fill(journal, make_call)
    journal.close()
    disk.others = disk.free
    again = a_journal(tmp_path, clock)
    assert again.leftovers
    again.open()
    assert not (tmp_path / "journal" / "ballast").exists()
    again.forget_leftovers()
    again._spares.ballast.make()
    assert (tmp_path / "journal" / "ballast").exists()
    again.close()


def test_without_ballast_the_file_is_removed_and_nothing_waits_for_it(
    tmp_path: Path, clock: ManualClock, make_call: Make, disk: SmallDisk
) -> None:
    a_journal(tmp_path, clock).close()
    (tmp_path / "journal" / "ballast").write_bytes(b"half made")
    journal = a_journal(tmp_path, clock, ballast=0)
    journal.open()
    assert not (tmp_path / "journal" / "ballast").exists()
    assert fill(journal, make_call)
    assert not journal.make_room()
    journal.close()


def test_a_ballast_of_another_size_is_made_anew(tmp_path: Path, clock: ManualClock, disk: SmallDisk) -> None:
    for size in (64 * KIB, 32 * KIB):
        journal = a_journal(tmp_path, clock, ballast=size)
        journal.open()
        assert (tmp_path / "journal" / "ballast").stat().st_size == size
        journal.close()


def test_a_disk_too_small_for_the_ballast_serves_nothing_beyond_the_first_segment(
    tmp_path: Path, clock: ManualClock, make_call: Make, disk: SmallDisk
) -> None:
    disk.size = 48 * KIB
    journal = a_journal(tmp_path, clock)
    journal.open()
    assert fill(journal, make_call)
    assert journal.readings().bytes_used == 16 * KIB
    journal.close()
