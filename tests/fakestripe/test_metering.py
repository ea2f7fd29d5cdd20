"""Meters, events and summaries, driven by the official SDK."""

import asyncio

import aiohttp
import pytest
import stripe

from tests.fakestripe.conftest import Account


async def meter(account: Account, **more: str) -> stripe.billing.Meter:
    given = {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}, **more}
    return await account.client().v1.billing.meters.create_async(given)


async def send(account: Account, customer: str, value: str, identifier: str, stamp: int | None = None, **options: str):
    given = {
        "event_name": "calls",
        "payload": {"stripe_customer_id": customer, "value": value},
        "identifier": identifier,
        "timestamp": stamp or account.now_s,
    }
    return await account.client().v1.billing.meter_events.create_async(given, options)


async def total(account: Account, meter_id: str, customer: str, start: int, end: int) -> float:
    given = {"customer": customer, "start_time": start, "end_time": end}
    rows = await account.client().v1.billing.meters.event_summaries.list_async(meter_id, given)
    return sum(row.aggregated_value for row in rows.data)


async def test_meter_lifecycle(account: Account):
    made, client = await meter(account), account.client()
    with pytest.raises(stripe.InvalidRequestError, match="already exists with event name"):
        await meter(account)
    await client.v1.billing.meters.update_async(made.id, {"display_name": "Other"})
    assert (await client.v1.billing.meters.retrieve_async(made.id)).display_name == "Other"
    assert (await client.v1.billing.meters.deactivate_async(made.id)).status == "inactive"
    assert not (await client.v1.billing.meters.list_async({"status": "active"})).data
    assert (await client.v1.billing.meters.reactivate_async(made.id)).status == "active"


async def test_duplicate_is_refused_for_a_day(account: Account):
    made, customer = await meter(account), account.fake.customer()
    start = account.now_s
    await send(account, customer, "5", "a")
    account.fake.advance(86_399)
    with pytest.raises(stripe.InvalidRequestError, match="already exists with identifier a") as refused:
        await send(account, customer, "5", "a", start)
    assert refused.value.code is None
    assert refused.value.headers["Stripe-Should-Retry"] == "false"
    assert await total(account, made.id, customer, start, start + 60) == 5
    account.fake.advance(1)
    await send(account, customer, "5", "a", start)
    assert await total(account, made.id, customer, start, start + 60) == 10


@pytest.mark.parametrize(
    ("value", "shift", "code"),
    [
        ("1234567890123456", 0, "meter_event_value_too_many_digits"),
        ("1", -35 * 86_400 - 1, "timestamp_too_far_in_past"),
        ("1", 301, "timestamp_in_future"),
    ],
)
async def test_what_is_refused_at_once(account: Account, value: str, shift: int, code: str):
    await meter(account)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await send(account, account.fake.customer(), value, "a", account.now_s + shift)
    assert refused.value.code == code


async def test_what_is_refused_later_is_told_by_a_thin_event(account: Account):
    made = await meter(account)
    await send(account, "cus_unknown", "1", "a")
    account.fake.advance(10)
    thin = [e for e in account.fake.world.events.values() if e["object"] == "v2.core.event"]
    event = await account.client().v2.core.events.retrieve_async(thin[0]["id"])
    assert event.type == "v1.billing.meter.error_report_triggered"
    assert event.related_object.id == made.id
    kind = event.data.reason.error_types[0]
    assert (kind.code, kind.sample_errors[0].request.identifier) == ("meter_event_customer_not_found", "a")


async def test_summaries_align_group_and_page(account: Account):
    made, customer = await meter(account), account.fake.customer()
    start = account.now_s - 40 * 3600
    for hour in range(40):
        await send(account, customer, "2", f"h{hour}", start + hour * 3600 + 30)
    given = {"customer": customer, "start_time": start, "end_time": account.now_s, "value_grouping_window": "hour"}
    service = account.client().v1.billing.meters.event_summaries
    first = await service.list_async(made.id, given)
    assert (len(first.data), first.has_more) == (10, True)
    assert sum([row.aggregated_value async for row in first.auto_paging_iter()]) == 80.0
    assert await total(account, made.id, customer, start, start + 60) == 2
    with pytest.raises(stripe.InvalidRequestError, match="aligned"):
        await total(account, made.id, customer, start + 1, start + 60)


async def test_summary_lags_and_cancel_takes_back(account: Account):
    made, customer, start = await meter(account), account.fake.customer(), account.now_s
    account.fake.knobs.summary_lag_s = 120
    await send(account, customer, "5", "a")
    assert await total(account, made.id, customer, start, start + 60) == 0
    account.fake.advance(120)
    assert await total(account, made.id, customer, start, start + 60) == 5
    adjustment = {"type": "cancel", "event_name": "calls", "cancel": {"identifier": "a"}}
    await account.client().v1.billing.meter_event_adjustments.create_async(adjustment)
    assert await total(account, made.id, customer, start, start + 60) == 0


async def test_an_hourly_meter_keeps_the_newest(account: Account):
    made, customer, start = await meter(account, event_time_window="hour"), account.fake.customer(), account.now_s
    for value in ("5", "9", "7"):
        await send(account, customer, value, f"v{value}", start + 30)
    assert await total(account, made.id, customer, start, start + 3600) == 7


async def test_concurrent_events_of_one_customer_conflict(account: Account):
    await meter(account)
    customer = account.fake.customer()
    account.fake.knobs.processing_s = 0.05
    answers = await asyncio.gather(*(send(account, customer, "1", f"c{n}") for n in range(2)), return_exceptions=True)
    (error,) = [a for a in answers if isinstance(a, BaseException)]
    assert isinstance(error, stripe.StripeError)
    assert error.http_status == 409
    assert error.json_body["error"]["code"] == "too_many_concurrent_requests"


@pytest.mark.parametrize(
    ("kind", "error", "counted"),
    [
        ("drop_before", stripe.APIConnectionError, 0),
        ("drop_after", stripe.APIConnectionError, 5),
        ("cut_body", (aiohttp.ClientPayloadError, stripe.APIConnectionError), 5),
        ("error_before", stripe.APIError, 0),
        ("error_after", stripe.APIError, 5),
        ("unavailable", stripe.APIError, 0),
        ("html", stripe.APIError, 0),
        ("rate_limit", stripe.RateLimitError, 0),
        ("conflict", stripe.APIError, 0),
    ],
)
async def test_faults(account: Account, kind: str, error, counted: int):
    made, customer, start = await meter(account), account.fake.customer(), account.now_s
    account.fake.fail_next(kind, "/v1/billing/meter_events")
    with pytest.raises(error):
        await send(account, customer, "5", "a")
    assert await total(account, made.id, customer, start, start + 60) == counted


async def test_a_stored_failure_is_replayed(account: Account):
    await meter(account)
    customer = account.fake.customer()
    account.fake.fail_next("error_before", "/v1/billing/meter_events")
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            await send(account, customer, "5", "a", idempotency_key="k")
    with pytest.raises(stripe.IdempotencyError):
        await send(account, customer, "6", "a", idempotency_key="k")
    await send(account, customer, "5", "a", idempotency_key="k2")


async def test_a_zombie_arrives_hours_later(account: Account):
    made, customer, start = await meter(account), account.fake.customer(), account.now_s
    account.fake.fail_next("zombie", "/v1/billing/meter_events", seconds=7200)
    with pytest.raises(stripe.APIConnectionError):
        await send(account, customer, "5", "a")
    account.fake.advance(7199)
    assert await total(account, made.id, customer, start, start + 60) == 0
    account.fake.advance(1)
    assert await total(account, made.id, customer, start, start + 60) == 5


async def test_keys(account: Account):
    with pytest.raises(stripe.AuthenticationError):
        await account.client("sk_test_wrong").v1.billing.meters.list_async()
    reader = account.client("rk_test_read")
    await reader.v1.billing.meters.list_async()
    with pytest.raises(stripe.PermissionError, match="rak_customer_write"):
        await reader.v1.customers.create_async({})


async def test_v2_events_are_validated_at_once(account: Account):
    made, customer, start = await meter(account), account.fake.customer(), account.now_s
    service = account.client().v2.billing.meter_events
    given = {"event_name": "calls", "payload": {"stripe_customer_id": customer, "value": "4"}, "identifier": "a"}
    await service.create_async(given)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await service.create_async(given)
    assert refused.value.code == "duplicate_meter_event"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await service.create_async({**given, "event_name": "other", "identifier": "b"})
    assert refused.value.code == "no_meter"
    assert await total(account, made.id, customer, start, start + 60) == 4


async def test_a_delay_outlasts_the_callers_patience(account: Account):
    await meter(account)
    account.fake.fail_next("delay", "/v1/billing/meters", seconds=0.3)
    http = stripe.AIOHTTPClient(timeout=0.05)
    account.opened.append(http)
    client = stripe.StripeClient("sk_test_fake", base_addresses={"api": account.url}, http_client=http)
    with pytest.raises(stripe.APIConnectionError):
        await client.v1.billing.meters.list_async()
