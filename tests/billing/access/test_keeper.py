"""Accounts follow Stripe, by webhook or without, whatever the order, and never on old news."""

import asyncio
import logging

import pytest

from tests.billing.access.conftest import RESTRICTED, House


@pytest.fixture
def acme(house: House) -> str:
    """A tenant of the policies and its customer."""
    customer = house.fake.customer()
    house.declare(acme=customer)
    return customer


async def test_a_month_that_is_not_paid(house: House, acme: str) -> None:
    """The whole way: bought, unpaid, grace, read-only, Stripe gives up, suspended, paid."""
    house.subscribe(acme)
    await house.inbox.round()
    assert await house.access_of() == ("active", "pro")
    house.fake.knobs.payments[acme] = "fail"
    seen = []
    for _ in range(90):
        await house.advance(1)
        state = (await house.access_of())[0]
        if not seen or seen[-1] != state:
            seen.append(state)
    assert seen == ["active", "grace", "read_only", "suspended"]
    house.fake.knobs.payments.clear()
    for invoice in [one for one in house.fake.world.invoices.values() if one["status"] == "open"]:
        house.fake.invoices.act(invoice["id"], "pay")
    await house.advance(0.01)
    assert await house.access_of() == ("active", "pro")
    assert await house.told() == ["access.grace", "access.read_only", "access.suspended", "access.active"]
    assert await house.store.keys_version() >= 5


async def test_any_order_and_any_number_of_deliveries(house: House, acme: str) -> None:
    """Old events after new ones, each three times: what is so now is read, so nothing goes back."""
    sub = house.subscribe(acme)
    house.fake.subscriptions.cancel(sub["id"], {})
    house.subscribe(acme)
    new = await house.deliver(times=3)
    assert new == len(house.fake.world.events)
    house.fake.calls.clear()
    await house.inbox.work_off()
    assert await house.access_of() == ("active", "pro")
    assert [path for _, path, _ in house.fake.calls] == ["/v1/subscriptions"], "read once for all of them"
    assert await house.deliver() == 0


async def test_everything_lost_is_found_by_polling(house: House, acme: str) -> None:
    """gitpod-io/gitpod#18810: events that were answered were lost all the same."""
    await house.inbox.round()
    house.subscribe(acme)
    await house.advance(0.01)
    assert await house.access_of() == ("active", "pro")


async def test_the_sweep_finds_what_the_list_of_events_has_not(house: House, acme: str) -> None:
    await house.inbox.round()
    house.subscribe(acme)
    house.fake.world.events.clear()
    await house.advance(0.2)
    assert (await house.access_of())[1] is None
    await house.advance(0.2)
    assert await house.access_of() == ("active", "pro")


async def test_nobody_is_cut_off_while_stripe_is_away(house: House, acme: str) -> None:
    """A step waits a day for Stripe; then it is taken. One whose debt was paid meanwhile is not cut off."""
    house.subscribe(acme)
    house.fake.knobs.payments[acme] = "fail"
    while (await house.store.account("acme") is None) or (await house.access_of())[0] != "grace":
        await house.advance(1)
    house.fake.fail_next("unavailable", "/v1", times=10**6)
    account = await house.store.account("acme")
    assert account is not None
    assert account.until_ns is not None
    left_s = (account.until_ns - house.clock.wall_ns()) / 1e9
    house.clock.advance(left_s + 23 * 3600)
    await house.inbox.round()
    assert (await house.access_of())[0] == "grace"
    house.clock.advance(2 * 3600)
    await house.inbox.round()
    assert (await house.access_of())[0] == "read_only"
    assert house.counts.failures > 0
    house.fake.knobs.faults.clear()
    house.fake.knobs.payments.clear()
    for invoice in [one for one in house.fake.world.invoices.values() if one["status"] == "open"]:
        house.fake.invoices.act(invoice["id"], "pay")
    await house.advance(0.1)
    assert (await house.access_of())[0] == "active"


async def test_an_event_waits_and_is_tried_again(house: House, acme: str) -> None:
    await house.keeper.refresh("acme", acme)
    house.subscribe(acme)
    house.fake.fail_next("unavailable", "/v1/subscriptions", times=1)
    await house.deliver("customer.subscription")
    await house.inbox.work_off()
    assert house.counts.events == {"postponed": 1}
    house.clock.advance(6)
    await house.inbox.work_off()
    assert house.counts.events == {"postponed": 1, "done": 1}
    assert await house.access_of() == ("active", "pro")


async def test_the_newest_reading_wins_on_two_nodes(house: House, acme: str) -> None:
    """A slow reading that began before the payment is thrown away and done again."""
    sub = house.subscribe(acme)
    await house.keeper.refresh("acme", acme)
    house.fake.world.subscriptions[sub["id"]]["status"] = "past_due"
    await asyncio.gather(*(house.keeper.refresh("acme", acme) for _ in range(5)))
    assert (await house.access_of())[0] == "grace"
    house.fake.world.subscriptions[sub["id"]]["status"] = "active"
    await asyncio.gather(*(house.keeper.refresh("acme", acme) for _ in range(5)))
    assert (await house.access_of())[0] == "active"
    assert await house.told() == ["access.grace", "access.active"]


async def test_a_fallback_plan_and_back(house: House, acme: str) -> None:
    house.access(fallback_plan="free")
    sub = house.subscribe(acme)
    await house.inbox.round()
    house.fake.subscriptions.cancel(sub["id"], {})
    await house.advance(0.01)
    assert await house.access_of() == ("active", "free")
    house.subscribe(acme)
    await house.advance(0.01)
    assert await house.access_of() == ("active", "pro")
    assert await house.told() == ["access.plan", "access.plan"]


async def test_a_restart_reads_three_days_back(house: House) -> None:
    """Somebody bought while nobody ran and no webhook was taken."""
    session = house.checkout(sidecar="sidecar", sidecar_tenant="late", sidecar_plan="pro")
    house.fake.sessions.complete(session["id"])
    house.fake.advance(2 * 86_400)
    house.inbox = house.another_inbox()
    await house.inbox.round()
    await house.inbox.round()
    assert await house.access_of("late") == ("active", "pro")


async def test_a_restricted_key_is_told_what_it_lacks(
    house: House, acme: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Everybody keeps what they have, and the permission is named."""
    house.subscribe(acme)
    await house.inbox.round()
    await house.client.close()
    house.use(RESTRICTED)
    with caplog.at_level(logging.WARNING):
        await house.inbox.round()
    assert "Subscriptions: Read (rak_subscription_read)" in caplog.text
    assert "Subscriptions: Read" in house.counts.faults["subscriptions"]
    assert RESTRICTED not in caplog.text
    assert await house.access_of() == ("active", "pro")
    await house.client.close()
    house.use("sk_test_fake")
    await house.inbox.sweep()
    await house.keeper.refresh("acme", acme)
    assert house.counts.faults == {}


async def test_many_customers_are_swept_in_short_rounds(house: House) -> None:
    """A round reads a few of them, so that a lead does not run out in it; all are read in the end."""
    house.declare(**{f"t{number:04}": house.fake.customer() for number in range(100)})
    rounds = 0
    while len(await house.store.accounts(limit=1000)) < 100:
        house.fake.calls.clear()
        await house.inbox.round()
        rounds += 1
        assert sum(path == "/v1/subscriptions" for _, path, _ in house.fake.calls) <= 20
    assert rounds == 5


async def test_a_trial_is_announced_and_becomes_paid(house: House, acme: str) -> None:
    """14 days from the 31st of January on; told three days before the end, once."""
    house.subscribe(acme, trial_period_days=14)
    await house.inbox.round()
    account = await house.store.account("acme")
    assert account is not None
    assert account.status == "trialing"
    told = []
    for day in range(1, 16):
        await house.advance(1)
        told += [day] * ("trial.ending" in await house.told() and not told)
    assert told == [11]
    assert await house.told() == ["trial.ending"]
    account = await house.store.account("acme")
    assert account is not None
    assert (account.status, account.access.value) == ("active", "active")


async def test_a_trial_whose_first_invoice_fails_has_its_grace(house: House, acme: str) -> None:
    house.subscribe(acme, trial_period_days=14)
    house.fake.knobs.payments[acme] = "fail"
    states = []
    for _ in range(30):
        await house.advance(1)
        states.append((await house.access_of())[0])
    assert states.index("grace") in (13, 14)
    assert 6 <= states.index("read_only") - states.index("grace") <= 8


async def test_cancelled_for_the_periods_end_is_served_until_then(house: House, acme: str) -> None:
    """A month from any day is served to its last second; the account says when it ends."""
    sub = house.subscribe(acme)
    house.fake.subscriptions.update(sub["id"], {"cancel_at_period_end": "true"})
    await house.inbox.round()
    account = await house.store.account("acme")
    assert account is not None
    assert account.ends_s == sub["items"]["data"][0]["current_period_end"]
    left_s = account.ends_s - house.clock.wall_ns() // 10**9
    await house.advance((left_s - 60) / 86_400)
    assert (await house.access_of())[0] == "active"
    await house.advance(120 / 86_400)
    assert (await house.access_of())[0] == "read_only"


@pytest.mark.parametrize("metadata", [{}, {"sidecar": "sidecar", "sidecar_tenant": "acme", "sidecar_plan": "pro"}])
async def test_an_upgrade_in_the_middle_of_a_month(house: House, acme: str, metadata: dict[str, str]) -> None:
    """The plan follows at once, also of a subscription from our own checkout, whose metadata go on naming the plan that
    was bought first: the customer's portal changes the price alone. The periods stay without a gap."""
    sub = house.subscribe(acme, metadata=metadata)
    await house.inbox.round()
    product = house.fake.catalogue.create_product({"name": "free", "id": "sidecar_free"})
    price = {"product": product["id"], "currency": "usd", "unit_amount": 100, "recurring": {"interval": "month"}}
    small = house.fake.catalogue.create_price(price)["id"]
    item = house.fake.world.subscriptions[sub["id"]]["items"]["data"][0]["id"]
    house.fake.subscriptions.update(sub["id"], {"items": [{"id": item, "price": small}]})
    await house.advance(0.01)
    assert await house.access_of() == ("active", "free")
    assert await house.told() == ["access.plan"]
