"""Months of every length, trials, other plans, cancellations: each invoice asks for what was used in its own period.

The official SDK, the fake Stripe's own calendar, and the keeper of accounts that reads its periods.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.billing import Period
from tests.billing.world import World, open_world


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())


@pytest.fixture
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    monkeypatch.chdir(tmp_path)
    async with open_world(tmp_path, getattr(request, "param", at(2027, 1, 13))) as made:
        yield made


async def use(world: World, tokens: int, *, at_s: int) -> None:
    """Time goes by until then; the use is reported."""
    world.fake.advance(at_s - world.now_s)
    await world.read()
    await world.books.use(tokens)


async def end_of(world: World, period: Period) -> None:
    """Time goes by until the period's invoice is final; the sidecar works on meanwhile."""
    if world.now_s <= period.end_s:
        world.fake.advance(period.end_s + 1 - world.now_s)
        await world.read()
    await world.pass_time(9_000, 600)


async def newest(world: World) -> Period:
    found: Period = (await world.store.account("acme")).periods[-1]
    return found


def invoiced(world: World, span: tuple[int, int]) -> int:
    """Units on final invoices for this span."""
    lines = [
        line
        for invoice in world.fake.world.invoices.values()
        if invoice["status"] != "draft"
        for line in invoice["lines"]["data"]
        if (line["period"]["start"], line["period"]["end"]) == span
        and line["pricing"]["price_details"]["price"] in metered(world)
    ]
    return sum(line["quantity"] for line in lines)


def metered(world: World) -> set[str]:
    return {p["id"] for p in world.fake.world.prices.values() if p["recurring"]["usage_type"] == "metered"}


async def agreed(world: World, period: Period) -> Any:
    (parity,) = [one for one in await world.store.parities() if one.period == period]
    assert (parity.final, parity.agrees) == (True, True), parity
    return parity


@pytest.mark.parametrize(
    ("world", "days"),
    [
        (at(2027, 12, 31, 10, 0, 30), (31, 29, 31)),  # a leap year's February
        (at(2027, 1, 31, 23, 59, 59), (28, 31)),
        (at(2028, 2, 29, 12, 0, 17), (29, 31)),
    ],
    indirect=["world"],
)
async def test_months_of_every_length(world: World, days: tuple[int, ...]) -> None:
    """Used in the first seconds, in the middle, and in the last half minute of each. The first minute of a month that
    follows another one belongs to that."""
    await world.subscribe()
    for number, length in enumerate(days, start=1):
        period = await newest(world)
        assert period.end_s - period.start_s == length * 86_400
        begin_s = period.start_s + (5 if number == 1 else 60)
        for tokens, moment in ((number, begin_s), (10, period.start_s + 10**6), (100, period.end_s - 30)):
            await use(world, tokens, at_s=max(moment, world.now_s))
            await world.pass_time(600, 300) if tokens != 100 else None
        await end_of(world, period)
        assert invoiced(world, (period.start_s, period.end_s)) == 110 + number
        assert (await agreed(world, period)).billed == 110 + number


async def test_a_trial_is_free_and_the_month_after_it_is_not(world: World) -> None:
    await world.subscribe(trial_period_days=14)
    trial = await newest(world)
    assert trial.end_s - trial.start_s == 14 * 86_400
    await use(world, 7, at_s=trial.end_s - 30)
    await end_of(world, trial)
    month = await newest(world)
    assert month.start_s == trial.end_s
    await use(world, 20, at_s=month.end_s - 90)
    await end_of(world, month)
    assert invoiced(world, (month.start_s, month.end_s)) == 20
    assert (
        sum(invoice["total"] for invoice in world.fake.world.invoices.values() if invoice["period_end"] <= trial.end_s)
        == 0
    )
    assert (await agreed(world, month)).billed == 20


async def test_another_price_in_the_middle_of_a_month(world: World) -> None:
    """The usage until then is on an invoice of its own, at the old price; the rest is on the month's."""
    await world.subscribe()
    month = await newest(world)
    change_s = month.start_s + 10 * 86_400 + 45
    await use(world, 30, at_s=change_s - 20)
    world.fake.advance(20)
    old = world.fake.world.prices[world.price()]
    dearer = world.fake.catalogue.create_price(
        {
            "product": old["product"],
            "currency": "usd",
            "unit_amount": 10,
            "recurring": {"interval": "month", "usage_type": "metered", "meter": old["recurring"]["meter"]},
            "metadata": {"sidecar_plan": "pro"},
        }
    )
    item = world.fake.world.subscriptions[world.subscription]["items"]["data"][0]["id"]
    world.fake.subscriptions.update(world.subscription, {"items": [{"id": item, "price": dearer["id"]}]})
    await world.read()
    periods = (await world.store.account("acme")).periods
    assert periods == (Period(month.start_s, change_s), Period(change_s, month.end_s))
    await use(world, 500, at_s=change_s + 40)
    await world.pass_time(9_000, 600)
    assert invoiced(world, (month.start_s, change_s)) == 30
    assert (await agreed(world, periods[0])).billed == 30
    await end_of(world, periods[1])
    assert invoiced(world, (change_s, month.end_s)) == 500
    assert (await agreed(world, periods[1])).billed == 500


async def test_cancelled_for_the_end_of_the_month(world: World) -> None:
    await world.subscribe()
    month = await newest(world)
    world.fake.subscriptions.update(world.subscription, {"cancel_at_period_end": "true"})
    await use(world, 30, at_s=month.end_s - 20)
    await end_of(world, month)
    assert (await world.store.account("acme")).status == "canceled"
    assert invoiced(world, (month.start_s, month.end_s)) == 30
    assert (await agreed(world, month)).billed == 30


async def test_a_yearly_fee_beside_monthly_usage(world: World) -> None:
    """The periods of usage are those of the metered price."""
    await world.subscribe()
    month = await newest(world)
    product = world.fake.world.prices[world.price()]["product"]
    yearly = {"product": product, "currency": "usd", "unit_amount": 9_900, "recurring": {"interval": "year"}}
    price = world.fake.catalogue.create_price({**yearly, "metadata": {"sidecar_plan": "pro"}})
    world.fake.subscriptions.update(world.subscription, {"items": [{"price": price["id"]}]})
    await world.read()
    assert (await world.store.account("acme")).periods == (month,)
    await use(world, 30, at_s=month.end_s - 20)
    await end_of(world, month)
    assert (await agreed(world, month)).billed == 30


async def test_usage_known_after_the_invoice_is_held_and_carried_by_hand(world: World) -> None:
    """It is on the next invoice once a person says so, and the book says where it comes from."""
    await world.subscribe()
    month = await newest(world)
    await use(world, 5, at_s=month.end_s - 20)
    await end_of(world, month)
    await world.books.use(9, ago_s=world.now_s - (month.end_s - 300))
    await world.pass_time(1_200, 300)
    (held,) = await world.books.rows("held")
    assert (held.value, held.period) == (9, month)
    following = await newest(world)
    await world.store.carry(held.id, following, at_ns=world.clock.wall_ns(), note="by hand")
    await use(world, 70, at_s=following.end_s - 20)
    await end_of(world, following)
    assert invoiced(world, (month.start_s, month.end_s)) == 5
    assert invoiced(world, (following.start_s, following.end_s)) == 79
