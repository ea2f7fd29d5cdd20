"""The parts of reporting, at their own pace, on one node at a time."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from sidecar.billing.outbox import Events
from sidecar.billing.payees import months
from sidecar.billing.reconcile import Alarms, Verifier
from sidecar.billing.reporting import Parts, Reporting
from sidecar.core.errors import SidecarError
from tests.billing.books import EVENT, Books
from tests.billing.payee import Payee


async def nothing() -> None:
    return None


class Node:
    """One process's reporting; ``faults``: what the payee's side has against it."""

    def __init__(self, books: Books, name: str) -> None:
        self.faults: list[str] = []
        self.unreachable = False
        self.checks = 0
        self.sums = Slow(books.payee)
        parts = Parts(
            assigner=books.assigner,
            sender=books.sender,
            verifier=Verifier(books.store, self.sums, books.clock),
            parity=None,
            events=Events(added={"tokens": EVENT}),
            alarms=Alarms(books.store, ("webhook",), books.clock),
            check=self.check,
            drift=self.drift,
            unasked=self.unasked,
            prepare=nothing,
            close=nothing,
        )
        self.books = books
        self.no_prices = False
        self.owing: list[str] = []
        self.reporting = Reporting(books.store, parts, name, books.clock, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        """Time passes by whoever waits; the others go on."""
        self.books.payee.advance(round(seconds))
        await asyncio.sleep(0)

    async def unasked(self) -> list[str]:
        return self.owing

    async def drift(self) -> int | None:
        if self.no_prices:
            raise SidecarError("the API key lacks a permission: Products: Read")
        return 3

    async def check(self) -> list[str]:
        self.checks += 1
        if self.unreachable:
            raise SidecarError("Stripe cannot be reached")
        return self.faults


class Slow:
    """The payee's sums, which are answered at once or, while ``stuck``, never."""

    def __init__(self, payee: Payee) -> None:
        self.payee = payee
        self.stuck = False
        self.asked = asyncio.Event()

    async def total(self, event_name: str, customer: str, begin: int, end: int) -> int:
        return await self.payee.total(event_name, customer, begin, end)

    async def hours(self, event_name: str, customer: str, begin: int, end: int) -> dict[int, int]:
        self.asked.set()
        if self.stuck:
            await asyncio.Event().wait()
        return await self.payee.hours(event_name, customer, begin, end)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path / "a.db")


async def ticks(books: Books, node: Node, times: int, seconds: int = 60) -> None:
    for _ in range(times):
        books.payee.advance(seconds)
        await node.reporting.tick()


async def test_usage_goes_all_the_way_by_itself(books: Books) -> None:
    node = Node(books, "a")
    await books.open_account()
    await books.use(5)
    await ticks(books, node, 15)
    assert books.billed() == [5]
    await ticks(books, node, 130)
    read = node.reporting.read()
    assert (read.leads, read.faults, read.drift, read.outcomes) == (True, (), 3, {"accepted": 1})
    assert {state: count for state, (count, _) in read.rows.items()} == {"verified": 1}
    books.end()


async def test_one_node_reports_and_another_follows_it(books: Books) -> None:
    first, second = Node(books, "a"), Node(books, "b")
    await first.reporting.tick()
    await second.reporting.tick()
    assert (first.reporting.read().leads, second.reporting.read().leads) == (True, False)
    await first.reporting.close()
    books.payee.advance(20)
    await second.reporting.tick()
    assert second.reporting.read().leads
    books.payee.advance(61)  # dead, without having said so
    await first.reporting.tick()
    assert first.reporting.read().leads
    await second.reporting.tick()
    assert not second.reporting.read().leads
    books.end()


async def test_nothing_is_sent_while_it_could_not_be_billed_right(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(books, "a")
    node.faults = ['the meter "acme_tokens" at Stripe is inactive']
    await books.open_account()
    await books.use(5)
    await ticks(books, node, 15)
    assert books.payee.requests == 0
    assert node.reporting.read().faults == tuple(node.faults)
    assert caplog.text.count("is inactive") == 1, "said once, not every minute"
    node.faults = []
    await ticks(books, node, 3)
    assert books.billed() == [5]
    checks = node.checks
    await ticks(books, node, 30)
    assert node.checks == checks, "what was right is looked at once an hour"
    await ticks(books, node, 31)
    assert node.checks == checks + 1
    books.end()


async def test_a_payee_that_cannot_be_asked_at_the_start_is_waited_for(books: Books) -> None:
    node = Node(books, "a")
    node.unreachable = True
    await ticks(books, node, 5)
    assert node.reporting.read().faults == ("Stripe cannot be reached",)
    assert node.reporting.read().failures == 5
    node.unreachable = False
    await ticks(books, node, 1)
    assert node.reporting.read().faults == ()
    node.unreachable = True
    await ticks(books, node, 61)
    assert node.reporting.read().failures > 5
    assert node.reporting.read().faults == (), "what was right an hour ago goes on"
    books.end()


async def test_a_store_that_fails_stops_nothing_for_good(books: Books) -> None:
    node = Node(books, "a")
    await books.open_account()
    await books.use(5)
    await node.reporting.tick()
    books.store.close()
    await ticks(books, node, 2)
    assert node.reporting.read().failures > 0
    await node.reporting.close()


async def test_usage_is_sent_while_sums_are_read(books: Books) -> None:
    """Reading all sums of a large installation takes half an hour; the lead, and what was just used, do not wait."""
    node = Node(books, "a")
    await books.open_account()
    await books.use(5)
    await ticks(books, node, 15)
    books.payee.advance(3 * 3600)
    node.sums.stuck = True
    running = asyncio.ensure_future(node.reporting.run())
    await asyncio.wait_for(node.sums.asked.wait(), 60)
    await books.use(6)
    while books.billed() != [11]:
        assert not running.done()
        await asyncio.sleep(0)
    assert await books.store.lead("reporting", "b", ttl_ns=10**9, at_ns=books.clock.wall_ns()) is False
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    books.end()


async def told(books: Books) -> list[tuple[str, Any]]:
    due = await books.store.due_notices(at_ns=books.clock.wall_ns(), limit=100)
    return [(notice.kind, dict(notice.facts)) for notice in due]


async def test_a_fault_that_lasts_is_told_once_a_day(books: Books) -> None:
    node = Node(books, "a")
    node.faults = ["the meter is inactive"]
    await ticks(books, node, 9)
    assert await told(books) == []
    await ticks(books, node, 30)
    assert await told(books) == [("billing.stopped", {"faults": "the meter is inactive"})]
    await ticks(books, node, 25, seconds=3_600)
    assert len(await told(books)) == 2
    books.end()


async def test_rows_that_wait_are_told_when_there_are_more(books: Books) -> None:
    node = Node(books, "a")
    await books.open_account()
    for tokens in (5, 6):
        await books.use(tokens)
        await ticks(books, node, 15)
        for row in await books.rows("accepted"):
            await books.store.settle(row.id, "rejected", at_ns=1, note="no such customer")
        await ticks(books, node, 5)
    first, second = await told(books)
    assert (first[0], first[1]["rows"], first[1]["of"], first[1]["note"]) == (
        "billing.waiting",
        1,
        "acme",
        "no such customer",
    )
    assert second[1]["rows"] == 2
    books.end()


async def test_who_pays_nobody_is_named(books: Books, caplog: pytest.LogCaptureFixture) -> None:
    node = Node(books, "a")
    node.owing = [f"t{number:02}" for number in range(11)]
    await ticks(books, node, 40)
    assert node.reporting.read().unasked == 11
    assert caplog.text.count("nobody is asked") == 1
    assert "t09 and more" in caplog.text
    books.end()


async def test_a_catalogue_that_cannot_be_compared_stops_nothing_and_is_named(books: Books) -> None:
    node = Node(books, "a")
    node.no_prices = True
    await books.open_account()
    await books.use(5)
    await ticks(books, node, 15)
    read = node.reporting.read()
    assert (read.drift, read.catalogue_fault) == (None, "the API key lacks a permission: Products: Read")
    assert books.billed() == [5]
    node.no_prices = False
    await ticks(books, node, 1)
    read = node.reporting.read()
    assert (read.drift, read.catalogue_fault) == (3, ""), "what failed is looked at again in a minute"
    books.end()


@pytest.mark.parametrize(
    ("now", "edges"),
    [
        (1_796_083_199, (1_790_812_800, 1_793_491_200, 1_796_083_200)),  # 2026-11-30T23:59:59Z
        (1_767_225_600, (1_764_547_200, 1_767_225_600, 1_769_904_000)),  # 2026-01-01T00:00:00Z
        (1_709_164_800, (1_704_067_200, 1_706_745_600, 1_709_251_200)),  # 2024-02-29, a leap year
    ],
)
def test_calendar_months(now: int, edges: tuple[int, int, int]) -> None:
    before, this = months(now)
    assert (before.start_s, before.end_s, this.start_s, this.end_s) == (edges[0], edges[1], edges[1], edges[2])
