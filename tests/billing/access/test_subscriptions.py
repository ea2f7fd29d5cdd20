"""Which of a customer's subscriptions counts, and what is read out of it."""

from typing import Any

from sidecar.billing.access.subscriptions import chosen
from sidecar.core.billing import Period

PLANS = ("free", "pro", "team")


def sub(id: str, status: str, *, key: str | None = "sidecar:pro:base", created: int = 1, **more: Any) -> dict[str, Any]:
    price = {"lookup_key": key, "product": "prod_x", "metadata": {}}
    item = {"price": price, "current_period_start": 100, "current_period_end": 200}
    return {"id": id, "status": status, "created": created, "metadata": {}, "items": {"data": [item]}, **more}


def test_the_paid_one_counts_whatever_came_last() -> None:
    found = [sub("sub_2", "canceled", created=9), sub("sub_1", "active"), sub("sub_3", "incomplete", created=10)]
    seen = chosen(found, "cus_1", "acme", "sidecar", PLANS)
    assert (seen.subscription, seen.status, seen.plan) == ("sub_1", "active", "pro")
    assert seen.periods == (Period(100, 200),)


def test_other_things_of_the_customer_lock_nothing() -> None:
    """An unpaid newsletter is not an unpaid API."""
    seen = chosen([sub("sub_1", "unpaid", key="newsletter")], "cus_1", "acme", "sidecar", PLANS)
    assert (seen.subscription, seen.status) == (None, "")


def test_a_customer_with_two_tenants_pays_for_each() -> None:
    found = [
        sub("sub_1", "active", metadata={"sidecar_tenant": "acme"}),
        sub("sub_2", "past_due", metadata={"sidecar_tenant": "acme-eu"}),
    ]
    assert chosen(found, "cus_1", "acme", "sidecar", PLANS).status == "active"
    assert chosen(found, "cus_1", "acme-eu", "sidecar", PLANS).status == "past_due"


def test_the_plan_outlives_its_lookup_key() -> None:
    """A price that was replaced loses its lookup key; metadata, or the product's id, still say the plan."""
    one = sub("sub_1", "active", key=None)
    one["items"]["data"][0]["price"]["metadata"] = {"sidecar": "sidecar", "plan": "team"}
    assert chosen([one], "cus_1", "acme", "sidecar", PLANS).plan == "team"
    one["items"]["data"][0]["price"] = {"lookup_key": None, "product": "sidecar_pro", "metadata": {}}
    assert chosen([one], "cus_1", "acme", "sidecar", PLANS).plan == "pro"
    one["metadata"] = {"sidecar_plan": "gone"}
    assert chosen([one], "cus_1", "acme", "sidecar", PLANS).plan == "pro", "an unknown plan is passed over"


def test_ends_are_read() -> None:
    seen = chosen([sub("sub_1", "active", cancel_at_period_end=True)], "cus_1", "acme", "sidecar", PLANS)
    assert seen.ends_s == 200
    seen = chosen([sub("sub_1", "canceled", ended_at=150)], "cus_1", "acme", "sidecar", PLANS)
    assert (seen.ended_s, seen.periods) == (150, (Period(100, 150),))


def test_nonsense_is_no_exception() -> None:
    for broken in ({}, {"items": []}, {"items": {"data": [1]}}, sub("sub_1", "active", metadata=[1], cancel_at="x")):
        chosen([broken], "cus_1", "acme", "sidecar", PLANS)


def test_the_price_says_more_than_the_metadata_of_the_first_purchase() -> None:
    """The customer's portal changes the price and leaves the subscription's metadata."""
    one = sub("sub_1", "active", key="sidecar:team:base", metadata={"sidecar_tenant": "acme", "sidecar_plan": "pro"})
    assert chosen([one], "cus_1", "acme", "sidecar", PLANS).plan == "team"
    one["items"]["data"][0]["price"] = {"lookup_key": None, "product": "prod_x", "metadata": {}}
    assert chosen([one], "cus_1", "acme", "sidecar", PLANS).plan == "pro", "a price that says nothing"
