"""Every difference between ledger, outbox and payee has its name; what can heal heals, the rest waits for a person."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.billing.outbox import Rules
from sidecar.billing.outbox.windows import Terms
from sidecar.billing.reconcile import KINDS, Reporter, Verifier, heal_ledger
from sidecar.billing.reconcile.report import Line, Report
from sidecar.core.accounts import Account
from sidecar.core.billing import Period
from tests.billing.books import EVENT, PERIOD, START_S, Books


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path / "a.db", rules=Rules(Terms(carry=True)))


def verifier(books: Books) -> Verifier:
    return Verifier(books.store, books.payee, books.clock)


async def report(books: Books, period: Period = PERIOD) -> Report:
    async def accounts() -> AsyncIterator[Account]:
        for account in await books.store.accounts():
            yield account

    reporter = Reporter(books.store, books.payee, {"tokens": EVENT}, books.clock)
    return await reporter.report(accounts(), lambda account, now_s: (period,))


async def line(books: Books, period: Period = PERIOD) -> Line:
    (found,) = (await report(books, period)).lines
    return found


async def reported(books: Books, *tokens: int) -> None:
    """Accepted rows, ten minutes apart, in an hour that is closed afterwards."""
    await books.open_account()
    for number in tokens:
        await books.use(number)
        books.payee.advance(600)
        await books.round()
    books.payee.advance(3 * 3600)
    await books.round()


def tell(books: Books, value: int, minute: int, identifier: str = "somebody's") -> None:
    """Somebody else sends to the same meter."""
    books.payee.stripe.meter_event(
        EVENT, books.customers["acme"], str(value), identifier, minute * 60 + 30, books.clock.wall_ns()
    )


def forget(books: Books, minute: int) -> None:
    """The payee said that it took the event, and dropped it when it looked at it."""
    for rows in books.payee.stripe.meters.usage.values():
        rows[:] = [row for row in rows if row.timestamp_s // 60 != minute]


async def kinds(books: Books) -> list[str]:
    return [difference.kind for difference in (await line(books)).differences]


async def test_what_agrees_is_verified_with_one_reading(books: Books) -> None:
    await reported(books, 5, 6, 7)
    assert await verifier(books).verify() == 3
    assert {row.state for row in await books.rows()} == {"verified"}
    found = await line(books)
    assert (found.ledger, found.assigned, found.verified, found.payee, found.agrees) == (18, 18, 18, 18, True)
    books.end()


async def test_whoever_is_behind_reads_each_customer_once(books: Books) -> None:
    """Two days without verifying are one reading, not one for each hour or each row."""
    await books.open_account()
    for _ in range(48):
        await books.use(5)
        books.payee.advance(1_800)
        await books.round()
        await books.use(6)
        books.payee.advance(1_800)
        await books.round()
    books.payee.advance(3 * 3600)
    await books.round()
    readings = []

    class Counted:
        async def total(self, event_name: str, customer: str, begin: int, end: int) -> int:
            return await books.payee.total(event_name, customer, begin, end)

        async def hours(self, event_name: str, customer: str, begin: int, end: int) -> dict[int, int]:
            readings.append((begin, end))
            return await books.payee.hours(event_name, customer, begin, end)

    rows = await books.rows("accepted")
    assert len(rows) > 90
    assert await Verifier(books.store, Counted(), books.clock).verify() == len(rows)
    assert len(readings) == 1
    books.end()


async def test_late_sums_of_the_payee_are_waited_for(books: Books) -> None:
    books.payee.stripe.knobs.summary_lag_s = 3 * 3600 + 1_800
    await reported(books, 5)
    checking = verifier(books)
    assert await checking.verify() == 0
    assert await checking.verify() == 0, "not read again before its time"
    assert [row.state for row in await books.rows()] == ["accepted"]
    for _ in range(4):
        books.payee.advance(1_800)
        await checking.verify()
    assert [row.state for row in await books.rows()] == ["verified"]
    books.end()


async def test_what_the_payee_dropped_is_sent_again(books: Books) -> None:
    """superserve#376: an event that is taken with 200 may be dropped afterwards."""
    await reported(books, 5, 6)
    first, _ = await books.rows()
    forget(books, first.minute)
    assert await kinds(books) == ["missing"]
    checking = verifier(books)
    for _ in range(4):
        await checking.verify()
        books.payee.advance(1_800)
    assert checking.missing == 1
    books.payee.advance(25 * 3600)  # the identifier is known for a day, whatever became of the event
    await books.settle()
    for _ in range(2):
        books.payee.advance(2 * 3600)
        await checking.verify()
    assert books.billed() == books.served() == [11]
    assert await kinds(books) == []
    books.end()


async def test_usage_of_somebody_else_is_named_and_touches_nothing(books: Books) -> None:
    await reported(books, 5)
    tell(books, 100, (await books.rows())[0].minute + 3)
    checking = verifier(books)
    for _ in range(4):
        await checking.verify()
        books.payee.advance(1_800)
    assert list(checking.foreign.values()) == [(5, 105)]
    assert {row.state for row in await books.rows()} == {"verified"}
    (difference,) = (await line(books)).differences
    assert (difference.kind, difference.ours, difference.theirs) == ("foreign", 5, 105)
    books.end()


async def test_a_minute_that_counts_twice_is_a_duplicate(books: Books) -> None:
    await reported(books, 5)
    tell(books, 5, (await books.rows())[0].minute)
    assert await kinds(books) == ["duplicate"]
    checking = verifier(books)
    for _ in range(4):
        await checking.verify()
        books.payee.advance(1_800)
    (row,) = await books.rows()
    assert (row.state, row.note) == ("conflict", "the payee has 10 in this minute, not 5")
    assert "conflict" in await kinds(books)
    books.end()


async def test_a_marks_loss_is_healed_from_the_ledger(books: Books) -> None:
    await books.open_account()
    await books.use(5)
    await books.store.unmark("acme", begin=0, end=10**9)
    books.payee.advance(3_600)
    await books.round()
    assert await kinds(books) == ["unassigned"]
    assert await heal_ledger(books.store, ["tokens"], books.clock.wall_ns()) == 1
    await books.settle()
    assert await heal_ledger(books.store, ["tokens"], books.clock.wall_ns()) == 0
    assert books.billed() == [5]
    assert await kinds(books) == []
    books.end()


async def test_what_waits_for_a_person_is_named_with_what_to_do(books: Books) -> None:
    await books.open_account()
    await books.use(5)
    books.payee.advance(900)
    await books.assigner.assign()
    (row,) = await books.rows()
    for state, kind in (("rejected", "rejected"), ("expired", "expired"), ("held", "late")):
        await books.store.settle(row.id, state, at_ns=1, note="because")
        (difference,) = (await line(books)).differences
        assert (difference.kind, difference.note) == (kind, f"row {row.id}: because")
        assert difference.action == KINDS[kind]
    books.end()


async def test_a_tenant_that_changed_its_customer_leaves_rows_behind(books: Books) -> None:
    await reported(books, 5)
    await books.open_account("acme")
    assert "wrong_customer" in await kinds(books)
    books.end()


async def test_what_was_carried_says_so(tmp_path: Path) -> None:
    first, second = Period(START_S - 5_000, START_S + 3_617), Period(START_S + 3_617, START_S + 900_000)
    books = Books(tmp_path / "b.db", periods=(first, second), rules=Rules(Terms(carry=True)))
    await books.open_account()
    books.payee.advance(9_000)
    await books.use(7, ago_s=8_000)
    await books.settle()
    found = await line(books, second)
    assert [difference.kind for difference in found.differences] == ["wrong_period"]
    assert (found.ledger, found.assigned, found.payee) == (0, 0, 7)
    books.end()


async def test_a_payee_that_cannot_be_read_is_a_difference_not_a_failure(books: Books) -> None:
    await reported(books, 5)
    books.payee.out = True
    (difference,) = (await line(books)).differences
    assert (difference.kind, difference.note) == ("unreadable", "no connection")
    checking = verifier(books)
    assert await checking.verify() == 0
    assert checking.unreadable == "no connection"
    books.end()


async def test_what_is_under_way_is_no_difference(books: Books) -> None:
    await reported(books, 5)
    books.payee.fault_share, books.payee.faults = 1.0, ("take_and_lose",)
    await books.use(6)
    books.payee.advance(900)
    await books.round()
    books.payee.advance(3_600)
    found = await line(books)
    assert (found.under_way, found.payee, found.agrees) == (6, 11, True)
    books.end()


async def test_the_report_can_be_signed(books: Books) -> None:
    await reported(books, 5)
    body = (await report(books)).as_dict()
    assert json.loads(json.dumps(body))["digest"] == (await report(books)).as_dict()["digest"]
    assert body["instance"] == await books.store.instance()
    books.payee.advance(60)
    assert (await report(books)).as_dict()["digest"] != body["digest"]
    books.end()
