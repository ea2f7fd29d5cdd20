"""The model without sockets, and the check against Stripe's document itself."""

import base64
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from demo.fakestripe import KEY, FakeStripe, Lost, Refusal
from demo.fakestripe.catalogue import charges, period_end
from demo.fakestripe.params import nested
from sidecar.core.clock import ManualClock
from tests.fakestripe.openapi import Validated

HEADERS = {"Authorization": f"Bearer {KEY}"}
MONTHLY = {"interval": "month", "interval_count": 1}


def fake() -> FakeStripe:
    return FakeStripe(ManualClock())


def test_direct_methods():
    model = fake()
    model.meter("calls")
    customer, now = model.customer(), model.world.now_ns()
    stamp = now // 10**9
    model.meter_event("calls", customer, "5", "a", stamp, now)
    with pytest.raises(Refusal, match="already exists with identifier a"):
        model.meter_event("calls", customer, "5", "a", stamp, now + 1)
    assert model.summary("calls", customer, stamp, stamp + 1, now) == 5
    assert model.summary("calls", customer, stamp - 60, stamp, now) == 0


def test_a_zombie_of_handle():
    model = fake()
    model.meter("calls")
    customer = model.customer()
    event = {"event_name": "calls", "payload": {"stripe_customer_id": customer, "value": "3"}, "identifier": "z"}
    model.fail_next("zombie", seconds=60)
    with pytest.raises(Lost):
        model.handle("POST", "/v1/billing/meter_events", HEADERS, event)
    model.advance(60)
    assert model.handle("POST", "/v1/billing/meter_events", HEADERS, event).status == 400


def test_the_rate_limit_is_per_second():
    model = fake()
    model.knobs.calls_per_s = 2
    assert [model.handle("GET", "/v1/customers", HEADERS, {}).status for _ in range(3)] == [200, 200, 429]
    model.advance(1)
    reply = model.handle("GET", "/v1/customers", HEADERS, {})
    assert (reply.status, set(reply.headers)) == (200, {"Request-Id", "Date", "Content-Type"})


def test_an_unpaid_beginning_expires():
    model = fake()
    meter, customer = model.meter("calls"), model.customer()
    product = model.catalogue.create_product({"name": "x"})["id"]
    recurring = {"interval": "month"}
    price = model.catalogue.create_price(
        {"product": product, "currency": "eur", "unit_amount": "900", "recurring": recurring}
    )
    assert meter["status"] == "active"
    model.knobs.payments[customer] = "fail"
    sub = model.subscriptions.create({"customer": customer, "items": [{"price": price["id"]}]})
    assert sub["status"] == "incomplete"
    model.advance(23 * 3600)
    assert sub["status"] == "incomplete_expired"
    assert model.world.invoices[sub["latest_invoice"]]["status"] == "void"


def test_same_seed_same_ids():
    assert fake().customer() == fake().customer()
    assert FakeStripe(ManualClock(), 1).customer() != fake().customer()


def test_forms():
    pairs = [("items[0][price]", "p"), ("expand[]", "a"), ("expand[]", "b"), ("metadata[k]", "v")]
    assert nested(pairs) == {"items": [{"price": "p"}], "expand": ["a", "b"], "metadata": {"k": "v"}}
    with pytest.raises(ValueError, match="both"):
        nested([("a", "1"), ("a[b]", "2")])


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {KEY}", 200),
        (f"Basic {base64.b64encode(KEY.encode() + b':').decode()}", 200),
        ("Basic c2tfdGVzdF93cm9uZzo=", 401),
        ("Basic !", 401),
        (KEY, 401),
        ("", 401),
    ],
)
def test_keys_come_as_in_stripes_examples(authorization: str, status: int):
    """``curl -u sk_test_...:`` too."""
    assert fake().handle("GET", "/v1/prices", {"authorization": authorization}, {}).status == status


def test_the_anchor_keeps_its_day():
    at = int(datetime(2026, 1, 31, 13, 5, 7, tzinfo=UTC).timestamp())
    days, start = [], at
    for _ in range(4):
        start = period_end(at, MONTHLY, start)
        days.append(datetime.fromtimestamp(start, UTC).strftime("%m-%d %H:%M:%S"))
    assert days == ["02-28 13:05:07", "03-31 13:05:07", "04-30 13:05:07", "05-31 13:05:07"]


@given(st.integers(0, 10**9), st.lists(st.integers(1, 10**6), min_size=1, max_size=5, unique=True))
def test_tiers_cover_every_unit_once(quantity: int, tops: list[int]):
    tiers = [{"up_to": top, "unit_amount_decimal": "1", "flat_amount_decimal": None} for top in [*sorted(tops), None]]
    price = {"tiers": tiers, "tiers_mode": "graduated", "transform_quantity": None}
    rows = list(charges(price, Decimal(quantity)))
    assert sum(row[0] for row in rows) == sum(row[1] for row in rows) == quantity


def test_the_check_sees_misfits():
    check = Validated(web.Application())
    check.request("post", "/v1/billing/meter_events", {"event_name": "x", "payload": {"value": "1"}})
    check.assert_clean()
    check.request("post", "/v1/billing/meter_events", {"event_name": "x", "payload": {}, "value": "1"})
    check.request("get", "/v1/billing/meters/{id}/event_summaries", {"customer": "c"})
    check.answer("post", "/v1/billing/meter_events", 200, {"object": "billing.meter_event"})
    check.answer("get", "/v1/customers", 400, {"error": "text"})
    assert len(check.faults) == 4
    with pytest.raises(AssertionError, match="Additional properties"):
        check.assert_clean()
