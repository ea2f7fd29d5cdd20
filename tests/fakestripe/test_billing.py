"""Catalogue, subscriptions, invoices, checkout and webhooks, driven by the official SDK."""

import stripe
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from demo.fakestripe import Endpoint
from tests.fakestripe.conftest import START_S, Account

DAY_S = 86_400


async def price(account: Account, **more: object) -> tuple[str, str]:
    """A metered price and its meter's event name."""
    client = account.client()
    meter = account.fake.meters.named("calls") or account.fake.meter("calls")
    product = await client.v1.products.create_async({"name": "API"})
    given = {
        "product": product.id,
        "currency": "eur",
        "recurring": {"interval": "month", "usage_type": "metered", "meter": meter["id"]},
        **({"unit_amount": 3} | more),
    }
    if "tiers" in more:
        del given["unit_amount"]
    return (await client.v1.prices.create_async(given)).id, "calls"


async def subscribe(account: Account, **more: object) -> tuple[str, str]:
    """(customer, subscription) of a metered price."""
    customer = account.fake.customer(email="a@example.com")
    given = {"customer": customer, "items": [{"price": (await price(account))[0]}], **more}
    return customer, (await account.client().v1.subscriptions.create_async(given)).id


def use(account: Account, customer: str, value: int, stamp: int, key: str) -> None:
    account.fake.meter_event("calls", customer, str(value), key, stamp, account.clock.wall_ns())


async def invoices(account: Account, customer: str, **more: str) -> list[stripe.Invoice]:
    return (await account.client().v1.invoices.list_async({"customer": customer, **more})).data


async def test_catalogue(account: Account):
    client = account.client()
    tiers = [{"up_to": 100, "unit_amount": 2}, {"up_to": "inf", "unit_amount_decimal": "0.5", "flat_amount": 7}]
    tiered = {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": tiers, "lookup_key": "calls_v1"}
    first, _ = await price(account, **tiered)
    assert not hasattr(await client.v1.prices.retrieve_async(first), "tiers")
    whole = await client.v1.prices.retrieve_async(first, {"expand": ["tiers"]})
    assert [t.up_to for t in whole.tiers or []] == [100, None]
    second, _ = await price(account, lookup_key="calls_v1", transfer_lookup_key=True)
    listed = await client.v1.prices.list_async({"lookup_keys": ["calls_v1"], "active": True})
    assert [p.id for p in listed.data] == [second]
    await client.v1.prices.update_async(second, {"active": False, "metadata": {"a": "b"}})
    assert not (await client.v1.prices.list_async({"lookup_keys": ["calls_v1"], "active": True})).data


async def test_graduated_lines_and_packs(account: Account):
    tiers = [{"up_to": 100, "unit_amount": 2}, {"up_to": "inf", "unit_amount_decimal": "0.5", "flat_amount": 7}]
    graduated, _ = await price(account, billing_scheme="tiered", tiers_mode="graduated", tiers=tiers)
    packs, _ = await price(account, unit_amount=10, transform_quantity={"divide_by": 100, "round": "up"})
    customer = account.fake.customer()
    given = {"customer": customer, "items": [{"price": graduated}, {"price": packs}]}
    await account.client().v1.subscriptions.create_async(given)
    use(account, customer, 251, START_S + 60, "a")
    account.fake.advance(28 * DAY_S)
    (draft,) = await invoices(account, customer, status="draft")
    assert [(str(line.quantity_decimal), line.amount) for line in draft.lines.data] == [
        ("100", 200),
        ("151", 76),
        ("0", 7),
        ("251", 30),
    ]


async def test_renewal_bills_the_period_until_the_invoice_is_final(account: Account):
    customer, sub = await subscribe(account)
    client = account.client()
    item = (await client.v1.subscriptions.retrieve_async(sub))["items"].data[0]
    end = item.current_period_end
    assert end == START_S + 28 * DAY_S  # of 31 January: 28 February
    use(account, customer, 5, START_S + 60, "a")
    account.fake.advance(end - account.now_s)
    item = (await client.v1.subscriptions.retrieve_async(sub))["items"].data[0]
    assert item.current_period_end == end + 31 * DAY_S  # and 31 March again
    use(account, customer, 7, end - 30, "late")
    use(account, customer, 100, end, "next")
    (draft,) = await invoices(account, customer, status="draft")
    assert (draft.lines.data[0].quantity, draft.automatically_finalizes_at) == (12, end + 3600)
    account.fake.advance(3600)
    use(account, customer, 1000, end - 30, "too late")
    paid = await client.v1.invoices.retrieve_async(draft.id)
    assert (paid.status, paid.total, str(paid.lines.data[0].quantity_decimal)) == ("paid", 36, "12")
    account.fake.advance(31 * DAY_S)
    assert [i.total for i in await invoices(account, customer)] == [300, 36, 0]


async def test_dunning_and_recovery(account: Account):
    customer, sub = await subscribe(account)
    service = account.client().v1.subscriptions
    use(account, customer, 5, START_S + 60, "a")
    account.fake.knobs.payments[customer] = "fail"
    account.fake.advance(28 * DAY_S + 3600)
    assert (await service.retrieve_async(sub)).status == "past_due"
    account.fake.advance(14 * DAY_S)
    assert (await service.retrieve_async(sub)).status == "unpaid"
    account.fake.knobs.payments[customer] = "ok"
    (owed,) = await invoices(account, customer, status="open")
    await account.client().v1.invoices.pay_async(owed.id)
    assert (await service.retrieve_async(sub)).status == "active"
    kinds = [e.type for e in (await account.client().v1.events.list_async({"limit": 100})).data]
    assert kinds.count("invoice.payment_failed") == 4


async def test_trial_pause_and_cancel(account: Account):
    customer, sub = await subscribe(account, trial_period_days=7)
    service = account.client().v1.subscriptions
    use(account, customer, 5, START_S + 60, "free")
    account.fake.advance(5 * DAY_S)
    assert "customer.subscription.trial_will_end" in [e["type"] for e in account.fake.world.events.values()]
    account.fake.advance(2 * DAY_S + 3600)
    assert (await service.retrieve_async(sub)).status == "active"
    await service.update_async(sub, {"pause_collection": {"behavior": "void"}, "cancel_at_period_end": True})
    use(account, customer, 9, START_S + 8 * DAY_S - 86_400 + 60, "paid")
    account.fake.advance(32 * DAY_S)
    assert (await service.retrieve_async(sub)).status == "canceled"
    newest, *_ = await invoices(account, customer)
    assert (newest.total, newest.status) == (27, "void")


async def test_an_immediate_cancel_bills_no_usage(account: Account):
    customer, sub = await subscribe(account)
    use(account, customer, 5, START_S + 60, "a")
    await account.client().v1.subscriptions.cancel_async(sub)
    account.fake.advance(40 * DAY_S)
    assert [i.total for i in await invoices(account, customer)] == [0]


async def test_checkout_and_portal(account: Account):
    client = account.client()
    given = {
        "mode": "subscription",
        "line_items": [{"price": (await price(account))[0]}],
        "success_url": "https://example.com/ok",
        "client_reference_id": "tenant-1",
        "subscription_data": {"metadata": {"tenant": "tenant-1"}},
    }
    session = await client.v1.checkout.sessions.create_async(given)
    account.fake.sessions.complete(session.id)
    done = await client.v1.checkout.sessions.retrieve_async(session.id)
    assert (done.status, done.client_reference_id) == ("complete", "tenant-1")
    sub = await client.v1.subscriptions.retrieve_async(str(done.subscription))
    assert sub.metadata["tenant"] == "tenant-1"
    portal = await client.v1.billing_portal.sessions.create_async({"customer": str(done.customer)})
    assert portal.url.startswith("https://billing.stripe.com/")


async def test_webhooks_are_signed_repeated_and_delay_finalisation(account: Account):
    got: list[stripe.Event] = []
    refuse = True

    async def hear(request: web.Request) -> web.Response:
        signature = request.headers["Stripe-Signature"]
        event = stripe.Webhook.construct_event(await request.read(), signature, "whsec_x", tolerance=10**9)
        got.append(event)
        return web.Response(status=500 if refuse else 200)

    app = web.Application()
    app.router.add_post("/hook", hear)
    async with TestServer(app) as hook, ClientSession() as session:
        account.fake.webhooks.endpoints.append(Endpoint(str(hook.make_url("/hook")), "whsec_x"))
        account.fake.knobs.webhook_twice_share = 1.0
        customer, _ = await subscribe(account)
        account.fake.advance(28 * DAY_S)
        await account.server.deliver(session)
        assert [e.type for e in got].count("invoice.created") == 4
        account.fake.advance(3700)
        (draft,) = await invoices(account, customer, status="draft")
        refuse = False
        await account.server.deliver(session)
        account.fake.run_due()
        assert (await account.client().v1.invoices.retrieve_async(draft.id)).status == "paid"


async def test_thin_webhooks_carry_no_data_and_lost_ones_stay_listed(account: Account):
    got: list[str] = []

    async def hear(request: web.Request) -> web.Response:
        body, signature = await request.text(), request.headers["Stripe-Signature"]
        notice = account.client().parse_event_notification(body, signature, "whsec_t", tolerance=10**9)
        assert '"data"' not in body
        got.append(notice.type)
        return web.Response()

    app = web.Application()
    app.router.add_post("/thin", hear)
    async with TestServer(app) as hook, ClientSession() as session:
        account.fake.webhooks.endpoints.append(Endpoint(str(hook.make_url("/thin")), "whsec_t", thin=True))
        use(account, "cus_none", 1, account.now_s, "a")
        account.fake.advance(10)
        assert await account.server.deliver(session) == 1
        account.fake.knobs.webhook_loss_share = 1.0
        use(account, "cus_none", 1, account.now_s, "b")
        account.fake.advance(10)
        assert await account.server.deliver(session) == 0
    assert got == ["v1.billing.meter.no_meter_found"]
    assert len((await account.client().v2.core.events.list_async()).data) == 2


async def test_another_price_bills_or_drops_by_the_billing_mode(account: Account):
    service = account.client().v1.subscriptions
    for mode, totals in (("flexible", [15, 0]), ("classic", [0])):
        customer, sub = await subscribe(account, billing_mode={"type": mode})
        item = (await service.retrieve_async(sub))["items"].data[0]
        use(account, customer, 5, account.now_s, mode)
        account.fake.advance(60)
        other, _ = await price(account, unit_amount=4)
        await service.update_async(sub, {"items": [{"id": item.id, "price": other}]})
        assert [i.total for i in await invoices(account, customer)] == totals
