"""What Stripe holds of ours: the meters, and the products and prices that carry our mark."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.billing.catalogue.desired import Wanted
from sidecar.billing.catalogue.terms import Terms, read
from sidecar.billing.stripe import Pace, StripeClient, StripeFault, StripeMeter, listed, read_meters

MARK = "sidecar"  # the metadata key: its value is the prefix
READ_PRODUCTS = "Products: Read"
READ_PRICES = "Prices: Read"
KEYS_AT_ONCE = 10  # lookup keys per list, as many as Stripe takes


@dataclass(frozen=True, slots=True)
class HeldProduct:
    id: str
    active: bool
    ours: bool


@dataclass(frozen=True, slots=True)
class HeldPrice:
    """``terms`` None: of a kind that is never made here. ``key`` None: it has no lookup key (any more)."""

    id: str
    product: str
    key: str | None
    active: bool
    ours: bool
    terms: Terms | None


@dataclass(frozen=True, slots=True)
class Held:
    """``products`` and ``prices`` by id: ours, and those of others where they have what we want. ``keys``: the prices
    that have a lookup key, by that."""

    meters: Mapping[str, StripeMeter]
    products: Mapping[str, HeldProduct]
    prices: Mapping[str, HeldPrice]
    keys: Mapping[str, HeldPrice]


async def read_held(client: StripeClient, wanted: Wanted, prefix: str, pace: Pace) -> Held:
    """StripeFault when something cannot be read."""
    meters = await read_meters(client, pace)
    events = {meter.id: name for name, meter in meters.items()}
    products = {}
    for item in await listed(client, client.v1.products.list_async, {}, READ_PRODUCTS, pace=pace):
        product = HeldProduct(_id(item), item.get("active") is True, _ours(item, prefix))
        if product.ours or product.id in wanted.products:
            products[product.id] = product
    prices = {}
    for params in _price_lists(products, list(wanted.prices)):
        for item in await listed(client, client.v1.prices.list_async, params, READ_PRICES, pace=pace):
            prices[_id(item)] = _price(item, prefix, events)
    keys = {price.key: price for price in prices.values() if price.key is not None}
    return Held(meters, products, prices, keys)


def _price_lists(products: Mapping[str, HeldProduct], keys: list[str]) -> list[dict[str, Any]]:
    """Those of our products, and those that have a lookup key which we want, wherever they are."""
    tiers = {"expand": ["data.tiers"]}
    lists: list[dict[str, Any]] = [{"product": id, "active": True, **tiers} for id, one in products.items() if one.ours]
    chunks = [keys[at : at + KEYS_AT_ONCE] for at in range(0, len(keys), KEYS_AT_ONCE)]
    return lists + [{"lookup_keys": chunk, **tiers} for chunk in chunks]


def _price(item: Mapping[str, Any], prefix: str, events: Mapping[str, str]) -> HeldPrice:
    try:
        terms = read(item, events)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        terms = None
    key, product = item.get("lookup_key"), item.get("product")
    return HeldPrice(_id(item), str(product), key, item.get("active") is True, _ours(item, prefix), terms)


def _id(item: Mapping[str, Any]) -> str:
    found = item.get("id")
    if not isinstance(found, str):
        raise StripeFault("Stripe lists something without an id")
    return found


def _ours(item: Mapping[str, Any], prefix: str) -> bool:
    metadata = item.get("metadata")
    return isinstance(metadata, dict) and metadata.get(MARK) == prefix
