"""The journal's bookkeeping: order, room, bound, long calls, two writers."""

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from librt.strings import BytesWriter

from sidecar.core.clock import ManualClock
from sidecar.core.errors import JournalFull, StoreError, StoreLocked
from sidecar.core.policy import JournalSettings
from sidecar.core.ports import Position
from sidecar.ledger import Journal
from sidecar.ledger import tail as tail_module
from sidecar.ledger.segment import HEADER, SUFFIX, number_of
from tests.journals import Text, begin, end, payloads_on_disk, records_on_disk

Make = Callable[..., tuple[bytes, bytes]]
Open = Callable[..., Journal]


def taken(journal: Journal) -> tuple[list[bytes], Position]:
    records, position = journal.tail.take()
    return list(records), position


def test_both_records_stand_in_the_file_when_the_call_returns(open_journal: Open, make_call: Make) -> None:
    journal = open_journal()
    journal.open()
    intent, done = make_call()
    call = begin(journal, intent)
    assert payloads_on_disk(journal) == [intent]
    end(journal, call, done)
    assert payloads_on_disk(journal) == [intent, done]
    assert taken(journal) == ([done], journal.position)


def test_nothing_begins_before_open(open_journal: Open, make_call: Make) -> None:
    journal = open_journal()
    with pytest.raises(JournalFull):
        begin(journal, make_call()[0])
    journal.open()
    begin(journal, make_call()[0])


def test_a_call_ends_once(open_journal: Open, make_call: Make) -> None:
    journal = open_journal()
    journal.open()
    intent, done = make_call()
    call = begin(journal, intent)
    end(journal, call, done)
    with pytest.raises(KeyError):
        end(journal, call, done)
    assert payloads_on_disk(journal) == [intent, done]


@pytest.mark.parametrize("size", [0, 1 << 20])
def test_an_intent_or_progress_of_no_sensible_size_changes_nothing(
    open_journal: Open, make_call: Make, size: int
) -> None:
    journal = open_journal()
    journal.open()
    call = begin(journal, make_call()[0])
    before, free = journal.position, journal._free
    for write in (lambda: begin(journal, b"x" * size), lambda: journal.progress(call, b"x" * size)):
        with pytest.raises(ValueError, match="bytes"):
            write()
        assert (journal.position, journal._free) == (before, free)
    end(journal, call, make_call()[1])
    assert journal.readings().open_calls == 0


def test_at_the_bound_begin_refuses_and_every_open_call_can_still_end(open_journal: Open, make_call: Make) -> None:
    """field-bugs 22: what was accepted is counted. getlago/lago#538, openmeterio/openmeter#5118"""
    journal = open_journal(max_bytes=128 * 1024)
    journal.open()
    calls = []
    while True:
        intent, done = make_call()
        try:
            calls.append((begin(journal, intent), intent, done))
        except JournalFull:
            break
    assert journal.readings().bytes_used <= 128 * 1024
    assert journal.readings().refused == 1
    longest = len(calls[0][1]) + 1024
    for call, _, done in calls:
        end(journal, call, done.ljust(longest))
    assert journal.readings().bytes_used <= 128 * 1024
    assert len(payloads_on_disk(journal)) == 2 * len(calls) > 50


def test_shipping_makes_room_again(open_journal: Open, make_call: Make, clock: ManualClock) -> None:
    journal = open_journal(max_bytes=64 * 1024)
    journal.open()
    ended = 0
    for _ in range(5):
        with pytest.raises(JournalFull):
            while True:
                intent, done = make_call()
                end(journal, begin(journal, intent), done)
                ended += 1
        shipped = 0
        while True:
            records, position = journal.tail.take()
            shipped += len(records)
            if not journal.tail.more:
                break
        journal.release(position, shipped, clock.monotonic_ns())
        readings = journal.readings()
        assert (readings.unshipped_bytes, readings.unshipped_records, readings.oldest_unshipped_ns) == (0, 0, 0)
    assert ended > 5 * 50


def test_segments_that_are_in_the_ledger_are_used_again_up_to_four_at_once(
    open_journal: Open, make_call: Make, clock: ManualClock, tmp_path: Path
) -> None:
    """Fresh pages cost a fault each, and a batch of the ledger frees several segments together."""
    journal = open_journal()
    journal.open()

    def files() -> dict[int, int]:
        return {path.stat().st_ino: number_of(path) for path in (tmp_path / "journal").glob("*" + SUFFIX)}

    def write(segments: int) -> None:
        first = journal.position.segment
        while journal.position.segment < first + segments:
            intent, done = make_call()
            end(journal, begin(journal, intent), done)
        records, position = journal.tail.take()
        journal.release(position, len(records), clock.monotonic_ns())

    write(8)
    journal._files.submit(lambda: None).result()
    before = files()
    write(3)
    journal._files.submit(lambda: None).result()
    after = files()
    used_again = {inode for inode in before if inode in after and after[inode] > before[inode]}
    assert len(before) <= 4 + 2  # kept, written, and perhaps one prepared
    assert len(used_again) >= 3
    assert max(after.values()) > max(before.values())


def test_long_calls_do_not_hold_segments_back(
    open_journal: Open, make_call: Make, clock: ManualClock, tmp_path: Path
) -> None:
    """A few tunnels that began in different segments would fill the bound for ever; their intents move on instead."""
    journal = open_journal(max_bytes=256 * 1024)
    journal.open()
    tunnels = {}
    for number in range(3000):
        intent, done = make_call()
        call = begin(journal, intent)
        if number % 100 == 0:
            tunnels[call] = (intent, done)
        else:
            end(journal, call, done)
        if number % 20 == 0:
            records, position = journal.tail.take()
            journal.release(position, len(records), clock.monotonic_ns())
    assert journal.readings().bytes_used <= 128 * 1024
    assert journal.readings().carried > 0
    on_disk = payloads_on_disk(journal)
    assert all(intent in on_disk for intent, _ in tunnels.values())
    for call, (_, done) in tunnels.items():
        end(journal, call, done)
    assert journal.readings().open_calls == 0
    assert journal._free == journal._usable * (1 + len(journal._spares)) - (journal.position.offset - HEADER.size)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from("beespf"), st.integers(1, 900)), max_size=200), spare=st.integers(0, 9))
def test_room_is_accounted_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], spare: int
) -> None:
    """free = usable of all segments - frames - what open calls are owed, after any order of begin, end, progress, flush
    and shipping; an intent that waits counts as a frame of its own, with ``spare`` bytes that it says it may take."""
    clock = ManualClock()
    limits = JournalSettings(segment_bytes=16 * 1024, max_bytes=96 * 1024)
    journal = Journal(tmp_path_factory.mktemp("journal"), limits, clock)
    journal.open()
    open_calls: list[Text] = []
    for what, size in steps:
        call = open_calls[size % len(open_calls)] if open_calls else None
        if what == "b":
            call = Text(b"i" * size, b"d" * size)
            try:
                journal.begin(call, size + spare)
                open_calls.append(call)
            except JournalFull:
                assert journal._free < 2 * (size + spare) + 32 + 1024
        elif what == "e" and call is not None and call.number > 0:
            journal.end(call)
        elif what == "p" and call is not None and call.number > 0:
            journal.progress(call, b"p" * size)
        elif what == "f":
            journal.flush()
        else:
            records, position = journal.tail.take()
            journal.release(position, len(records), clock.monotonic_ns())
        open_calls = [call for call in open_calls if call.number]
        owed = sum(call.reserved + 1024 + 16 for call in open_calls)
        used = journal.position.offset - HEADER.size
        waiting = sum(16 + call.reserved for call in journal._begun)
        assert journal._free == journal._usable * (1 + len(journal._spares)) - used - waiting - owed
        assert journal.readings().bytes_used <= 96 * 1024
    journal.close()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from("beftp"), st.integers(0, 500)), max_size=200))
def test_what_waits_for_a_flush_is_written_whole_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """On disk stands what came up to the last flush, in each its intents first; and the tail gives no more."""
    settings = JournalSettings(segment_bytes=16 * 1024, max_bytes=1024**2)
    journal = Journal(tmp_path_factory.mktemp("journal"), settings, ManualClock())
    journal.open()
    written, intents, done, found = (list[bytes]() for _ in range(4))
    taken = 0
    open_calls: list[Text] = []
    for number, (what, size) in enumerate(steps):
        if what == "b":
            intents.append(b'"%d",%b' % (number, b"i" * size))
            open_calls.append(Text(intents[-1]))
            journal.begin(open_calls[-1], len(intents[-1]))
        elif what == "e" and open_calls:
            call = open_calls.pop(size % len(open_calls))
            call.done = b'["d",%d,%b]' % (number, b"d" * size)
            done.append(call.done)
            journal.end(call)
        elif what in "pf":
            if what == "f":
                journal.flush()
            elif open_calls:
                record = b'["p",%d,%b]' % (number, b"p" * size)
                assert journal.progress(open_calls[size % len(open_calls)], record)
            else:
                continue
            written += [*intents, *done[taken:], *([record] if what == "p" else [])]
            taken = len(done)
            intents.clear()
        elif what == "t":
            records, position = journal.tail.take()
            assert position == journal.position
            found += records
        assert records_on_disk(journal) == written
        assert found == done[: len(found)]
        assert len(found) <= taken
    journal.flush()
    assert [*found, *journal.tail.take()[0]] == done
    journal.close()


def test_a_record_that_fits_no_frame_harms_no_other_of_its_turn(open_journal: Open) -> None:
    journal = open_journal(segment_bytes=16 * 1024, max_bytes=1024**2)
    journal.open()
    calls = [Text(b"intent", done) for done in (b'["d",1]', b"x" * 3000, b'["d",3]')]
    for call in calls:
        journal.begin(call, 6)
    for call in calls:
        journal.end(call)
        with pytest.raises(KeyError):
            journal.end(call)
    journal.flush()
    assert [call.lost for call in calls] == [False, True, False]
    assert payloads_on_disk(journal) == [b'intent,\nintent,\nintent,\n["d",1],\n["d",3]']
    assert journal.readings().open_calls == 1
    assert taken(journal)[0] == [b'["d",1]', b'["d",3]']
    calls[1].done = b'["d",2]'
    journal.end(calls[1])
    journal.flush()
    assert taken(journal) == ([b'["d",2]'], journal.position)


class Broken(Text):
    def put_done(self, writer: BytesWriter) -> None:
        writer.write(b'["d","half')
        raise ArithmeticError


def test_a_fault_in_one_record_leaves_nothing_of_it(open_journal: Open, caplog: pytest.LogCaptureFixture) -> None:
    journal = open_journal()
    journal.open()
    calls = [Text(b"one", b'["d",1]'), Broken(b"two"), Text(b"three", b'["d",3]')]
    for call in calls:
        journal.begin(call, len(call.intent))
        journal.end(call)
    journal.flush()
    assert payloads_on_disk(journal) == [b'one,\ntwo,\nthree,\n["d",1],\n["d",3]']
    assert [(call.lost, call.number) for call in calls] == [(False, 0), (True, 2), (False, 0)]
    assert "a record cannot be written" in caplog.text


def test_a_turn_of_any_size_is_written_whole(open_journal: Open) -> None:
    """As many frames as it takes, none of them larger than a frame may be."""
    journal = open_journal(segment_bytes=16 * 1024, max_bytes=1024**2)
    journal.open()
    calls = [Text(b"i%03d" % n * 50, b'["d",%d,%b]' % (n, b"d" * (7 * n))) for n in range(250)]
    for call in calls:
        journal.begin(call, len(call.intent))
    for call in calls[:200]:
        journal.end(call)
    journal.flush()
    payloads = payloads_on_disk(journal)
    assert max(map(len, payloads)) <= journal.max_payload
    assert len(payloads) < 2 * sum(map(len, payloads)) / journal.max_payload
    done = [call.done for call in calls[:200]]
    assert records_on_disk(journal) == [*(call.intent for call in calls), *done]
    found = list[bytes]()
    while len(found) < 200:
        found += journal.tail.take()[0]
    assert found == done


def test_what_the_disk_does_not_take_waits_for_the_next_flush(tmp_path: Path, clock: ManualClock) -> None:
    """Done records longer than was owed, and no room for a segment: nothing is lost of what waits, nor doubled."""
    journal = Journal(
        tmp_path / "journal", JournalSettings(segment_bytes=16 * 1024, max_bytes=1024**2, ballast_bytes=0), clock
    )
    journal.open()
    calls = [Text(b"i%03d" % n, b'["d",%d,%b]' % (n, b"d" * 1900)) for n in range(40)]
    for call in calls:
        journal.begin(call, len(call.intent))
    for call in calls:
        journal.end(call)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * 1024, hard))
    try:
        for _ in range(2):
            with pytest.raises(JournalFull):
                for _ in range(20):
                    journal.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 0 < journal.readings().open_calls < 40
    journal.flush()
    assert sorted(records_on_disk(journal)) == sorted([*(c.intent for c in calls), *(c.done for c in calls)])
    assert list(journal.tail.take()[0]) == [call.done for call in calls]


def test_a_lagging_ledger_is_fed_from_the_files(
    open_journal: Open, make_call: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "FULL", 2000)
    monkeypatch.setattr(tail_module, "MAX_BLOCKS", 3)
    journal = open_journal()
    journal.open()
    expected = []
    for _ in range(1000):
        intent, done = make_call()
        end(journal, begin(journal, intent), done)
        expected.append(done)
    found, last = [], Position()
    while True:
        records, position = journal.tail.take()
        assert position >= last
        found, last = [*found, *records], position
        if not journal.tail.more and position == journal.position:
            break
    assert found == expected
    intent, done = make_call()
    end(journal, begin(journal, intent), done)
    assert taken(journal) == ([done], journal.position)


def test_a_disk_that_gives_no_blocks_refuses_calls_and_lets_open_ones_end(
    open_journal: Open, make_call: Make, clock: ManualClock
) -> None:
    """The file size limit of the process makes posix_fallocate fail as a full disk does: before anything is stored."""
    journal = open_journal()
    journal.open()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * 1024, hard))
    try:
        calls = []
        with pytest.raises(JournalFull):
            while True:
                intent, done = make_call()
                calls.append((begin(journal, intent), done))
        for call, done in calls:
            end(journal, call, done)
        with pytest.raises(JournalFull):
            while True:
                begin(journal, make_call()[0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(JournalFull):
        begin(journal, make_call()[0])  # not asked of the disk again within a second
    clock.advance(1)
    begin(journal, make_call()[0])
    assert len(payloads_on_disk(journal)) > 2 * len(calls)


def test_two_writers_never_share_a_folder(open_journal: Open) -> None:
    open_journal().open()
    with pytest.raises(StoreLocked, match="another process"):
        open_journal()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        Journal(tmp_path / "file" / "journal", JournalSettings(), clock)


def test_closed_clean_it_leaves_no_segment(
    open_journal: Open, make_call: Make, clock: ManualClock, tmp_path: Path
) -> None:
    journal = open_journal()
    journal.open()
    intent, done = make_call()
    end(journal, begin(journal, intent), done)
    records, position = journal.tail.take()
    journal.release(position, len(records), clock.monotonic_ns())
    journal.close()
    assert {path.name for path in (tmp_path / "journal").iterdir()} == {"lock", "identity", "ballast"}


def test_numbers_never_come_again(open_journal: Open, make_call: Make) -> None:
    """The ledger's position may come from a journal that was deleted: what is numbered below it is not shipped."""
    journal = open_journal()
    journal.open(after=41)
    assert journal.position.segment == 42
    begin(journal, make_call()[0])
    journal.close()
    again = open_journal()
    again.open(after=7)
    assert again.position.segment == 43


def test_a_file_damaged_under_our_feet_is_kept_aside_and_shipping_goes_on(
    open_journal: Open, make_call: Make, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tail_module, "FULL", 1)
    monkeypatch.setattr(tail_module, "MAX_BLOCKS", 16)
    journal = open_journal()
    journal.open()
    done_records = []
    for _ in range(100):
        intent, done = make_call()
        end(journal, begin(journal, intent), done)
        done_records.append(done)
    damaged = journal._segments[0]
    damaged.map[damaged.map.rfind(b'["d"') + 20] ^= 0xFF
    found: list[bytes] = []
    while True:
        records, position = journal.tail.take()
        found += records
        if not journal.tail.more:
            break
    lost = [done for done in done_records if done not in found]
    assert 1 <= len(lost) < 3
    assert found == [done for done in done_records if done not in lost]
    journal.release(position, len(found), clock.monotonic_ns())
    assert position == journal.position
    journal.close()
    assert [path.name for path in (tmp_path / "journal").glob("*.corrupt")] == [damaged.path.stem + ".corrupt"]
