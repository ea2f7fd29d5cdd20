"""Calls to journal, journals in small segments, and a store whose disk can be made to fail."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.core.clock import ManualClock
from sidecar.core.ids import EventIds
from sidecar.core.policy import JournalSettings
from sidecar.core.records import encode_call, principal_fragment, text_fragment
from sidecar.ledger import Journal
from sidecar.storage import SqliteStore
from tests.journals import intent_of

Call = tuple[bytes, bytes]
MINUTE_US = 60_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make_call(clock: ManualClock) -> Callable[..., Call]:
    """``make_call(tenant="acme", units=1)``: an intent and its done record, with a new event id."""
    ids = EventIds()

    def make(tenant: str = "acme", units: int = 1, pad: int = 0) -> Call:
        route = text_fragment("search" + "x" * pad)
        principal = principal_fragment(tenant, "key1", "pro", sandbox=False)
        head = (ids.next(clock.wall_ns()), clock.wall_ns() // 1000, principal, route, b'"GET"')
        done = encode_call(*head, 200, b"ok", units, 7, 1, 2, 30, 20, 10, b'{"requests":1}')
        return intent_of(head), done

    return make


@pytest.fixture
def open_journal(tmp_path: Path, clock: ManualClock) -> Iterator[Callable[..., Journal]]:
    """``open_journal(**settings)``: the journal in ``tmp_path/journal``, in 16 KiB segments, not yet opened."""
    opened: list[Journal] = []

    def open_(
        *,
        segment_bytes: int = 16 * 1024,
        max_bytes: int = 1024**2,
        durability: str = "process",
        fsync: Callable[[int], None] = os.fdatasync,
        group_ns: int = 5_000_000,
    ) -> Journal:
        settings = JournalSettings(
            durability=durability, group_ns=group_ns, segment_bytes=segment_bytes, max_bytes=max_bytes
        )
        journal = Journal(tmp_path / "journal", settings, clock, fsync=fsync)
        opened.append(journal)
        return journal

    yield open_
    for journal in opened:
        journal.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore.open(tmp_path / "sidecar.db")
    yield opened
    opened.close()
