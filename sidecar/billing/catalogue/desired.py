"""The products, prices and meters that the policies want at Stripe."""

from collections.abc import Iterator
from dataclasses import dataclass

from sidecar.billing.catalogue.terms import Terms, metered
from sidecar.core.money import Money
from sidecar.core.policy import Meter, Plan, Price, Snapshot


@dataclass(frozen=True, slots=True)
class WantedPrice:
    """``key`` is its lookup key; ``meter`` the name of ours, None for the base fee."""

    key: str
    product: str
    plan: str
    meter: str | None
    terms: Terms


@dataclass(frozen=True, slots=True)
class Wanted:
    """``products``: id to the plan's name. ``meters`` have a ``stripe_event`` each."""

    meters: tuple[Meter, ...]
    products: dict[str, str]
    prices: dict[str, WantedPrice]


def product_id(prefix: str, plan: str) -> str:
    """Products have ids that we choose, so that making one twice is a conflict and not a second one."""
    return f"{prefix}_{plan}"


def lookup_key(prefix: str, plan: str, meter: str | None) -> str:
    """``<prefix>:<plan>:<meter>``, of the base fee ``<prefix>:<plan>:base``. A meter may be named ``base`` too."""
    return f"{prefix}:{plan}:base" if meter is None else f"{prefix}:{plan}:{meter}" + (":meter" * (meter == "base"))


def lookup_keys(snapshot: Snapshot, prefix: str, plan: str) -> list[str]:
    """Of the prices of one plan."""
    return [price.key for price in wanted(snapshot, prefix).prices.values() if price.plan == plan]


def wanted(snapshot: Snapshot, prefix: str) -> Wanted:
    """A product for each plan that has a base fee or a price of a meter with a ``stripe_event``, and their prices."""
    meters = tuple(meter for meter in snapshot.meters.values() if meter.stripe_event is not None)
    events = {meter.name: meter.stripe_event for meter in meters if meter.stripe_event is not None}
    products: dict[str, str] = {}
    prices: dict[str, WantedPrice] = {}
    for plan in snapshot.plans.values():
        for price in _prices(plan, events, prefix):
            products[price.product] = plan.name
            prices[price.key] = price
    return Wanted(meters, products, prices)


def _prices(plan: Plan, events: dict[str, str], prefix: str) -> Iterator[WantedPrice]:
    if plan.price is None:
        return
    product, currency = product_id(prefix, plan.name), _currency(plan.price)
    if plan.price.base.amount:
        fee = Terms(currency, None, plan.price.base.minor)
        yield WantedPrice(lookup_key(prefix, plan.name, None), product, plan.name, None, fee)
    for part in plan.price.meters:
        if part.meter in events:
            key = lookup_key(prefix, plan.name, part.meter)
            terms = metered(part, events[part.meter], currency)
            yield WantedPrice(key, product, plan.name, part.meter, terms)


def _currency(price: Price) -> str:
    """Of the first amount that is one: nothing costs nothing in every currency, and the configuration mixes none."""
    return next((money.currency for money in _amounts(price) if money.amount), price.base.currency).lower()


def _amounts(price: Price) -> Iterator[Money]:
    yield price.base
    for part in price.meters:
        yield part.amount
        for tier in part.tiers:
            yield tier.amount
            if tier.flat is not None:
                yield tier.flat
