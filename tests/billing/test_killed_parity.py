"""kill -9 before every statement of comparing the book with an invoice: the next process ends where none was killed.

While the invoice is a draft, what Stripe lost is sent again, once, and is on it when it is final. When it is final, one
record is kept for ever, and a person is told once, whoever died in between.
"""

import asyncio
import itertools
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.billing import RowQuery
from sidecar.storage import SqliteStore
from tests.billing import mortal
from tests.billing.test_stripe_payee import START_S, drop, lose_the_last_hour
from tests.billing.world import World, open_world

PATIENCE_S = 60


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A month ended five minutes ago; seven were used and reported in it, and Stripe lost them."""
    monkeypatch.chdir(tmp_path)
    more = "  notices: {webhook: 'http://nobody.example/', secret: '${HOOK}'}\n"
    async with open_world(tmp_path, START_S, more) as made:
        await lose_the_last_hour(made)
        yield made


def copied(world: World, folder: Path) -> Path:
    """What the store holds now, of which some is still in its log."""
    with sqlite3.connect(str(world.books.place)) as source, sqlite3.connect(folder / "start.db") as target:
        source.backup(target)
    for connection in (source, target):
        connection.close()
    return folder / "start.db"


async def run(world: World, path: Path, die_at: int = 0) -> int:
    process = mortal.start_parity(path, world.snapshot, wall_ns=world.clock.wall_ns(), die_at=die_at)
    await asyncio.to_thread(process.join, PATIENCE_S)
    code: int = process.exitcode
    assert code in (0, -9)
    return code


async def outcome(world: World, path: Path) -> tuple[Any, ...]:
    """The records, who is told, and the rows, as far as they are the same whenever they were written."""
    store = SqliteStore.open(path)
    records = [
        (one.final, one.ledger, one.assigned, one.payee, one.billed, one.invoice) for one in await store.parities()
    ]
    told = [notice.id for notice in await store.due_notices(at_ns=world.clock.wall_ns() + 10**9, limit=100)]
    rows = [(row.state, row.value) for row in await store.rows(RowQuery())]
    store.close()
    return records, sorted(told), rows


async def killed(world: World, start: Path, step: int, prepare: Any = lambda: None) -> AsyncIterator[Path]:
    """The database after a process that was killed before a statement, every ``step``-th of them, and one behind it
    that was not; at last without any kill."""
    for number in itertools.count(1, step):
        path = start.with_name(f"{number}.db")
        shutil.copy(start, path)
        prepare()
        code = await run(world, path, number)
        assert await run(world, path) == 0
        yield path
        if code == 0:
            break
    assert number > 10, "comparing is more statements than these"


STEPS = pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.chaos)])


@STEPS
async def test_killed_while_the_invoice_is_a_draft(world: World, tmp_path: Path, step: int) -> None:
    world.fake.advance(1_200)
    start = copied(world, tmp_path)

    def lose() -> None:
        drop(world)
        world.fake.meters.seen.clear()
        world.fake._stored.clear()  # answers that it would repeat

    async for path in killed(world, start, step, lose):
        (record,), told, rows = await outcome(world, path)
        assert record[:3] == (False, 7, 7)
        assert record[3] in (0, 7), "lost when it was looked at, or sent again by the first one already"
        assert (told, [value for _, value in rows]) == ([], [7])
        assert rows[0][0] in ("accepted", "verified")
        assert [sum(int(row.value) for row in found) for found in world.fake.meters.usage.values()] == [7], "once"
    world.fake.advance(3_600)
    assert await run(world, path) == 0
    (record,), told, _ = await outcome(world, path)
    assert (record[:5], told) == ((True, 7, 7, 7, 7), [])


@STEPS
async def test_killed_when_the_invoice_is_final(world: World, tmp_path: Path, step: int) -> None:
    """It lacks what was lost: one record, which stays as it is, and one notice."""
    world.fake.advance(4_500)
    async for path in killed(world, copied(world, tmp_path), step):
        (record,), told, _ = await outcome(world, path)
        assert record[:5] == (True, 7, 7, 0, 0)
        assert told == [f"billing.parity/acme/tokens/{record[5]}/1"]


async def test_who_is_started_anew_goes_on_saying_what_differs(world: World) -> None:
    somebody, at_s = world.books.customers["acme"], world.now_s - 3_600
    world.fake.meter_event("acme_tokens", somebody, "5", "somebody's", at_s, world.clock.wall_ns())
    await world.pass_time(4_200, 600)
    assert world.reporting.read().parity_differs == 1
    await world.restart()
    assert world.reporting.read().parity_differs == 0
    await world.pass_time(600, 300)
    assert world.reporting.read().parity_differs == 1
