"""A move that is cut anywhere, begun again, or broken in mid-page: nothing is lost and nothing doubled."""

import json
import random
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sidecar.core.errors import StoreError
from sidecar.core.ports import Position
from sidecar.core.records import encode_record
from sidecar.storage import PostgresStore, SqliteStore
from sidecar.storage.moving import MOVED
from sidecar.storage.postgres import MoveTarget
from sidecar.storage.sqlite import TABLES
from tests.storage.installation import (
    NODE,
    Cut,
    answers,
    both,
    fill,
    record,
    run_move,
)
from tests.storage.postgres.server import Database


@pytest.mark.parametrize("after_commit", [False, True])
async def test_a_move_cut_at_each_page_is_finished_by_the_next(
    tmp_path: Path, database: Database, after_commit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page is cut once, before it is there or right after it was committed, as kill -9 would."""
    path = tmp_path / "a.db"
    await fill(path, 5, 40)
    cut: set[str] = set()
    add, finish = MoveTarget.add, MoveTarget.finish

    async def cut_add(
        self: MoveTarget, table: str, columns: Any, rows: Any, after: Any, last: Any, **more: Any
    ) -> None:
        place = json.dumps([table, after])
        if after_commit:
            assert place not in cut, "a page that was committed is not sent again"
        elif place in cut:
            return await add(self, table, columns, rows, after, last, **more)
        cut.add(place)
        if after_commit:
            await add(self, table, columns, rows, after, last, **more)
        raise Cut

    async def cut_finish(self: MoveTarget, *args: Any) -> None:
        if after_commit:
            await finish(self, *args)
        elif "finish" in cut:
            return await finish(self, *args)
        cut.add("finish")
        raise Cut

    monkeypatch.setattr(MoveTarget, "add", cut_add)
    monkeypatch.setattr(MoveTarget, "finish", cut_finish)
    runs = 1
    while True:
        try:
            moved, _ = await run_move(path, database, page=40)
            break
        except Cut:
            runs += 1
        if runs == 8:
            with pytest.raises(StoreError, match="run sidecar migrate again"):
                await PostgresStore.open(database.url, journal=NODE)
    assert runs == len(cut) + 1
    assert runs > len(MOVED)
    assert moved is not after_commit
    source, target = await both(path, database)
    assert target == source


@pytest.mark.parametrize("statement", ["BEFORE INSERT", "AFTER INSERT"])
async def test_a_connection_that_breaks_in_mid_page_costs_nothing(
    tmp_path: Path, database: Database, superuser: asyncpg.Connection, statement: str
) -> None:
    """The server ends the connection while it works on a page of each of these tables."""
    path = tmp_path / "a.db"
    await fill(path, 6, 60)
    await superuser.execute("""
        CREATE FUNCTION public.hang_up() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN NULL; END $$
    """)
    breaks = 0
    for table in ("tenants", "api_keys", "entries", "calls_by_minute", "latency_by_hour"):
        await superuser.execute(
            f"CREATE TRIGGER hang_up {statement} ON sidecar.{table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION public.hang_up()"
        )
        with pytest.raises(StoreError):
            await run_move(path, database, page=20)
        await superuser.execute(f"DROP TRIGGER hang_up ON sidecar.{table}")
        breaks += 1
    assert breaks == 5
    assert (await run_move(path, database, page=20))[0]
    source, target = await both(path, database)
    assert target == source


async def test_a_second_run_changes_nothing(tmp_path: Path, database: Database, superuser: asyncpg.Connection) -> None:
    """Not even when the new store has been used since."""
    path = tmp_path / "a.db"
    await fill(path, 7)
    await run_move(path, database)
    store = await PostgresStore.open(database.url, journal=NODE)
    await store.append([encode_record(record(random.Random(8)))], Position(4, 0))
    before = await answers(store)
    await store.close()
    assert await run_move(path, database) == (False, [])
    assert (await both(path, database))[1] == before


async def test_what_is_sent_again_from_the_journal_is_known(tmp_path: Path, database: Database) -> None:
    path = tmp_path / "a.db"
    draw = random.Random(9)
    records = [encode_record(record(draw)) for _ in range(20)]
    store = SqliteStore.open(path)
    await store.append(records, Position(1, 1))
    store.close()
    await run_move(path, database)
    target = await PostgresStore.open(database.url, journal=NODE)
    assert await target.append(records, Position(1, 2)) == 0
    await target.close()


async def test_a_page_that_is_there_already_is_not_copied_again(tmp_path: Path, database: Database) -> None:
    """A commit that a killed process left under way is done after its successor has looked."""
    path = tmp_path / "a.db"
    await fill(path, 17, 5)
    source = SqliteStore.open(path, moving=True)
    target = MoveTarget(database.url, await source.begin_move("there"), NODE)
    columns, rows = TABLES["tenants"].columns, await source.copy_rows("tenants", (), 2)
    assert not await target.begin(MOVED, new=True)
    await target.add("tenants", columns, rows, (), (rows[-1][0],), done=False)
    with pytest.raises(StoreError, match="run sidecar migrate again"):
        await target.add("tenants", columns, rows, (), (rows[-1][0],), done=False)
    await target.close()
    source.close()
    assert (await run_move(path, database))[0]
    found, moved = await both(path, database)
    assert moved == found
