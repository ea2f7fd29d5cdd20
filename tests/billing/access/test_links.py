"""The links: what Stripe is asked for fits its document, and what is missing is said."""

from dataclasses import replace
from fractions import Fraction

import pytest

from sidecar.billing.access import checkout_link, portal_link
from sidecar.core.errors import SidecarError
from sidecar.core.money import Money
from sidecar.core.policy import Plan, Price
from tests.billing.access.conftest import House

PRO = Plan("pro", price=Price(Money(Fraction(29), "USD")))


@pytest.fixture
def shop(house: House) -> House:
    house.snapshot = replace(house.snapshot, plans={"free": Plan("free"), "pro": PRO})
    return house


async def test_a_checkout_says_who_buys_what(shop: House) -> None:
    shop.access(public_url="https://api.example.com/")
    url = await checkout_link(shop.client, shop.snapshot, "sidecar", "acme", "pro", trial_days=14)
    session = next(iter(shop.fake.world.sessions.values()))
    assert url == session["url"]
    assert session["metadata"] == {"sidecar": "sidecar", "sidecar_tenant": "acme", "sidecar_plan": "pro"}
    assert session["success_url"] == "https://api.example.com/_sidecar/welcome?session_id={CHECKOUT_SESSION_ID}"
    shop.fake.sessions.complete(session["id"])
    found = await shop.newcomers.first_key(session["id"], "t" * 32)
    assert (found.state, found.tenant) == ("key", "acme")
    account = await shop.store.account("acme")
    assert account is not None
    assert (account.status, account.plan) == ("trialing", "pro")
    assert (await portal_link(shop.client, shop.snapshot, account.customer)).startswith("http")


@pytest.mark.parametrize(
    ("plan", "success_url", "said"),
    [
        ("pro", None, "public_url"),
        ("prro", "https://x.example", "there is no plan prro"),
        ("free", "https://x.example", "no price"),
    ],
)
async def test_what_is_missing_is_said(shop: House, plan: str, success_url: str | None, said: str) -> None:
    with pytest.raises(SidecarError, match=said):
        await checkout_link(shop.client, shop.snapshot, "sidecar", "acme", plan, success_url=success_url)


async def test_a_price_that_is_not_there_yet(shop: House) -> None:
    with pytest.raises(SidecarError, match="sidecar stripe apply"):
        await checkout_link(shop.client, shop.snapshot, "other", "acme", "pro", success_url="https://x.example")


async def test_a_price_that_somebody_put_in_the_place_of_ours_is_not_sold(shop: House) -> None:
    """By hand, with our lookup key and another amount."""
    theirs = {"product": shop.fake.world.prices[shop.price]["product"], "currency": "usd", "unit_amount": 3900}
    monthly = {"recurring": {"interval": "month"}, "lookup_key": "sidecar:pro:base", "transfer_lookup_key": True}
    shop.fake.catalogue.create_price({**theirs, **monthly})
    with pytest.raises(SidecarError, match="no price sidecar:pro:base of ours"):
        await checkout_link(shop.client, shop.snapshot, "sidecar", "acme", "pro", success_url="https://x.example")
