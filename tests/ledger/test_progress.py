"""Progress of long calls: what a call counts as when it never ends, the room it takes, what a recovery makes of it."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.core.clock import ManualClock
from sidecar.core.errors import JournalFull
from sidecar.core.ids import EventIds
from sidecar.core.policy import JournalSettings
from sidecar.core.ports import Position
from sidecar.core.records import (
    INTENT,
    PROGRESS,
    UsageRecord,
    decode_record,
    encode_call,
    principal_fragment,
    text_fragment,
)
from sidecar.ledger import Journal
from sidecar.ledger.recovery import ship_leftovers
from tests.journals import begin, end, intent_of

Open = Callable[..., Journal]
_ids = EventIds()
_numbers = itertools.count()
Head = tuple[bytes, int, bytes, bytes, bytes]


class Shelf:
    """As much of a ledger as a recovery needs: what was shipped, and nothing known."""

    def __init__(self) -> None:
        self.records: list[UsageRecord] = []

    async def position(self) -> Position:
        return Position()

    async def append(self, records: list[bytes], position: Position) -> int:
        self.records += map(decode_record, records)
        return len(records)


def head() -> Head:
    principal = principal_fragment("acme", "key1", "pro", sandbox=False)
    return (_ids.next(1_760_000_000 * 10**9), 1_760_000_000_000_000, principal, text_fragment("chat"), b'"POST"')


def mark(head: Head, bytes_out: int, kind: int = PROGRESS, pad: int = 0) -> bytes:
    meters = b'{"tokens":%d}' % (bytes_out + 10**pad)
    return encode_call(*head, 200, b"indeterminate", 1, 3, 10, bytes_out, 500, 400, 30, meters, kind=kind)


async def recovered(journal: Journal, tmp_path: Path) -> list[UsageRecord]:
    """What another process finds in the journal of one that was killed; nothing is closed."""
    shelf = Shelf()
    paths = tuple(sorted((tmp_path / "journal").glob("*.segment")))
    found = await ship_leftovers(paths, shelf)  # type: ignore[arg-type]
    return shelf.records + [decode_record(record) for record in found.unfinished()]


async def test_a_call_that_never_ends_counts_as_far_as_its_last_progress(open_journal: Open, tmp_path: Path) -> None:
    journal = open_journal()
    journal.open()
    first, second, third = head(), head(), head()
    calls = [begin(journal, intent_of(first)), begin(journal, intent_of(second))]
    begin(journal, mark(third, 0, INTENT))
    for bytes_out in (100, 250):
        assert journal.progress(calls[0], mark(first, bytes_out))
    unknown, empty, billed = sorted(await recovered(journal, tmp_path), key=lambda record: record.event_id)
    assert (unknown.outcome, unknown.status, unknown.bytes_out, unknown.meters) == (
        "indeterminate",
        200,
        250,
        {"tokens": 251},
    )
    assert (empty.outcome, empty.status, empty.units, empty.meters) == ("indeterminate", 0, 0, {})
    assert (billed.outcome, billed.units, billed.meters) == ("indeterminate", 1, {"tokens": 1})


async def test_a_call_that_ends_counts_once_and_as_its_end_says(open_journal: Open, tmp_path: Path) -> None:
    journal = open_journal()
    journal.open()
    call = head()
    token = begin(journal, intent_of(call))
    journal.progress(token, mark(call, 100))
    done = encode_call(*call, 200, b"ok", 1, 3, 10, 999, 500, 400, 30, b"{}")
    end(journal, token, done)
    assert await recovered(journal, tmp_path) == [decode_record(done)]
    assert list(journal.tail.take()[0]) == [done], "progress is not shipped"
    with pytest.raises(KeyError):
        journal.progress(token, mark(call, 100))


def test_a_full_journal_takes_no_progress_and_every_call_can_still_end(open_journal: Open) -> None:
    journal = open_journal(max_bytes=128 * 1024)
    journal.open()
    calls = []
    with pytest.raises(JournalFull):
        while True:
            call = head()
            calls.append((begin(journal, intent_of(call)), call))
    while all(journal.progress(token, mark(call, 7)) for token, call in calls):
        pass
    assert journal.readings().bytes_used <= 128 * 1024
    for token, call in calls:
        longest = len(mark(call, 7)) + 1024
        end(journal, token, encode_call(*call, 200, b"ok", 1, 3, 10, 9, 5, 4, 3, b"{}").ljust(longest))
    assert journal.readings().bytes_used <= 128 * 1024


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 5), st.sampled_from("bpper"), st.integers(0, 17)), max_size=120))
async def test_whatever_happens_the_newest_record_of_each_call_is_found(
    tmp_path: Path, steps: list[tuple[int, str, int]]
) -> None:
    """Calls begin, progress and end while segments turn, are released and calls are carried forward."""
    folder = tmp_path / f"{next(_numbers)}"
    shape = JournalSettings(segment_bytes=4096, max_bytes=64 * 1024, ballast_bytes=0)
    journal = Journal(folder / "journal", shape, ManualClock())
    journal.open()
    free = journal._free
    open_calls: dict[int, tuple[int, Head, int]] = {}
    shipped: dict[str, UsageRecord] = {}
    for slot, step, size in steps:
        if step == "b" and slot not in open_calls:
            call = head()
            open_calls[slot] = (begin(journal, intent_of(call)), call, 0)
        elif step == "p" and slot in open_calls:
            token, call, _ = open_calls[slot]
            if journal.progress(token, mark(call, 1 + size, pad=size)):
                open_calls[slot] = (token, call, 1 + size)
        elif step == "e" and slot in open_calls:
            token, call, _ = open_calls.pop(slot)
            end(journal, token, encode_call(*call, 200, b"ok", 1, 3, 10, 9, 5, 4, 3, b"{}"))
        elif step == "r":
            records, position = journal.tail.take()
            for record in map(decode_record, records):
                shipped[record.event_id] = record
            journal.release(position, len(records), 0)
    found = {record.event_id: record for record in await recovered(journal, folder)}
    assert {e for e, r in found.items() if r.outcome == "indeterminate"} == {
        call[0].decode() for _, call, _ in open_calls.values()
    }
    for _, call, bytes_out in open_calls.values():
        assert found[call[0].decode()].bytes_out == bytes_out
    for token, call, _ in open_calls.values():
        end(journal, token, encode_call(*call, 200, b"ok", 1, 3, 10, 9, 5, 4, 3, b"{}"))
    records, position = journal.tail.take()
    journal.release(position, len(records), 0)
    lost = sum(s.size - 16 - s.written for s in journal._segments)
    assert 0 <= journal._free <= free + 64 * 1024
    assert lost >= 0
    journal.close()
