"""An installation moved from SQLite to a real PostgreSQL: the same answers, however often it was interrupted."""

from pathlib import Path

import asyncpg
import pytest

from sidecar.core.accounts import Arrival, Notice
from sidecar.core.billing import RowQuery, Window
from sidecar.core.errors import Conflict
from sidecar.core.ports import Position
from sidecar.storage import PostgresStore, SqliteStore
from sidecar.storage.moving import DERIVED, MOVED
from sidecar.storage.sqlite import TABLES
from tests.storage.installation import EVENTS, FIRST, MINUTE, NODE, PERIOD, both, fill, run_move
from tests.storage.postgres.server import Database


@pytest.mark.parametrize(("seed", "page"), [(1, 5000), (2, 7), (3, 1)])
async def test_both_stores_say_the_same(tmp_path: Path, database: Database, seed: int, page: int) -> None:
    path = tmp_path / "a.db"
    await fill(path, seed, 150 if page > 1 else 12)
    moved, lines = await run_move(path, database, page=page)
    assert moved
    assert [line.partition(":")[0] for line in lines] == list(MOVED)
    assert all(line.endswith("the same on both sides") for line in lines)
    source, target = await both(path, database)
    assert source["events"]
    assert source["place"] == (Position(3, 77), 2)
    for question in source:
        assert target[question] == source[question], question


async def test_what_has_no_port_is_moved_too(tmp_path: Path, database: Database, superuser: asyncpg.Connection) -> None:
    """The audit log in its order, and the records that were set aside."""
    path = tmp_path / "a.db"
    await fill(path, 4)
    await run_move(path, database, page=3)
    source = SqliteStore.open(path, readonly=True)
    audit = await source.copy_rows("audit_log", (), 1000)
    aside = await source.copy_rows("rejected_records", (), 1000)
    source.close()
    rows = await superuser.fetch("SELECT at_ns, actor, action, subject, detail FROM sidecar.audit_log ORDER BY seq")
    shown = [(row[0], row[1], row[2], row[3].replace("\x010", "\x00").replace("\x011", "\x01"), row[4]) for row in rows]
    assert shown == [row[1:] for row in audit]
    rows = await superuser.fetch("SELECT segment, byte, reason, payload, journal FROM sidecar.rejected_records")
    assert [tuple(row) for row in rows] == [(*row[1:], NODE) for row in aside]
    assert len(audit) > 10
    assert len(aside) == 2


async def test_billing_goes_on_where_it_was(tmp_path: Path, database: Database) -> None:
    """Identifiers, ids, claims, the floor and what arrived: nothing is asked for, sent or told a second time."""
    path = tmp_path / "a.db"
    await fill(path, 18)
    source = SqliteStore.open(path)
    name, known = await source.instance(), await source.rows(RowQuery())
    source.close()
    await run_move(path, database)
    store = await PostgresStore.open(database.url, journal=NODE)
    begin = FIRST // MINUTE
    assert known
    assert await store.assign(Window("acme", "cus_1", begin, begin + 600, PERIOD), EVENTS, at_ns=9) == []
    rows = await store.assign(Window("acme", "cus_1", begin, begin + 4000, PERIOD), EVENTS, at_ns=9)
    assert rows
    assert [row.id for row in rows] == [known[-1].id + number for number in range(1, len(rows) + 1)]
    assert {row.identifier[:9] for row in (*known, *rows)} == {f"{name}:"}
    with pytest.raises(Conflict, match=f"before minute {begin - 5} "):
        await store.assign(Window("acme", "cus_1", begin - 6, begin, PERIOD), EVENTS, at_ns=9)
    assert await store.cursor("events of 1") == 1
    assert not await store.claim("first key of 1", "acme", at_ns=9)
    assert not await store.receive(Arrival("evt_1", "invoice.paid", "in_1", "{}", 9))
    assert await store.notify([Notice("n1", "email", "access.grace", "acme", {}, 9)]) == 0
    await store.close()


def test_every_table_is_moved_or_derived() -> None:
    assert set(MOVED) | set(DERIVED) == set(TABLES)
