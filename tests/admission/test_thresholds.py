"""Shares of quotas: seen off the hot path, confirmed by the ledger, told once."""

from typing import Any

import pytest

from sidecar.admission import Admission
from sidecar.admission import thresholds as room
from sidecar.core.crossings import Crossing
from sidecar.core.errors import StoreError
from sidecar.core.policy import Plan, Quota, Snapshot
from sidecar.core.values import Principal
from tests.admission.conftest import METERS, Desk

DAILY = Quota("daily", "requests", 10, "day")


class Book:
    """What was told, by whom it may be told: the fake at the port."""

    def __init__(self) -> None:
        self.known: set[tuple[str, str, int, int, int]] = set()
        self.told: list[Crossing] = []
        self.down = False

    async def tell(self, crossing: Crossing, plan: str, quota: Quota) -> bool:
        if self.down:
            raise StoreError("down")
        key = (crossing.tenant, crossing.name, crossing.start_s, crossing.threshold, crossing.limit)
        if key in self.known:
            return False
        self.known.add(key)
        self.told.append(crossing)
        return True

    @property
    def shares(self) -> list[int]:
        return [crossing.threshold for crossing in self.told]


class Watching(Desk):
    def __init__(self, book: Book | None = None) -> None:
        super().__init__()
        self.book = book or Book()
        self.room = Admission(self.clock, self.ledger.meter_total, tell=self.book.tell)

    async def use(self, calls: int, gate: Any = None) -> None:
        """Calls that end and stand in the ledger."""
        gate = gate or await self.gate()
        for _ in range(calls):
            self.ticket(gate).settle({"requests": 1})
            key = ("acme", "requests", False)
            self.ledger.totals[key] = self.ledger.totals.get(key, 0) + 1

    async def look(self) -> list[int]:
        assert self.room.thresholds is not None
        await self.room.thresholds.look()
        return self.book.shares


@pytest.fixture
async def watching() -> Watching:
    made = Watching()
    made.load(Plan("p", quotas=(DAILY,)))
    return made


async def test_each_share_is_told_once_when_it_is_reached(watching: Watching) -> None:
    gate = await watching.gate()
    await watching.use(4, gate)
    assert await watching.look() == []
    await watching.use(1, gate)
    assert await watching.look() == [50]
    assert await watching.look() == [50]
    await watching.use(5, gate)
    assert await watching.look() == [50, 80, 100]
    assert [crossing.used for crossing in watching.book.told] == [5, 10, 10]
    assert watching.room.readings().thresholds == {("p", "daily", 50): 1, ("p", "daily", 80): 1, ("p", "daily", 100): 1}


async def test_nothing_is_told_of_calls_that_may_still_fail(watching: Watching) -> None:
    """Five calls under way hold half of the quota; the ledger has none of them."""
    gate = await watching.gate()
    tickets = [watching.ticket(gate) for _ in range(5)]
    assert await watching.look() == []
    asked = len(watching.ledger.asked)
    assert await watching.look() == []
    assert len(watching.ledger.asked) == asked, "the ledger is not asked again and again"
    for ticket in tickets[1:]:
        ticket.release()
    watching.clock.advance(5)
    await watching.use(4, gate)
    assert await watching.look() == []
    watching.ledger.totals["acme", "requests", False] = 5
    watching.clock.advance(5)
    assert await watching.look() == [50]


async def test_a_restart_tells_nothing_twice(watching: Watching) -> None:
    await watching.use(8)
    assert await watching.look() == [50, 80]
    again = Watching(watching.book)
    again.ledger.totals = watching.ledger.totals
    again.load(Plan("p", quotas=(DAILY,)))
    gate = await again.gate()
    assert await again.look() == [50, 80]
    await again.use(2, gate)
    assert await again.look() == [50, 80, 100]


async def test_the_next_period_is_told_anew(watching: Watching) -> None:
    gate = await watching.gate()
    await watching.use(5, gate)
    assert await watching.look() == [50]
    watching.clock.advance(86_400)
    watching.ledger.totals = {}
    await watching.use(1, gate)
    assert await watching.look() == [50]
    await watching.use(4, gate)
    assert await watching.look() == [50, 50]
    first, second = watching.book.told
    assert first.end_s == second.start_s


async def test_a_share_reached_just_before_the_period_ended_is_told_of_that_period(watching: Watching) -> None:
    gate = await watching.gate()
    await watching.use(5, gate)
    watching.clock.advance(86_400)
    await watching.use(0, gate)
    watching.ticket(gate)
    assert await watching.look() == [50]
    assert watching.book.told[0].end_s * 10**9 <= watching.clock.wall_ns()


async def test_a_raised_limit_is_another_fact(watching: Watching) -> None:
    await watching.use(10)
    assert await watching.look() == [50, 80, 100]
    watching.load(Plan("p", quotas=(Quota("daily", "requests", 20, "day"),)))
    gate = await watching.gate()
    assert await watching.look() == [50, 80, 100, 50]
    await watching.use(6, gate)
    assert await watching.look() == [50, 80, 100, 50, 80]


async def test_what_a_plan_left_behind_is_not_told_of(watching: Watching) -> None:
    """A tenant that changed its plan is told of the quotas of the new one."""
    watching.load(Plan("p", quotas=(DAILY,)), Plan("big", quotas=(Quota("all", "requests", 100, "day"),)))
    await watching.use(4)
    big = await watching.gate("big")
    await watching.use(6, big)
    assert await watching.look() == []


async def test_a_store_that_is_gone_is_tried_again(watching: Watching) -> None:
    watching.book.down = True
    await watching.use(5)
    assert await watching.look() == []
    watching.book.down = False
    assert await watching.look() == []
    watching.clock.advance(5)
    assert await watching.look() == [50]


async def test_test_keys_and_quotas_without_thresholds_are_not_told_of(watching: Watching) -> None:
    quiet = Quota("daily", "requests", 10, "day", thresholds=())
    watching.load(Plan("p", quotas=(DAILY,), test_keys="p"), Plan("quiet", quotas=(quiet,)))
    seat = await watching.room.seat(Principal("acme", "t", "p", sandbox=True))
    watching.ledger.totals["acme", "requests", True] = 10
    await watching.use(10, await watching.gate("quiet", tenant="other"))
    for _ in range(9):
        watching.ticket(seat.gate(watching.route))
    assert await watching.look() == []


async def test_a_round_reads_the_ledger_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_READS", 3)
    desk = Watching()
    desk.room.load(Snapshot(meters=METERS, plans={"p": Plan("p", quotas=(DAILY,))}))
    for number in range(7):
        desk.ledger.totals[f"t{number}", "requests", False] = 5
        desk.ticket(await desk.gate(tenant=f"t{number}"))
    assert [len(await desk.look()) for _ in range(4)] == [3, 6, 7, 7]


async def test_a_counter_that_is_dropped_is_no_longer_watched(watching: Watching) -> None:
    gate = await watching.gate()
    await watching.look()
    counter = gate._quotas[0].counter
    counter.retire()
    await watching.look()
    assert watching.room.thresholds is not None
    assert not watching.room.thresholds._watched
