"""What has to be done at Stripe so that it holds what the policies want, in words and in steps. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from sidecar.billing.catalogue.desired import Wanted, WantedPrice
from sidecar.billing.catalogue.held import Held, HeldPrice
from sidecar.billing.stripe import differences
from sidecar.core.policy import Meter


@dataclass(frozen=True, slots=True)
class Step:
    """``kind``: ``meter``, ``product``, ``price`` (make it), ``activate_product``, ``activate_price``,
    ``archive_price``, ``archive_product``. ``id`` is of the product or price that is meant, empty of what is made."""

    kind: str
    text: str
    id: str = ""
    meter: Meter | None = None
    price: WantedPrice | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """``steps`` in the order in which they can be taken; ``blocked``: what a person has to settle first."""

    steps: tuple[Step, ...] = ()
    blocked: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """One line each: ``+`` is made, ``~`` changed, ``-`` archived, ``!`` blocked."""
        return [*(f"! {text}" for text in self.blocked), *(step.text for step in self.steps)]

    def __str__(self) -> str:
        return "\n".join(self.lines) or "Stripe holds what the policies say"


def difference(wanted: Wanted, held: Held) -> Difference:
    """Nothing that is not ours is ever in a step."""
    blocked: list[str] = []
    steps = [
        *_meters(wanted, held, blocked),
        *_products(wanted, held, blocked),
        *_prices(wanted, held, blocked),
        *_archived(wanted, held),
    ]
    return Difference(tuple(steps), tuple(blocked))


def _meters(wanted: Wanted, held: Held, blocked: list[str]) -> Iterator[Step]:
    """Meters carry no mark: one that is there already is somebody's, and can only fit or not."""
    for meter in wanted.meters:
        if meter.stripe_event in held.meters:
            blocked += differences(meter, held.meters)
        else:
            newest = ", newest of each hour" if meter.stripe_window == "hour" else ""
            yield Step("meter", f'+ meter {meter.name}: sum of "{meter.stripe_event}"{newest}', meter=meter)


def _products(wanted: Wanted, held: Held, blocked: list[str]) -> Iterator[Step]:
    for id, plan in wanted.products.items():
        found = held.products.get(id)
        if found is None:
            yield Step("product", f"+ product {id}: plan {plan}", id)
        elif not found.ours:
            blocked.append(f"the product {id} is not ours; write another billing.stripe.prefix")
        elif not found.active:
            yield Step("activate_product", f"~ product {id}: active again", id)


def _prices(wanted: Wanted, held: Held, blocked: list[str]) -> Iterator[Step]:
    for key, price in wanted.prices.items():
        found = held.keys.get(key)
        if found is None:
            yield Step("price", f"+ price {key}: {price.terms}", price=price)
        elif not found.ours:
            blocked.append(
                f'the lookup key "{key}" is of a price that is not ours ({found.id}); take it off that price, '
                "or write another billing.stripe.prefix"
            )
        elif not _same(found, price):
            before = found.terms if found.terms is not None else "something else"
            yield Step("price", f"~ price {key}: {before} -> {price.terms} (a new price)", price=price)
        elif not found.active:
            yield Step("activate_price", f"~ price {key}: active again", found.id)


def _archived(wanted: Wanted, held: Held) -> Iterator[Step]:
    """What is ours and not wanted any more; subscriptions that have it go on."""
    for price in held.prices.values():
        kept = price.key in wanted.prices and _same(price, wanted.prices[price.key])
        if price.ours and price.active and not kept:
            yield Step("archive_price", f"- price {price.key or 'without a key'} ({price.id}): archived", price.id)
    for product in held.products.values():
        if product.ours and product.active and product.id not in wanted.products:
            yield Step("archive_product", f"- product {product.id}: archived", product.id)


def _same(found: HeldPrice, price: WantedPrice) -> bool:
    return found.terms == price.terms and found.product == price.product
