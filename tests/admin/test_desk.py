"""What operators do with rows that wait for a person, through the admin API's methods, on a real store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.admin import Desk
from sidecar.billing import Reporter
from sidecar.billing.outbox import Rules
from sidecar.billing.outbox.windows import Terms
from sidecar.core.billing import OutboxRow, Period
from sidecar.core.errors import Conflict, NotFound, SidecarError
from tests.billing.books import EVENT, START_S, Books

FIRST = Period(START_S - 5_000, START_S + 3_600)
SECOND = Period(START_S + 3_600, START_S + 900_000)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    made = Books(tmp_path / "a.db", periods=(FIRST, SECOND), rules=Rules(Terms()))
    yield made
    made.end()


@pytest.fixture
def desk(books: Books) -> Desk:
    return Desk(books.store, Reporter(books.store, books.payee, {"tokens": EVENT}, books.clock), books.clock)


async def held(books: Books) -> OutboxRow:
    await books.open_account()
    books.payee.advance(9_000)
    await books.use(7, ago_s=8_000)
    await books.settle()
    (row,) = await books.rows("held")
    return row


async def test_a_row_is_carried_into_the_open_period(books: Books, desk: Desk) -> None:
    row = await held(books)
    page = await desk.outbox_list()
    assert [(found["id"], found["state"]) for found in page["rows"]] == [(row.id, "held")]
    carried = await desk.outbox_carry(str(row.id), actor="cli:ann")
    assert carried["note"] == f"carried by cli:ann from the period that ended at {FIRST.end_s}"
    await books.settle()
    assert books.billed() == [0, 7]
    assert (await desk.outbox_list())["rows"] == []
    with pytest.raises(Conflict, match="superseded"):
        await desk.outbox_carry(str(row.id), actor="cli:ann")


async def test_a_row_is_written_off_with_a_reason(books: Books, desk: Desk) -> None:
    row = await held(books)
    with pytest.raises(ValueError, match="reason"):
        await desk.outbox_drop(str(row.id), reason="  ", actor="cli:ann")
    dropped = await desk.outbox_drop(str(row.id), reason="a gift", actor="cli:ann")
    assert (dropped["state"], dropped["note"]) == ("dropped", "a gift (cli:ann)")
    await books.settle()
    assert books.billed() == [0, 0]


async def test_a_rejected_row_is_sent_again_as_it_was(books: Books, desk: Desk) -> None:
    await books.open_account()
    await books.use(5)
    books.payee.advance(900)
    await books.assigner.assign()
    (row,) = await books.rows()
    await books.store.attempt(row.id, at_ns=books.clock.wall_ns())
    await books.store.settle(row.id, "rejected", at_ns=1, note="no such meter")
    again = await desk.outbox_retry(str(row.id), actor="cli:ann")
    assert (again["state"], again["identifier"]) == ("sent", row.identifier)
    await books.settle()
    assert books.billed() == [5, 0]


async def test_what_does_not_wait_is_left_alone(books: Books, desk: Desk) -> None:
    await books.open_account()
    await books.use(5)
    books.payee.advance(900)
    await books.assigner.assign()
    with pytest.raises(Conflict, match="on its way"):
        await desk.outbox_drop("1", reason="x", actor="cli:ann")
    with pytest.raises(NotFound, match="no row 9"):
        await desk.outbox_retry("9", actor="cli:ann")
    for wrong in ("", "x", "-1", "1.5", "9" * 30):
        with pytest.raises(ValueError, match="no number of a row"):
            await desk.outbox_retry(wrong, actor="cli:ann")
    with pytest.raises(ValueError, match="is no state"):
        await desk.outbox_list(state="lost")


async def test_usage_that_the_payee_may_have_is_not_carried(books: Books, desk: Desk) -> None:
    row = await held(books)
    await books.store.settle(row.id, "conflict", at_ns=1)
    now_ns = books.clock.wall_ns()
    books.payee.stripe.meter_event(row.event_name, row.customer, "3", "somebody's", row.timestamp_s, now_ns)
    with pytest.raises(Conflict, match="settle that there first"):
        await desk.outbox_carry(str(row.id), actor="cli:ann")
    books.payee.out = True
    with pytest.raises(SidecarError, match="no connection"):
        await desk.outbox_carry(str(row.id), actor="cli:ann")


async def test_what_the_payee_took_and_never_counted_is_asked_for_anew_in_its_period(books: Books, desk: Desk) -> None:
    """Its identifier is known there, so that sending it again does nothing."""
    await books.open_account()
    await books.use(5)
    books.payee.advance(900)
    await books.round()
    (row,) = await books.rows()
    for rows in books.payee.stripe.meters.usage.values():
        rows.clear()
    await books.store.settle(row.id, "conflict", at_ns=1)
    carried = await desk.outbox_carry(str(row.id), actor="cli:ann")
    assert (carried["note"], carried["period"]["end_s"]) == ("carried by cli:ann anew", FIRST.end_s)
    assert carried["identifier"] != row.identifier
    await books.settle()
    assert books.billed() == [5, 0]


async def test_the_report_of_each_period(books: Books, desk: Desk) -> None:
    await held(books)
    previous = await desk.reconcile(period="previous")
    assert [difference["kind"] for difference in previous["lines"][0]["differences"]] == ["late"]
    current = await desk.reconcile(period="current", tenant="acme")
    assert current["lines"][0]["agrees"] is True
    assert len((await desk.reconcile(period="2025-10"))["lines"]) == 2, "both periods began in it"
    assert (await desk.reconcile(period="2024-01"))["lines"] == []
    with pytest.raises(ValueError, match="is no period"):
        await desk.reconcile(period="last")
    with pytest.raises(NotFound, match="has no account"):
        await desk.reconcile(tenant="nobody")


async def test_the_report_is_paged_by_tenant(books: Books, desk: Desk) -> None:
    for name in ("a", "b", "c"):
        await books.open_account(name)
    page = await desk.reconcile(limit=2)
    assert ([line["tenant"] for line in page["lines"]], page["next"]) == (["a", "b"], "b")
    rest = await desk.reconcile(limit=2, after="b")
    assert ([line["tenant"] for line in rest["lines"]], rest["next"]) == (["c"], None)


async def test_without_a_payee_there_is_no_report(books: Books) -> None:
    with pytest.raises(SidecarError, match="reported to nobody"):
        await Desk(books.store, None, books.clock).reconcile()
