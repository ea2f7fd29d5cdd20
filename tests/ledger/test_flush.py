"""What waits for a flush: written whole and in order, in as many frames as it takes, whatever goes wrong with one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from librt.strings import BytesWriter

from sidecar.core.clock import ManualClock
from sidecar.core.errors import JournalFull
from sidecar.core.policy import JournalSettings
from sidecar.core.ports import Position
from sidecar.core.records import done_in
from sidecar.ledger import Journal
from tests.journals import Text, files_of_at_most, payloads_on_disk, records_on_disk, taken

Open = Callable[..., Journal]


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
    assert payloads_on_disk(journal) == [b'intent,\nintent,\nintent,\n["d",1]', b'["d",3]']
    assert journal.readings().open_calls == 1
    assert taken(journal)[0] == [b'["d",1]', b'["d",3]']
    calls[1].done = b'["d",2]'
    journal.end(calls[1])
    journal.flush()
    assert taken(journal) == ([b'["d",2]'], journal.position)


class Called(Text):
    """Names its caller where the one before does not."""

    def __init__(self, number: int, caller: bytes) -> None:
        self.start, self.caller = b'"%d",7' % number, b',"%b"' % caller
        super().__init__(self.start + self.caller)

    def put_intent(self, writer: BytesWriter, said: bytes) -> bytes:
        writer.write(self.start if said == self.caller else self.intent)
        return self.caller


@given(st.lists(st.tuples(st.sampled_from([b"one", b"two", b"w" * 500]), st.sampled_from(["", "write", "end"]))))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_frame_names_its_callers(open_journal: Open, turns: list[tuple[bytes, str]]) -> None:
    journal = open_journal(segment_bytes=16 * 1024, max_bytes=1024**2)
    journal.open()
    calls = [Called(number, caller) for number, (caller, _) in enumerate(turns)]
    for call, (_, then) in zip(calls, turns, strict=True):
        journal.begin(call, len(call.intent))
        if then == "end":
            call.done = b'["d",0]'
            journal.end(call)
        if then:
            journal.flush()
    journal.flush()
    assert [record for record in records_on_disk(journal) if record[:1] == b'"'] == [call.intent for call in calls]
    assert sorted(journal.tail.take()[0]) == [call.done for call in calls if call.done]
    journal.close()


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
    assert [(call.lost, call.segment) for call in calls] == [(False, 0), (True, 1), (False, 0)]
    assert "a record cannot be written" in caplog.text


class Early(Text):
    def put_intent(self, writer: BytesWriter, said: bytes) -> bytes:
        if not self.done:
            raise ArithmeticError
        return super().put_intent(writer, said)


def test_an_intent_that_fails_leaves_nothing_of_it_and_those_behind_it_wait(open_journal: Open) -> None:
    journal = open_journal()
    journal.open()
    calls = [Text(b"one"), Early(b"two"), Text(b"three")]
    for call in calls:
        journal.begin(call, len(call.intent))
    for _ in range(2):
        with pytest.raises(ArithmeticError):
            journal.flush()
    calls[1].done = b'["d",2]'
    journal.end(calls[1])
    journal.flush()
    assert payloads_on_disk(journal) == [b"one", b'two,\nthree,\n["d",2]']


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
    with files_of_at_most(8 * 1024):
        for _ in range(2):
            with pytest.raises(JournalFull):
                for _ in range(20):
                    journal.flush()
    assert 0 < journal.readings().open_calls < 40
    clock.advance(1)
    late = Text(b"late", b'["d","late"]')
    journal.begin(late, len(late.intent))
    journal.flush()
    for payload in payloads_on_disk(journal):
        assert b"\ni" not in done_in(payload), "a frame's done records stand behind its intents"
        assert b"late" not in done_in(payload)
    assert sorted(records_on_disk(journal)) == sorted([*(c.intent for c in calls), *(c.done for c in calls), b"late"])
    found = list[bytes]()
    while journal.tail.more or not found:
        found += journal.tail.take()[0]
    assert found == [call.done for call in calls]
    assert journal.readings().unshipped_records == 40


def one_end_missing(folder: Path, before: int) -> tuple[Journal, list[Text]]:
    """A journal and its calls, all of which ended with records longer than was owed to them, ``before`` of them before
    its disk was full: the last one's is not written."""
    settings = JournalSettings(segment_bytes=16 * 1024, max_bytes=1024**2, ballast_bytes=0)
    for count in range(before + 1, 40):
        journal = Journal(folder / f"{count}" / "journal", settings, ManualClock())
        journal.open()
        calls = [Text(b"i%03d" % n, b'["d",%d,%b]' % (n, b"d" * 1900)) for n in range(count)]
        for call in calls:
            journal.begin(call, len(call.intent))
        for call in calls[:before]:
            journal.end(call)
        journal.flush()
        for call in calls[before:]:
            journal.end(call)
        with files_of_at_most(8 * 1024):
            try:
                journal.flush()
            except JournalFull:
                assert journal.readings().open_calls == 0
                return journal, calls
        journal.close()
    raise AssertionError("the disk takes all")


def test_no_segment_goes_with_the_last_record_of_a_call_whose_end_the_disk_did_not_take(tmp_path: Path) -> None:
    """That end is written as soon as there is room, which the segment gives."""
    journal, calls = one_end_missing(tmp_path, 9)
    assert len(journal._segments) > 1
    found, position = list[bytes](), Position()
    while position < journal.position:
        records, position = journal.tail.take()
        found += records
    assert found == [call.done for call in calls[:-1]]
    with files_of_at_most(8 * 1024):
        journal.release(position, len(found), 0)
    assert records_on_disk(journal)[-1] == calls[-1].done
    assert list(journal.tail.take()[0]) == [calls[-1].done]
    journal.close()


def test_files_are_kept_at_the_end_where_the_disk_did_not_take_all(tmp_path: Path) -> None:
    """What it took is in the ledger and no call is open, but the end of the last one is nowhere."""
    journal, calls = one_end_missing(tmp_path, 0)
    records, position = journal.tail.take()
    assert list(records) == [call.done for call in calls[:-1]]
    with files_of_at_most(8 * 1024):
        journal.release(position, len(records), 0)
        journal.close()
    assert any(calls[-1].intent in path.read_bytes() for path in tmp_path.glob("*/journal/*.segment"))


def test_a_call_that_ends_while_its_progress_is_written_has_none(open_journal: Open) -> None:
    class Hasty(Broken):
        def unwritten(self) -> None:
            journal.end(other)

    journal = open_journal()
    journal.open()
    calls = [Text(b"one"), Hasty(b"two"), Text(b"three", b'["d",3]')]
    other = calls[2]
    for call in calls:
        journal.begin(call, len(call.intent))
    journal.end(calls[1])
    with pytest.raises(KeyError):
        journal.progress(other, b'["p",3]')
    assert journal.readings().open_calls == 2
    assert records_on_disk(journal) == [b"one", b"two", b"three", b'["d",3]']
    journal.end(calls[0])
