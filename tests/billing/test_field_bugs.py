"""What others' billing got wrong, tried end to end: the ledger, the official SDK, the fake Stripe over HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.billing import Period, RowQuery
from tests.billing.world import World, open_world

START_S = 1_767_225_600 + 12 * 86_400  # 2026-01-13 00:00 UTC
EVENTS = "/v1/billing/meter_events"


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.chdir(tmp_path)
    async with open_world(tmp_path, START_S) as made:
        yield made


def sent(world: World) -> list[dict[str, Any]]:
    """The events that went out, without the one that asks for the permission."""
    return [params for method, path, params in world.fake.calls if path == EVENTS and "payload" in params]


async def begun(world: World) -> None:
    """acme is subscribed, and the permissions were asked for."""
    await world.subscribe()
    await world.reporting.tick()


def counted(world: World) -> int:
    """What Stripe has of acme in all time."""
    return world.billed(Period(0, 2 * 10**9))


async def test_a_duplicate_is_delivered_and_the_meter_goes_on(world: World) -> None:
    """langfuse/langfuse#16292: "An event already exists with identifier" was taken for a failure, and everything
    behind it waited for ever."""
    await begun(world)
    await world.books.use(7)
    world.fake.fail_next("error_after", EVENTS)
    await world.pass_time(1_200, 300)
    await world.books.use(9)
    await world.pass_time(1_200, 300)
    rows = await world.store.rows(RowQuery())
    assert [(row.value, row.state, row.http) for row in rows] == [(7, "accepted", 400), (9, "accepted", 200)]
    assert counted(world) == 16


@pytest.mark.parametrize("fault", ["drop_after", "cut_body", "error_after", "html", "rate_limit", "conflict"])
async def test_a_retry_has_the_identifier_of_its_first_attempt(world: World, fault: str) -> None:
    """langfuse/langfuse#15917: a retry under another identifier bills twice."""
    await begun(world)
    await world.books.use(7)
    world.fake.fail_next(fault, EVENTS, times=3)
    await world.pass_time(3_600, 300)
    events = sent(world)
    assert len(events) >= 4
    assert len({event["identifier"] for event in events}) == 1
    assert counted(world) == 7


async def test_the_last_minute_of_a_period_is_billed_in_it(world: World) -> None:
    """tuist/tuist#11903: without a timestamp what is reported after the period's end counts in the next one."""
    await world.subscribe()
    account = await world.store.account("acme")
    end_s = account.periods[-1].end_s
    await world.pass_time(end_s - world.now_s - 30, 86_400)
    world.fake.advance(end_s - world.now_s - 30)
    await world.books.use(11)  # half a minute before the end; reported minutes after it
    world.fake.advance(90)
    await world.read()
    await world.books.use(100)
    await world.pass_time(1_800, 300)
    first, second = (await world.store.account("acme")).periods
    assert [world.billed(first), world.billed(second)] == [11, 100]
    assert all(isinstance(event["timestamp"], str) and event["timestamp"].isdigit() for event in sent(world))


async def test_the_last_hour_before_a_cancellation_is_billed(world: World) -> None:
    """tuist/tuist#11903: usage just before a cancellation was on no invoice."""
    await world.subscribe()
    await world.books.use(5)
    await world.pass_time(1_200, 300)
    await world.books.use(6)
    world.fake.advance(45)
    world.fake.subscriptions.cancel(world.subscription, {"invoice_now": "true"})
    await world.read()
    await world.pass_time(3_000, 300)
    invoice = list(world.fake.world.invoices.values())[-1]
    assert invoice["status"] == "draft"
    assert world.fake.invoices.refresh(invoice)["lines"]["data"][0]["quantity"] == 10
    assert sum(line["quantity"] for line in invoice["lines"]["data"]) == 11
    await world.pass_time(3_600, 600)
    (parity,) = await world.store.parities()
    assert (parity.final, parity.ledger, parity.billed, parity.agrees) == (True, 11, 11, True)


async def test_values_are_integers_as_texts(world: World) -> None:
    """superserve-ai/sandbox#376: floats such as 1e-05 and 0.30000000000000004 were refused after the invoice."""
    await world.subscribe()
    numbers = (1, 2**31 - 1, 123_456_789)
    for number in numbers:
        await world.books.use(number)
        await world.pass_time(900, 300)
    assert sorted(int(event["payload"]["value"]) for event in sent(world)) == sorted(numbers)
    assert all(event["payload"]["value"].isascii() and event["payload"]["value"].isdigit() for event in sent(world))
    assert counted(world) == sum(numbers)
