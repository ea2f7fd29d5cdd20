"""kill -9 at every point between the ledger and Stripe: before each SQL statement, and at five points of each request.

A real process, the real store, the official SDK and the fake Stripe over HTTP. Whatever is left is taken up by the next
process; then the sum at Stripe is the ledger's, and each minute holds one row's value.
"""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from demo.fakestripe import FakeStripe
from demo.fakestripe.server import Server
from sidecar.core.billing import OPEN_STATES, OutboxRow, Period
from sidecar.core.clock import NS_PER_S, ManualClock
from tests.billing import mortal
from tests.billing.books import EVENT, START_S, Books
from tests.billing.killer import POINTS, Killer

PATIENCE_S = 60
USED = (7, 20, 300)  # in windows ten minutes apart
CUSTOMER = "cus_mortal"
PERIOD = Period(START_S - 10 * 86_400, START_S + 20 * 86_400)


class Town:
    """One Stripe and the books of one installation, on one virtual clock. ``used``: what Stripe has to have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(wall_ns=START_S * NS_PER_S)
        self.killer = Killer()
        self.server = Server(FakeStripe(self.clock))
        self.url = ""
        self.used = 0
        self._books = itertools.count()

    async def serve(self) -> TestServer:
        app = self.server.application()
        app.middlewares.insert(0, self.killer.middleware())
        served = TestServer(app)
        await served.start_server()
        self.url = str(served.make_url("")).rstrip("/")
        return served

    async def template(self) -> None:
        """A database in which USED waits: the first of it is in a row already."""
        books = self.open(self.folder / "template.db")
        await books.open_account(customer=CUSTOMER)
        for number, tokens in enumerate(USED):
            await books.use(tokens)
            self.clock.advance(600)
            if not number:
                await books.assigner.assign()
        books.end()

    def prepared(self) -> Path:
        """A copy of it, with a Stripe that has nothing yet."""
        self.forget()
        self.used = sum(USED)
        path = self.folder / f"{next(self._books)}.db"
        shutil.copy(self.folder / "template.db", path)
        return path

    def open(self, path: Path) -> Books:
        return Books(path, periods=(PERIOD,), clock=self.clock)

    def forget(self) -> None:
        """Stripe took everything and has nothing of it."""
        fake = self.server.fake = FakeStripe(self.clock)
        fake.meter(EVENT)
        fake.world.customers[CUSTOMER] = {"id": CUSTOMER}

    async def run(self, path: Path, *, die_at: int = 0, request: int = 0, point: str = "", looks: bool = False) -> int:
        """A process until it ends: its exit code, -9 when it was killed."""
        now_ns = self.clock.wall_ns()
        process = mortal.start(path, self.url, EVENT, wall_ns=now_ns, die_at=die_at, looks=looks)
        if request:
            self.killer.aim(process.pid, request, point)
        await asyncio.to_thread(process.join, PATIENCE_S)
        self.killer.pid = 0
        code: int | None = process.exitcode
        assert code in (0, -9)
        return code

    async def finish(self, path: Path) -> list[OutboxRow]:
        """The next processes, until nothing waits: the rows. The books agree."""
        for _ in range(10):
            assert await self.run(path) == 0
            rows = await self.rows(path)
            if not any(row.state in OPEN_STATES for row in rows):
                break
            self.clock.advance(300)
        assert {row.state for row in rows} <= {"accepted", "verified"}
        self.compare(rows)
        return rows

    async def rows(self, path: Path) -> list[OutboxRow]:
        books = self.open(path)
        rows = await books.rows()
        books.end()
        return rows

    def compare(self, rows: list[OutboxRow]) -> None:
        now_ns, summary = self.clock.wall_ns(), self.server.fake.summary
        assert int(summary(EVENT, CUSTOMER, PERIOD.start_s, PERIOD.end_s, now_ns)) == self.used
        for row in rows:
            assert int(summary(EVENT, CUSTOMER, row.minute * 60, row.minute * 60 + 60, now_ns)) == row.value


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    made = Town(tmp_path)
    await made.template()
    served = await made.serve()
    yield made
    await served.close()


async def test_killed_before_every_statement(town: Town) -> None:
    """All of them, one after the other, until one is too far away to be reached."""
    for number in itertools.count(1):
        path = town.prepared()
        code = await town.run(path, die_at=number)
        await town.finish(path)
        if code == 0:
            break
    assert number > 20, "assigning and sending are more statements than these"


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_every_point_of_every_request(town: Town, point: str) -> None:
    for request in itertools.count(1):
        path = town.prepared()
        code = await town.run(path, request=request, point=point)
        rows = await town.finish(path)
        if code == 0:
            break
    assert (len(rows), town.killer.killed) == (2, 2)


@pytest.mark.parametrize("lost", [True, pytest.param(False, marks=pytest.mark.chaos)])
async def test_killed_before_every_statement_of_verifying(town: Town, lost: bool) -> None:
    """All that was accepted becomes verified and nothing is sent twice; what Stripe lost is sent again, once."""
    reported = town.prepared()
    assert await town.run(reported) == 0
    town.clock.advance(7_200)
    kept = town.server.fake
    for number in itertools.count(1):
        path = town.folder / f"verifying-{number}.db"
        shutil.copy(reported, path)
        town.server.fake = kept
        if lost:
            town.forget()
        code = await town.run(path, die_at=number, looks=True)
        town.clock.advance(300)
        assert await town.run(path, looks=True) == 0
        rows = await town.rows(path)
        assert {row.state for row in rows} == {"verified"}
        town.compare(rows)
        if code == 0:
            break
    assert number > 10, "verifying is more statements than these"


@pytest.mark.chaos
async def test_killed_again_and_again_on_one_book(town: Town) -> None:
    """250 processes, each killed somewhere else, with use going on and now and then a day without any process."""
    path = town.prepared()
    killed = 0
    for number in range(250):
        books = town.open(path)
        books._numbers = itertools.count(1_000 + number)
        await books.use(number + 1)
        books.end()
        town.used += number + 1
        town.clock.advance(90_000 if number % 50 == 49 else 600)
        where = {"request": number % 2 + 1, "point": POINTS[number % 5]} if number % 3 else {"die_at": number % 41 + 1}
        killed += await town.run(path, **where) == -9
    assert killed > 200
    assert len(await town.finish(path)) > 100
