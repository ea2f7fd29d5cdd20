"""What an earlier process left in the journal: shipped once, through kills and damage."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.core.clock import ManualClock
from sidecar.core.errors import StoreError
from sidecar.core.policy import JournalSettings
from sidecar.core.ports import Position
from sidecar.core.records import ID_BYTES, decode_record
from sidecar.ledger import Journal
from sidecar.ledger.segment import FRAME_BYTES, HEADER, frame_head, read_frames
from sidecar.storage import SqliteStore
from tests.journals import begin, serve
from tests.ledger.shipping import FlakyStore, recovered, requests, shipper_of

Make = Callable[..., tuple[bytes, bytes]]
Open = Callable[..., Journal]


async def test_after_a_kill_the_rest_is_shipped_and_open_calls_are_indeterminate(
    open_journal: Open, make_call: Make, store: SqliteStore, clock: ManualClock, tmp_path: Path
) -> None:
    """Twice, the second time from the position of a crash between the append and the deletion of the segments."""
    journal = open_journal()
    shipper = await recovered(journal, store, clock)
    open_call = make_call()
    begin(journal, open_call[0])
    serve(journal, make_call, 300)
    await shipper.flush()
    serve(journal, make_call, 100)
    journal.close()
    kept = {path: path.read_bytes() for path in (tmp_path / "journal").glob("*.segment")}
    for _ in range(2):
        again = open_journal()
        recovering = await recovered(again, store, clock)
        assert await requests(store, clock) == (401, 1)
        assert recovering.readings().indeterminate == 1
        assert len(list((tmp_path / "journal").glob("*.segment"))) == 1
        again.close()
        for path, content in kept.items():
            path.write_bytes(content)
        kept = {path: content for path, content in kept.items() if path.exists()}


@pytest.mark.parametrize("magic", [b"sidecar3", b"sidecar4", b"sidecar5", b"sidecar6"])
async def test_what_a_killed_process_of_a_former_revision_left_is_shipped(
    open_journal: Open, make_call: Make, store: SqliteStore, clock: ManualClock, tmp_path: Path, magic: bytes
) -> None:
    """Its intents have their time, and before 5 its frames do not say how many of their records are done."""

    def make_former() -> tuple[bytes, bytes]:
        intent, done = make_call()
        return b"%b,%d%b" % (intent[:ID_BYTES], decode_record(done).started_us, intent[ID_BYTES:]), done

    journal = open_journal()
    journal.open()
    serve(journal, make_former, 200)
    begin(journal, make_former()[0])
    for segment in journal._segments:
        frames = read_frames(segment.map, segment.number, HEADER.size, segment.written, segment.size)
        offset = HEADER.size
        for payload, done in frames.payloads:
            said = done if magic >= b"sidecar5" else 0
            segment.map[offset : offset + FRAME_BYTES] = frame_head(payload, said, segment.mark)
            offset += FRAME_BYTES + len(payload)
        assert (offset, segment.map[:8]) == (segment.written, b"sidecar7")
        segment.map[:8] = magic
    journal.close()
    shipper = await recovered(open_journal(), store, clock)
    assert await requests(store, clock) == (201, 1)
    assert shipper.readings().corrupt_segments == 0


async def test_recovery_that_fails_can_be_repeated(
    open_journal: Open, make_call: Make, store: SqliteStore, clock: ManualClock
) -> None:
    journal = open_journal()
    journal.open()
    serve(journal, make_call, 10)
    begin(journal, make_call()[0])
    journal.close()
    again = open_journal()
    flaky = FlakyStore(store, before=1, after=1)
    shipper = shipper_of(again, flaky, clock)
    for _ in range(2):
        with pytest.raises(StoreError):
            await shipper.recover()
    await shipper.recover()
    assert await requests(store, clock) == (11, 1)
    serve(again, make_call, 3)
    await shipper.flush()
    assert await requests(store, clock) == (14, 1)


async def test_events_before_the_position_are_not_shipped_again(
    open_journal: Open, make_call: Make, store: SqliteStore, clock: ManualClock
) -> None:
    """The ledger may have forgotten them, and would count them twice."""
    journal = open_journal()
    shipper = await recovered(journal, store, clock)
    serve(journal, make_call, 30)
    begin(journal, make_call()[0])
    await shipper.flush()
    await store.forget_events(before_us=1 << 60, at_most=1000)
    journal.close()
    await recovered(open_journal(), store, clock)
    assert await requests(store, clock) == (31, 1)


async def test_a_torn_end_is_cut_and_reported(
    open_journal: Open, make_call: Make, store: SqliteStore, clock: ManualClock, tmp_path: Path
) -> None:
    journal = open_journal()
    journal.open()
    serve(journal, make_call, 10)
    last = journal._segment
    path, end = last.path, last.written
    journal.close()
    content = bytearray(path.read_bytes())
    content[end - 40 : end] = bytes(40)
    path.write_bytes(content)
    shipper = await recovered(open_journal(), store, clock)
    assert await requests(store, clock) == (10, 1)  # the tenth call's end was torn
    assert shipper.readings().torn_bytes > 0
    assert list((tmp_path / "journal").glob("*.corrupt")) == []


@pytest.mark.parametrize("which", [0, 1, -1])
async def test_damage_is_reported_kept_aside_and_does_not_stop_the_rest(
    open_journal: Open, make_call: Make, store: SqliteStore, clock: ManualClock, tmp_path: Path, which: int
) -> None:
    journal = open_journal()
    journal.open()
    served = serve(journal, make_call, 200)
    journal.close()
    paths = sorted((tmp_path / "journal").glob("*.segment"))
    assert len(paths) > 2
    content = bytearray(paths[which].read_bytes())
    lost = sum(record in bytes(content[HEADER.size :]) for record in served)
    at = content.index(served[-1] if which == -1 else b'["d"') - 500 if which == -1 else HEADER.size + 20
    kept = sum(record in bytes(content[:at]) for record in served)
    content[at] ^= 0xFF
    paths[which].write_bytes(content)
    shipper = await recovered(open_journal(), store, clock)
    calls, indeterminate = await requests(store, clock)
    assert 200 - lost <= calls - indeterminate <= 200 - lost + kept
    assert shipper.readings().corrupt_segments == 1
    assert paths[which].with_suffix(".corrupt").read_bytes() == content
    assert not paths[which].exists()


async def test_a_file_that_is_no_segment_is_kept_aside(
    open_journal: Open, make_call: Make, store: SqliteStore, clock: ManualClock, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    (folder / "0000000000000001.segment").write_bytes(b"a letter to a friend")
    (folder / "0000000000000002.segment").write_bytes(b"")
    (folder / "notes.txt").write_text("mine")
    await recovered(open_journal(), store, clock)
    assert (folder / "0000000000000001.corrupt").read_bytes() == b"a letter to a friend"
    assert (folder / "notes.txt").exists()


async def test_a_deleted_journal_does_not_hide_new_calls_behind_the_old_position(
    open_journal: Open, make_call: Make, store: SqliteStore, clock: ManualClock
) -> None:
    await store.append([], Position(900, 16))
    journal = open_journal()
    await recovered(journal, store, clock)
    serve(journal, make_call, 5)
    journal.close()
    await recovered(open_journal(), store, clock)
    assert await requests(store, clock) == (5, 0)


CHILD = """
import asyncio, sys
from pathlib import Path
from sidecar.core.clock import SystemClock
from sidecar.core.ids import EventIds
from sidecar.core.policy import JournalSettings
from sidecar.core.records import encode_call, principal_fragment
from sidecar.ledger import Journal, Retention, Shipper
from sidecar.storage import SqliteStore
from tests.journals import begin, end, intent_of

async def main(folder):
    clock, ids = SystemClock(), EventIds()
    store = SqliteStore.open(folder / "sidecar.db")
    journal = Journal(folder / "journal", JournalSettings(segment_bytes=32 * 1024, max_bytes=8 * 1024**2), clock)
    shipper = Shipper(journal, store, clock, keep=Retention(10**18, 10**18, 10**18))
    await shipper.recover()
    shipper.start()
    while True:
        for _ in range(50):
            event = ids.next(clock.wall_ns())
            who = principal_fragment("acme", "k", "pro", sandbox=False)
            head = (event, clock.wall_ns() // 1000, who, b'"r"', b'"GET"')
            call = begin(journal, intent_of(head))
            print("begun", event.decode(), flush=True)
            end(journal, call, encode_call(*head, 200, b"ok", 1, 0, 0, 0, 0, 0, 0, b"{}"))
            print("ended", event.decode(), flush=True)
        await asyncio.sleep(0)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_kill_9_loses_no_acknowledged_call(tmp_path: Path) -> None:
    """Promise 1. Killed at four moments of its work, over one folder: each acknowledged call is counted once."""
    begun: set[str] = set()
    ended: set[str] = set()
    for lines in (7, 400, 1501, 3002):
        with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
            seen = [child.stdout.readline() for _ in range(lines)]
            child.kill()
            seen += child.stdout.readlines()
        for line in seen:
            if line.endswith("\n"):
                what, event = line.split()
                (begun if what == "begun" else ended).add(event)
    asyncio.run(check_after_kills(tmp_path, begun, ended))


async def check_after_kills(tmp_path: Path, begun: set[str], ended: set[str]) -> None:
    clock = ManualClock(wall_ns=1 << 62)
    store = SqliteStore.open(tmp_path / "sidecar.db")
    journal = Journal(tmp_path / "journal", JournalSettings(segment_bytes=32 * 1024, max_bytes=1024**2), clock)
    await recovered(journal, store, clock)
    calls, indeterminate = await requests(store, clock)
    assert len(ended) > 2000
    assert calls - indeterminate - len(ended) in range(5)  # the last of each life may have ended, unacknowledged
    assert calls - len(begun) in range(5)
    ids = store._reports.call(lambda connection: {row[0] for row in connection.execute("SELECT event_id FROM entries")})
    assert {bytes.fromhex(event.replace("-", "")) for event in begun} <= ids
    journal.close()
    store.close()


async def test_an_indeterminate_record_keeps_who_and_when(
    open_journal: Open, make_call: Make, store: SqliteStore, clock: ManualClock
) -> None:
    journal = open_journal()
    journal.open()
    intent, done = make_call("globex")
    begin(journal, intent)
    journal.close()
    await recovered(open_journal(), store, clock)
    report = await store.usage("globex", since_us=0, until_us=1 << 60)
    wanted = decode_record(done)
    assert (report.indeterminate, report.totals.requests, report.totals.units) == (1, 1, 0)
    assert list(report.routes) == [wanted.route] and list(report.statuses) == ["none"]
