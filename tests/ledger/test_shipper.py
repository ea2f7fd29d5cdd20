"""From the journal to the ledger while it runs and when it ends: in order, once, through failures."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.core.clock import ManualClock
from sidecar.core.errors import JournalFull
from sidecar.core.policy import JournalSettings
from sidecar.ledger import Journal
from sidecar.storage import SqliteStore
from tests.journals import Text, files_of_at_most, serve
from tests.ledger.shipping import FlakyStore, recovered, requests

Make = Callable[..., tuple[bytes, bytes]]
Open = Callable[..., Journal]


async def test_what_is_served_is_in_the_ledger_after_a_flush(
    open_journal: Open, make_call: Make, store: SqliteStore, clock: ManualClock
) -> None:
    journal = open_journal()
    shipper = await recovered(journal, store, clock)
    shipper.start()
    serve(journal, make_call, 500)
    await shipper.flush()
    assert await requests(store, clock) == (500, 0)
    assert await store.position() == shipper.readings().position == journal.position
    assert journal.readings().unshipped_records == 0
    assert await shipper.stop()


@pytest.mark.parametrize(("before", "after"), [(3, 0), (0, 3), (2, 2)])
async def test_a_ledger_that_fails_loses_and_doubles_nothing(
    open_journal: Open, make_call: Make, store: SqliteStore, clock: ManualClock, before: int, after: int
) -> None:
    """field-bugs 22: delivery that fails for hours loses nothing (getlago/lago#538, openmeterio/openmeter#5118)."""
    journal = open_journal()
    flaky = FlakyStore(store)
    shipper = await recovered(journal, flaky, clock)
    flaky.before, flaky.after = before, after
    serve(journal, make_call, 100)
    await shipper.flush()
    assert await requests(store, clock) == (100, 0)
    assert shipper.readings().failures == before + after
    assert shipper.readings().failing_since_ns is None


async def test_a_ledger_that_is_down_fills_the_journal_to_its_bound_and_then_all_arrives(
    open_journal: Open, make_call: Make, store: SqliteStore, clock: ManualClock
) -> None:
    journal = open_journal(max_bytes=128 * 1024)
    flaky = FlakyStore(store)
    shipper = await recovered(journal, flaky, clock)
    flaky.before = 1 << 30
    shipper.start()
    served = 0
    with pytest.raises(JournalFull):
        while True:
            served += len(serve(journal, make_call, 1))
            if served % 50 == 0:
                await asyncio.sleep(0)
    assert not await shipper.stop(timeout_s=0)
    assert shipper.readings().failing_since_ns is not None
    flaky.before = 0
    await shipper.flush()
    assert await requests(store, clock) == (served, 0)
    serve(journal, make_call, 1)


async def test_a_cancelled_flush_loses_nothing(
    open_journal: Open, make_call: Make, store: SqliteStore, clock: ManualClock
) -> None:
    journal = open_journal()
    shipper = await recovered(journal, store, clock)
    for turns in range(6):
        serve(journal, make_call, 10)
        flush = asyncio.create_task(shipper.flush())
        for _ in range(turns):
            await asyncio.sleep(0)
        flush.cancel()
        await asyncio.gather(flush, return_exceptions=True)
    await shipper.flush()
    assert await requests(store, clock) == (60, 0)


async def test_old_events_are_forgotten_while_it_runs(
    open_journal: Open, make_call: Make, store: SqliteStore, clock: ManualClock
) -> None:
    journal = open_journal()
    ledger = FlakyStore(store)
    shipper = await recovered(journal, ledger, clock, days=1)
    serve(journal, make_call, 20)
    await shipper.flush()
    clock.advance(2 * 86_400)
    serve(journal, make_call, 5)
    shipper.start()
    await ledger.forgot.wait()
    await shipper.stop()
    assert shipper.readings().forgotten == 20
    assert await requests(store, clock) == (25, 0)


async def test_a_process_ends_cleanly_where_its_last_calls_cannot_be_written(
    make_call: Make, store: SqliteStore, clock: ManualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Their clients got nothing; what was written before them is shipped by the next start."""
    settings = JournalSettings(segment_bytes=16 * 1024, max_bytes=1024**2, ballast_bytes=0)
    journal = Journal(tmp_path / "journal", settings, clock)
    shipper = await recovered(journal, store, clock)
    for _ in range(40):
        intent, done = make_call()
        call = Text(intent, done.replace(b'{"', b'{"%b":1,"' % (b"m" * 1800)))  # longer than was owed to it
        journal.begin(call, len(call.intent))
        journal.end(call)
    with files_of_at_most(8 * 1024):
        assert not await shipper.stop()
        journal.close()
    assert "no room for the last calls" in caplog.text
    assert "none of them was answered" in caplog.text
    again = Journal(tmp_path / "journal", settings, clock)
    assert again.leftovers
    await recovered(again, store, clock)
    calls, unknown = await requests(store, clock)
    assert calls == 40
    assert 0 < unknown < 40
    again.close()
