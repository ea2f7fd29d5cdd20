"""The policies' products, prices and meters at Stripe."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from sidecar.billing import catalogue
from sidecar.billing.catalogue import Difference, lookup_key
from sidecar.billing.stripe import Pace, StripeClient, StripeFault
from sidecar.core.billing_settings import StripeSettings
from sidecar.core.clock import NS_PER_S, ManualClock
from sidecar.core.money import Money
from sidecar.core.policy import Meter, MeterPrice, Plan, Price, Snapshot, Tier
from tests.billing.catalogue.openapi import refusals
from tests.billing.catalogue.shop import Shop


class Slept:
    """A pace whose clock moves by what is slept, so that nobody waits."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pace = Pace(20, self.clock, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)


async def apply(client: StripeClient, snapshot: Snapshot, prefix: str) -> Difference:
    return await catalogue.apply(client, snapshot, prefix, pace=Slept().pace)


async def plan(client: StripeClient, snapshot: Snapshot, prefix: str) -> Difference:
    return await catalogue.plan(client, snapshot, prefix, pace=Slept().pace)


async def drift(client: StripeClient, snapshot: Snapshot, prefix: str) -> list[str]:
    return await catalogue.drift(client, snapshot, prefix, pace=Slept().pace)


def usd(amount: str) -> Money:
    return Money(Fraction(amount), "USD")


METERS = {
    name: Meter(name, "requests", stripe_event=event, stripe_window=window)
    for name, event, window in (
        ("tokens", "api_tokens", "none"),
        ("bytes", "api_bytes", "none"),
        ("seconds", "api_seconds", "hour"),
        ("own", None, "none"),
    )
}
TIERS = (Tier(100, usd("0.10"), flat=usd("5")), Tier(1_000, usd("1"), per=1_000), Tier(None, usd("0")))
PRO = Price(
    usd("29"),
    (
        MeterPrice("tokens", 1_000_000, 1_000_000, usd("2")),
        MeterPrice("bytes", 0, 1_000, usd("0.50"), "package"),
        MeterPrice("seconds", 0, 1, usd("0"), "volume", TIERS),
        MeterPrice("own", 0, 1, usd("1")),
    ),
)
LITE = Price(usd("0"), (MeterPrice("tokens", 0, 100_000, usd("0.03")),))


def snapshot(**plans: Price | None) -> Snapshot:
    return Snapshot(meters=METERS, plans={name: Plan(name, price=price) for name, price in plans.items()})


BOTH = snapshot(pro=PRO, lite=LITE, free=None, gift=Price(usd("0"), (MeterPrice("own", 0, 1, usd("1")),)))


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[StripeClient]:
    server = TestServer(shop.app)
    await server.start_server()
    client = StripeClient(StripeSettings("sk_test_1234567890", api=str(server.make_url(""))))
    yield client
    await client.close()
    await server.close()


async def test_everything_is_made_and_then_nothing_more(shop: Shop, client: StripeClient) -> None:
    before = await plan(client, BOTH, "sidecar")
    assert shop.writes == [], "a plan changes nothing"
    done = await apply(client, BOTH, "sidecar")
    assert done == before
    assert done.lines == [
        '+ meter tokens: sum of "api_tokens"',
        '+ meter bytes: sum of "api_bytes"',
        '+ meter seconds: sum of "api_seconds", newest of each hour',
        "+ product sidecar_pro: plan pro",
        "+ product sidecar_lite: plan lite",
        "+ price sidecar:pro:base: 29.00 USD a month",
        "+ price sidecar:pro:tokens: graduated: up to 1,000,000 0.00 USD each, the rest 0.000002 USD each",
        "+ price sidecar:pro:bytes: 0.50 USD per started 1,000",
        "+ price sidecar:pro:seconds: volume: up to 100 0.10 USD each and 5.00 USD once, up to 1,000 0.001 USD each, "
        "the rest 0.00 USD each",
        "+ price sidecar:lite:tokens: 0.0000003 USD each",
    ]
    writes = len(shop.writes)
    assert (await apply(client, BOTH, "sidecar")).lines == []
    assert str(await plan(client, BOTH, "sidecar")) == "Stripe holds what the policies say"
    assert await drift(client, BOTH, "sidecar") == []
    assert len(shop.writes) == writes


async def test_prices_as_stripe_gets_them(shop: Shop, client: StripeClient) -> None:
    await apply(client, BOTH, "sidecar")
    meters = {meter["event_name"]: meter["id"] for meter in shop.meters.values()}
    base = shop.by_key("sidecar:pro:base")
    assert (base["unit_amount"], base["recurring"]["usage_type"], base["recurring"]["meter"]) == (
        2900,
        "licensed",
        None,
    )
    assert base["metadata"] == {"sidecar": "sidecar", "plan": "pro"}
    tokens = shop.by_key("sidecar:pro:tokens")
    assert tokens["recurring"] == {
        "interval": "month",
        "interval_count": 1,
        "usage_type": "metered",
        "meter": meters["api_tokens"],
    }
    assert (tokens["currency"], tokens["product"], tokens["tiers_mode"]) == ("usd", "sidecar_pro", "graduated")
    assert [(tier["up_to"], tier["unit_amount_decimal"]) for tier in tokens["tiers"]] == [
        (1_000_000, "0"),
        (None, "0.0002"),
    ]
    assert tokens["metadata"] == {"sidecar": "sidecar", "plan": "pro", "meter": "tokens"}
    packages = shop.by_key("sidecar:pro:bytes")
    assert (packages["unit_amount"], packages["transform_quantity"]) == (50, {"divide_by": 1_000, "round": "up"})
    volume = shop.by_key("sidecar:pro:seconds")
    assert [(tier["up_to"], tier["unit_amount_decimal"], tier["flat_amount"]) for tier in volume["tiers"]] == [
        (100, "10", 500),
        (1_000, "0.1", None),
        (None, "0", None),
    ]
    assert shop.by_key("sidecar:lite:tokens")["unit_amount_decimal"] == "0.00003"
    hourly = shop.meters[meters["api_seconds"]]
    assert (hourly["event_time_window"], hourly["default_aggregation"]) == ("hour", {"formula": "sum"})
    assert hourly["customer_mapping"] == {"type": "by_id", "event_payload_key": "stripe_customer_id"}
    assert hourly["value_settings"] == {"event_payload_key": "value"}


@pytest.mark.parametrize(
    ("currency", "base", "minor"), [("JPY", "500", 500), ("KWD", "1.234", 1234), ("EUR", "12.34", 1234)]
)
async def test_the_smallest_unit_of_each_currency(
    shop: Shop, client: StripeClient, currency: str, base: str, minor: int
) -> None:
    price = Price(Money(Fraction(base), currency), (MeterPrice("tokens", 0, 4, Money(Fraction(1), currency)),))
    await apply(client, snapshot(pro=price), "sidecar")
    assert shop.by_key("sidecar:pro:base")["unit_amount"] == minor
    each = Fraction(shop.by_key("sidecar:pro:tokens")["unit_amount_decimal"])
    assert each == Fraction(minor) / Fraction(base) / 4


def changed(**parts: Any) -> Snapshot:
    return snapshot(pro=replace(PRO, **parts), lite=LITE)


@pytest.mark.parametrize(
    ("wanted", "lines"),
    [
        (
            changed(base=usd("39")),
            [
                "~ price sidecar:pro:base: 29.00 USD a month -> 39.00 USD a month (a new price)",
                "- price sidecar:pro:base (price_0): archived",
            ],
        ),
        (
            changed(meters=(replace(PRO.meters[0], included=5), *PRO.meters[1:])),
            [
                "~ price sidecar:pro:tokens: graduated: up to 1,000,000 0.00 USD each, the rest 0.000002 USD each -> "
                "graduated: up to 5 0.00 USD each, the rest 0.000002 USD each (a new price)",
                "- price sidecar:pro:tokens (price_1): archived",
            ],
        ),
        (
            changed(meters=(PRO.meters[0], replace(PRO.meters[1], per=10), *PRO.meters[2:])),
            [
                "~ price sidecar:pro:bytes: 0.50 USD per started 1,000 -> 0.50 USD per started 10 (a new price)",
                "- price sidecar:pro:bytes (price_2): archived",
            ],
        ),
        (changed(meters=PRO.meters[1:]), ["- price sidecar:pro:tokens (price_1): archived"]),
        (
            snapshot(pro=PRO),
            ["- price sidecar:lite:tokens (price_4): archived", "- product sidecar_lite: archived"],
        ),
        (BOTH, []),
    ],
)
async def test_changes(shop: Shop, client: StripeClient, wanted: Snapshot, lines: list[str]) -> None:
    await apply(client, BOTH, "sidecar")
    assert await drift(client, wanted, "sidecar") == lines
    await apply(client, wanted, "sidecar")
    assert await drift(client, wanted, "sidecar") == []
    assert all(" sidecar:" in one for one in shop.active()), "the old one of two is archived"


async def test_back_to_what_was(shop: Shop, client: StripeClient) -> None:
    """An archived price and product are taken up again rather than made anew."""
    await apply(client, BOTH, "sidecar")
    active = shop.active()
    await apply(client, snapshot(pro=PRO), "sidecar")
    done = await apply(client, BOTH, "sidecar")
    assert done.lines == [
        "~ product sidecar_lite: active again",
        "~ price sidecar:lite:tokens: active again",
    ]
    assert shop.active() == active


async def test_somebody_changed_it_at_stripe(shop: Shop, client: StripeClient) -> None:
    await apply(client, BOTH, "sidecar")
    shop.by_key("sidecar:pro:base")["active"] = False
    shop.by_key("sidecar:pro:bytes")["transform_quantity"]["round"] = "down"
    shop.by_key("sidecar:lite:tokens")["recurring"]["interval"] = "year"
    assert [line.split(":")[0] + line.rpartition(":")[2] for line in await drift(client, BOTH, "sidecar")] == [
        "~ price sidecar active again",
        "~ price sidecar something else -> 0.50 USD per started 1,000 (a new price)",
        "~ price sidecar something else -> 0.0000003 USD each (a new price)",
        "- price sidecar archived",
        "- price sidecar archived",
    ]
    await apply(client, BOTH, "sidecar")
    assert await drift(client, BOTH, "sidecar") == []


def foreign(shop: Shop, key: str | None, metadata: Mapping[str, str] | None = None) -> None:
    shop.products["prod_x"] = {"object": "product", "id": "prod_x", "active": True, "metadata": dict(metadata or {})}
    shop._make_prices(
        {
            "product": "prod_x",
            "currency": "usd",
            "lookup_key": key,
            "recurring": {"interval": "month", "usage_type": "licensed"},
            "billing_scheme": "per_unit",
            "unit_amount_decimal": "100",
            "metadata": dict(metadata or {}),
        }
    )


@pytest.mark.parametrize("metadata", [None, {"sidecar": "other"}])
async def test_what_is_not_ours_is_never_touched(
    shop: Shop, client: StripeClient, metadata: Mapping[str, str] | None
) -> None:
    foreign(shop, "gold", metadata)
    before = (dict(shop.products["prod_x"]), dict(shop.prices["price_0"]))
    await apply(client, BOTH, "sidecar")
    await apply(client, snapshot(), "sidecar")
    assert (shop.products["prod_x"], shop.prices["price_0"]) == before


async def test_two_sidecars_share_an_account(shop: Shop, client: StripeClient) -> None:
    await apply(client, BOTH, "eu")
    await apply(client, snapshot(pro=replace(PRO, base=usd("1"))), "us")
    assert await drift(client, BOTH, "eu") == []
    await apply(client, snapshot(), "us")
    assert await drift(client, BOTH, "eu") == []
    assert len(shop.active()) == 5


async def test_what_others_have_stops_everything(shop: Shop, client: StripeClient) -> None:
    foreign(shop, "sidecar:pro:base")
    shop.products["sidecar_lite"] = {"object": "product", "id": "sidecar_lite", "active": True, "metadata": {}}
    shop.meters["mtr_0"] = {
        "object": "billing.meter",
        "id": "mtr_0",
        "event_name": "api_tokens",
        "status": "active",
        "default_aggregation": {"formula": "last"},
        "event_time_window": None,
        "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
        "value_settings": {"event_payload_key": "value"},
    }
    blocked = (await plan(client, BOTH, "sidecar")).blocked
    assert blocked == (
        'the meter "api_tokens" at Stripe takes the last of its events; usage needs one with the aggregation sum',
        "the product sidecar_lite is not ours; write another billing.stripe.prefix",
        'the lookup key "sidecar:pro:base" is of a price that is not ours (price_0); take it off that price, '
        "or write another billing.stripe.prefix",
    )
    with pytest.raises(StripeFault, match="takes the last of its events"):
        await apply(client, BOTH, "sidecar")
    assert shop.writes == []


@pytest.mark.parametrize("after", [False, True])
async def test_killed_anywhere_the_next_run_does_the_rest(after: bool) -> None:
    """However far it came, and whether or not the last change was made: the end is the same, nothing is there twice."""
    wanted = (BOTH, snapshot(pro=replace(PRO, base=usd("39"), meters=PRO.meters[:2]), other=LITE))
    count = 0
    while True:
        shop = Shop()
        server = TestServer(shop.app)
        await server.start_server()
        client = StripeClient(StripeSettings("sk_test_1234567890", api=str(server.make_url(""))))
        shop.dies_after, shop.after = count, after
        died = 0
        for want in wanted:
            try:
                await apply(client, want, "sidecar")
            except StripeFault:
                died += 1
                shop.dies_after = None
                await apply(client, want, "sidecar")
            assert await drift(client, want, "sidecar") == []
        await client.close()
        await server.close()
        assert shop.active() == [
            "sidecar_other sidecar:other:tokens",
            "sidecar_pro sidecar:pro:base",
            "sidecar_pro sidecar:pro:bytes",
            "sidecar_pro sidecar:pro:tokens",
        ]
        assert (len(shop.products), len(shop.meters), len(shop.prices)) == (3, 3, 7)
        if not died:
            break
        count += 1
    assert count > 15


async def test_calls_keep_their_pace(shop: Shop, client: StripeClient) -> None:
    slept = Slept()
    await catalogue.apply(client, BOTH, "sidecar", pace=slept.pace)
    reads_and_writes = slept.clock.monotonic_ns() * 20 // NS_PER_S + 1
    assert reads_and_writes >= len(shop.writes) + 4


async def test_a_key_that_may_not_write_is_told_so(shop: Shop, client: StripeClient) -> None:
    shop.lacks = "rak_product_write"
    with pytest.raises(
        StripeFault, match=r"lacks a permission: Meters: Write \(rak_product_write\); grant it"
    ) as raised:
        await apply(client, BOTH, "sidecar")
    assert raised.value.stop


def test_the_shop_refuses_what_stripe_does_not_know() -> None:
    """The control of every test here: a parameter that Stripe's document does not name is an error."""
    assert refusals("/v1/products", {"name": "x"}) == []
    assert refusals("/v1/products", {"name": "x", "lookup_key": "y"}) == [".lookup_key is unknown"]
    assert refusals("/v1/products", {}) == [".name is missing"]
    assert refusals("/v1/prices", {"currency": "usd", "recurring": {"interval": "moon"}}) != []
    assert refusals("/v1/prices", {"currency": "usd", "tiers": [{"amount": "1"}]}) != []


def test_lookup_keys_are_different_ones() -> None:
    assert lookup_key("s", "pro", None) == "s:pro:base"
    assert lookup_key("s", "pro", "base") != lookup_key("s", "pro", None)
