"""The journal's bookkeeping: order, room, bound, long calls, two writers."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.core.clock import ManualClock
from sidecar.core.errors import JournalFull, StoreError, StoreLocked
from sidecar.core.ids import EventIds
from sidecar.core.policy import JournalSettings, Meter, Snapshot
from sidecar.core.ports import Position
from sidecar.core.records import ANOMALY, BLIND_MARK, OUTCOMES, encode_call, encode_intent, marked, meters_fragment
from sidecar.ledger import Journal, done_extra
from sidecar.ledger import tail as tail_module
from sidecar.ledger.segment import HEADER, SUFFIX, number_of
from tests.journals import Text, begin, end, files_of_at_most, payloads_on_disk, serve, taken

Make = Callable[..., tuple[bytes, bytes]]
Open = Callable[..., Journal]


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


def test_segments_that_are_in_the_ledger_are_used_again_up_to_two_at_once(
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
    assert len(before) <= 2 + 2  # kept, written, and perhaps one prepared
    assert len(used_again) == 2
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
        elif what == "e" and call is not None and call.segment > 0:
            journal.end(call)
        elif what == "p" and call is not None and call.segment > 0:
            journal.progress(call, b"p" * size)
        elif what == "f":
            journal.flush()
        else:
            records, position = journal.tail.take()
            journal.release(position, len(records), clock.monotonic_ns())
        open_calls = [call for call in open_calls if call.segment]
        owed = sum(call.reserved + 1024 + 16 for call in open_calls)
        used = journal.position.offset - HEADER.size
        waiting, begun = 0, journal._calls.waiting
        while begun is not None:
            waiting, begun = waiting + 16 + begun.reserved, begun.newer
        assert journal._free == journal._usable * (1 + len(journal._spares)) - used - waiting - owed
        assert journal.readings().bytes_used <= 96 * 1024
    journal.close()


def test_no_done_record_is_longer_than_is_owed_to_it() -> None:
    """With the largest numbers, every meter twice, and the mark of a call that was admitted blind."""
    snapshot = Snapshot(meters={name: Meter(name, "requests") for name in ("tokens", "m" * 60)})
    meters = {name + mark: 2**63 - 1 for name in snapshot.meters for mark in ("", ANOMALY)}
    event_id, caller = EventIds().next(0), (b'"t","k","p",0', b'"r"', b'"GET"')
    most = 2**63 - 1
    for outcome in OUTCOMES:
        fragment = marked(meters_fragment(meters), BLIND_MARK)
        done = encode_call(event_id, most, *caller, most, outcome.encode(), *[most] * 7, fragment)
        assert len(done) <= len(encode_intent(event_id, *caller)) + done_extra(snapshot)


def test_a_lagging_ledger_is_fed_from_the_files(
    open_journal: Open, make_call: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "ENOUGH", 2000)
    journal = open_journal()
    journal.open()
    expected = serve(journal, make_call, 1000)
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
    with files_of_at_most(8 * 1024):
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


def test_damage_that_cannot_be_kept_aside_takes_nothing_else_with_it(
    open_journal: Open, make_call: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The name is taken: what stands before and after it, in the same step, is shipped."""
    journal = open_journal()
    journal.open()
    done_records = serve(journal, make_call, 150)
    assert len(journal._segments) > 2
    damaged = journal._segments[1]
    damaged.map[damaged.map.rfind(b'["d"') + 20] ^= 0xFF
    damaged.path.with_suffix(".corrupt").symlink_to("nowhere")
    found, position = journal.tail.take()
    assert position == journal.position
    assert len(found) == 149
    assert set(found) < set(done_records)
    assert "cannot be kept aside" in caplog.text


def test_a_file_damaged_under_our_feet_is_kept_aside_and_shipping_goes_on(
    open_journal: Open,
    make_call: Make,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tail_module, "ENOUGH", 1)
    journal = open_journal()
    journal.open()
    done_records = serve(journal, make_call, 100)
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
    assert f"is kept aside as {damaged.path.stem}.corrupt" in caplog.text
