"""What cannot be moved, or not to there, and a move that is given up."""

import os
import random
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sidecar.core.errors import StoreError
from sidecar.core.ports import Position
from sidecar.core.records import encode_record
from sidecar.core.values import Tenant
from sidecar.storage import PostgresStore, SqliteStore
from sidecar.storage.postgres import MoveTarget
from tests.storage.installation import Cut, fill, record, run_move
from tests.storage.postgres.server import Database, Server


async def test_a_moved_file_is_refused_and_says_where_to(tmp_path: Path, database: Database) -> None:
    path = tmp_path / "a.db"
    await fill(path, 10, 5)
    await run_move(path, database)
    with pytest.raises(
        StoreError, match=r"a\.db was moved to PostgreSQL at 127\.0\.0\.1.*storage: postgresql"
    ) as raised:
        SqliteStore.open(path)
    assert "correct-horse" not in str(raised.value)
    SqliteStore.open(path, readonly=True).close()


async def test_another_database_is_not_where_it_was_moved_to(
    tmp_path: Path, server: Server, database: Database
) -> None:
    path = tmp_path / "a.db"
    await fill(path, 11, 5)
    await run_move(path, database)
    other = server.migrated()
    with pytest.raises(StoreError, match="is not where this installation was moved to"):
        await run_move(path, other)
    server.drop(other)


async def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        SqliteStore.open(tmp_path / "a.db", moving=True)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("what", ["tenant", "usage"])
async def test_a_target_in_use_is_refused(tmp_path: Path, database: Database, what: str) -> None:
    path = tmp_path / "a.db"
    await fill(path, 12, 5)
    store = await PostgresStore.open(database.url, journal="other")
    if what == "tenant":
        await store.add_tenant(Tenant("there", "pro"), actor="me")
    else:
        await store.append([encode_record(record(random.Random(13)))], Position(1, 1))
    await store.close()
    with pytest.raises(StoreError, match="is in use"):
        await run_move(path, database)
    SqliteStore.open(path).close()
    await (await PostgresStore.open(database.url, journal="other")).close()


async def test_a_target_with_a_running_sidecar_is_refused(tmp_path: Path, database: Database) -> None:
    path = tmp_path / "a.db"
    await fill(path, 14, 5)
    store = await PostgresStore.open(database.url, journal="other")
    with pytest.raises(StoreError, match=r"running sidecar .its journal is other"):
        await run_move(path, database)
    await store.close()
    assert (await run_move(path, database))[0], "a sidecar that only looked leaves nothing behind"


async def cut_before_the_totals(path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows are there, and nobody has compared them yet."""

    async def cut(self: MoveTarget, *args: Any) -> None:
        raise Cut

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(MoveTarget, "totals", cut)
        await run_move(path, database)


async def test_a_file_used_again_gives_the_move_up(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was copied before is no longer what stands in the file: the part is refused, an empty database is not."""
    path = tmp_path / "a.db"
    await fill(path, 15, 20)
    await cut_before_the_totals(path, database, monkeypatch)
    SqliteStore.open(path).close()
    with pytest.raises(StoreError, match="holds a part of another move"):
        await run_move(path, database)


async def test_rows_of_somebody_else_are_found_before_anything_is_final(
    tmp_path: Path, database: Database, superuser: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    await fill(path, 16, 20)
    await cut_before_the_totals(path, database, monkeypatch)
    await superuser.execute("UPDATE sidecar.calls_by_hour SET units = units + 1 WHERE tenant = 'acme'")
    with pytest.raises(StoreError, match=r"^calls_by_hour: PostgreSQL does not hold what the file does"):
        await run_move(path, database)
    SqliteStore.open(path).close()
