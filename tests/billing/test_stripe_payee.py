"""Reporting against the fake Stripe over HTTP, by the official SDK; Stripe's own document checks each exchange."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.billing.reconcile import Invoiced, Line
from sidecar.core.accounts import Account
from sidecar.core.billing import Period, RowQuery
from tests.billing.world import World, open_world

START_S = 1_767_225_600 + 12 * 86_400  # 2026-01-13 00:00 UTC


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.chdir(tmp_path)
    async with open_world(tmp_path, START_S) as made:
        yield made


async def test_a_month_is_used_reported_verified_and_invoiced(world: World) -> None:
    await world.subscribe()
    for tokens in (3, 40, 500):
        await world.books.use(tokens)
        await world.pass_time(1_200, 300)
    await world.pass_time(3 * 3_600, 3_600)
    store = world.books.store
    assert {row.state for row in await store.rows(RowQuery())} == {"verified"}
    account = await store.account("acme")
    assert account is not None
    await world.pass_time(account.periods[-1].end_s - world.books.now_s + 60, 86_400)
    world.fake.advance(account.periods[-1].end_s - world.books.now_s + 60)
    await world.read()
    await world.pass_time(2_400, 600)
    (draft,) = await store.parities()
    assert (draft.final, draft.ledger, draft.payee, draft.billed, draft.agrees) == (False, 543, 543, 543, True)
    await world.pass_time(3_600, 600)
    (final,) = await store.parities()
    assert (final.final, final.billed, final.agrees) == (True, 543, True)
    invoice = world.fake.world.invoices[final.invoice]
    assert invoice["total"] == 10 * 10 + 533 * 5, "ten at 0.10, the rest at 0.05"
    assert world.reporting.read().parity_differs == 0


async def report_of(world: World, period: Period) -> Line:
    """The one line of a report over the period."""

    async def accounts() -> AsyncIterator[Account]:
        yield await world.store.account("acme")

    (line,) = (await world.payee.reporter.report(accounts(), lambda account, now_s: (period,))).lines
    return line


async def test_the_report_names_the_invoice_and_what_it_asks_for(world: World) -> None:
    """None while the period runs, a draft, the final one, and one whose line somebody changed."""
    await world.subscribe()
    await world.books.use(7)
    await world.pass_time(3 * 3_600, 3_600)
    (period,) = (await world.store.account("acme")).periods
    line = await report_of(world, period)
    assert (line.ledger, line.invoice, line.agrees) == (7, None, True)
    world.fake.advance(period.end_s - world.books.now_s + 60)
    await world.read()
    line = await report_of(world, period)
    assert line.invoice is not None
    assert (line.invoice.number, line.invoice.quantity, line.invoice.final, line.agrees) == (None, 7, False, True)
    await world.pass_time(4_500, 600)
    line = await report_of(world, period)
    invoice = world.fake.world.invoices[line.invoice.id if line.invoice else ""]
    assert line.invoice == Invoiced(invoice["id"], invoice["number"], 7, True)
    assert (bool(invoice["number"]), line.agrees) == (True, True)
    tier = next(row for row in invoice["lines"]["data"] if row["quantity"])
    tier["quantity"], tier["quantity_decimal"] = tier["quantity"] + 2, str(tier["quantity"] + 2)
    line = await report_of(world, period)
    (difference,) = line.differences
    assert (difference.kind, difference.ours, difference.theirs) == ("misbilled", 7, 9)
    assert difference.note == f"invoice {invoice['number']}"


async def test_an_invoice_that_cannot_be_read_is_said_in_the_report(world: World) -> None:
    await world.subscribe()
    (period,) = (await world.store.account("acme")).periods
    world.fake.advance(period.end_s - world.books.now_s + 60)
    await world.read()
    world.fake.fail_next("drop_before", "/v1/invoices", times=9)
    line = await report_of(world, period)
    assert (line.invoice, [found.kind for found in line.differences]) == (None, ["unreadable"])


async def test_an_invoice_that_does_not_agree_is_told_while_it_is_a_draft(world: World) -> None:
    customer = await world.subscribe()
    await world.books.use(7)
    await world.pass_time(7_200, 600)
    account = await world.books.store.account("acme")
    assert account is not None
    stamp = world.books.now_s - 3_600
    world.fake.meter_event("acme_tokens", customer, "5", "somebody's", stamp, world.clock.wall_ns())
    world.fake.advance(account.periods[-1].end_s - world.books.now_s + 60)
    await world.read()
    await world.pass_time(2_400, 600)
    (draft,) = await world.books.store.parities()
    assert (draft.final, draft.ledger, draft.payee, draft.billed, draft.agrees) == (False, 7, 12, 12, False)
    assert world.reporting.read().parity_differs == 1


async def test_a_meter_that_stripe_lacks_is_named_and_nothing_is_sent(world: World) -> None:
    await world.reporting.tick()
    (fault,) = world.reporting.read().faults
    assert fault == 'Stripe has no meter with the event name "acme_tokens"; make it with `sidecar stripe apply`'
    assert not [path for method, path, _ in world.fake.calls if path == "/v1/billing/meter_events"]


RIGHTS = {
    "rak_billing_meter_read": "Meters: Read",
    "rak_billing_meter_event_write": "Meter events: Write",
    "rak_subscription_read": "Subscriptions: Read",
    "rak_invoice_read": "Invoices: Read",
    "rak_plan_read": "Prices: Read",
}


@pytest.mark.parametrize("lacking", RIGHTS)
async def test_a_restricted_key_is_told_the_one_right_that_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    """Nothing is sent, usage waits, and what to grant is named as the dashboard and as Stripe call it."""
    monkeypatch.chdir(tmp_path)
    async with open_world(tmp_path, START_S, rights=frozenset({*RIGHTS, "rak_product_read"}) - {lacking}) as world:
        world.fake.meter("acme_tokens")
        await world.reporting.tick()
        (fault,) = world.reporting.read().faults
        assert fault == f"the API key lacks a permission: {RIGHTS[lacking]} ({lacking}); grant it at Stripe"


async def test_the_rights_that_the_documentation_lists_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_world(tmp_path, START_S, rights=frozenset({*RIGHTS, "rak_product_read"})) as world:
        world.fake.meter("acme_tokens")
        await world.reporting.tick()
        read = world.reporting.read()
        assert (read.faults, read.catalogue_fault) == ((), "")
        assert read.drift


def drop(world: World) -> None:
    """Stripe said 200 and dropped what it was sent."""
    for rows in world.fake.meters.usage.values():
        rows.clear()


async def lose_the_last_hour(world: World) -> None:
    """A month ended five minutes ago; seven were used and reported in it, and Stripe lost them."""
    await world.subscribe()
    account = await world.store.account("acme")
    world.fake.advance(account.periods[-1].end_s - 30 - world.now_s)
    await world.books.use(7)
    world.fake.advance(31)
    await world.read()
    await world.pass_time(300, 300)
    drop(world)
    world.fake.meters.seen.clear()


async def test_what_the_last_hour_lacks_is_sent_again_before_the_invoice_is_final(world: World) -> None:
    """An hour of waiting for late sums, as at other times, would be too late."""
    await lose_the_last_hour(world)
    await world.pass_time(2_750, 250)
    assert (world.reporting.read().missing, world.reporting.read().parity_differs) == (1, 0)
    await world.pass_time(3_000, 600)
    (parity,) = await world.store.parities()
    assert (parity.final, parity.billed, parity.agrees) == (True, 7, True)


async def test_what_stripe_knows_and_does_not_count_waits_for_a_person_before_the_invoice_is_final(
    world: World,
) -> None:
    await world.subscribe()
    account = await world.store.account("acme")
    world.fake.advance(account.periods[-1].end_s - 30 - world.now_s)
    await world.books.use(7)
    world.fake.advance(31)
    await world.read()
    await world.pass_time(300, 300)
    drop(world)
    await world.pass_time(1_750, 250)
    (row,) = await world.books.rows("conflict")
    assert row.note == "the payee refuses it as known and does not count it"
    period = await world.payee.reporter.destination(row, await world.store.account("acme"))
    assert period == row.period, "the invoice is a draft"
    await world.store.carry(row.id, period, at_ns=world.clock.wall_ns(), note="by hand")
    await world.pass_time(4_200, 600)
    (parity,) = await world.store.parities()
    assert (parity.final, parity.billed, parity.agrees) == (True, 7, True)
