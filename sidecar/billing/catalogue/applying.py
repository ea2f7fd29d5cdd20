"""The catalogue at Stripe: compare it with the policies, and make it what they say."""

from typing import Any

from sidecar.billing.catalogue.desired import WantedPrice, wanted
from sidecar.billing.catalogue.difference import Difference, Step, difference
from sidecar.billing.catalogue.held import MARK, read_held
from sidecar.billing.catalogue.terms import params
from sidecar.billing.stripe import CUSTOMER_KEY, VALUE_KEY, Pace, StripeClient, StripeFault, ask, read_meters
from sidecar.core.clock import SystemClock
from sidecar.core.policy import Meter, Snapshot

WRITE_METERS = "Meters: Write"
WRITE_PRODUCTS = "Products: Write"
WRITE_PRICES = "Prices: Write"
CALLS_PER_S = 20  # a sandbox takes 25 per second in all


async def plan(client: StripeClient, snapshot: Snapshot, prefix: str, *, pace: Pace | None = None) -> Difference:
    """What ``apply`` would do; changes nothing. StripeFault when Stripe cannot be asked. ``pace``: of the calls, None:
    CALLS_PER_S."""
    want = wanted(snapshot, prefix)
    return difference(want, await read_held(client, want, prefix, pace or _pace()))


async def drift(client: StripeClient, snapshot: Snapshot, prefix: str, *, pace: Pace | None = None) -> list[str]:
    """How Stripe differs from the policies, a line each; empty when it does not. StripeFault as above."""
    return (await plan(client, snapshot, prefix, pace=pace)).lines


async def apply(client: StripeClient, snapshot: Snapshot, prefix: str, *, pace: Pace | None = None) -> Difference:
    """Makes Stripe hold what the policies say, and says what was done; a second time that is nothing.

    Amounts of a price cannot be changed: it gets a successor, which takes its lookup key, and is archived. Killed in
    the middle, the next call does the rest. StripeFault, before anything is changed, when something is blocked.
    """
    pace = pace or _pace()
    found = await plan(client, snapshot, prefix, pace=pace)
    if found.blocked:
        raise StripeFault("\n".join(found.blocked))
    applying = _Applying(client, prefix, pace)
    for step in found.steps:
        await applying.take(step)
    return found


def _pace() -> Pace:
    return Pace(CALLS_PER_S, SystemClock())


class _Applying:
    """One run: takes steps in their order, meters before the prices that they meter."""

    def __init__(self, client: StripeClient, prefix: str, pace: Pace) -> None:
        self._client = client
        self._prefix = prefix
        self._pace = pace
        self._meters: dict[str, str] | None = None  # ids of active meters by event name, read when the first is needed

    async def take(self, step: Step) -> None:
        v1 = self._client.v1
        meter = await self._meter_of(step.price) if step.price is not None else None
        await self._pace.wait()
        if step.meter is not None:
            await ask(self._client, v1.billing.meters.create_async(_meter_params(step.meter)), WRITE_METERS)
        elif step.price is not None:
            await ask(self._client, v1.prices.create_async(self._price_params(step.price, meter)), WRITE_PRICES)
        elif step.kind == "product":
            await ask(self._client, v1.products.create_async(self._product_params(step.id)), WRITE_PRODUCTS)
        elif step.kind in ("activate_product", "archive_product"):
            active = step.kind == "activate_product"
            await ask(self._client, v1.products.update_async(step.id, {"active": active}), WRITE_PRODUCTS)
        else:
            active = step.kind == "activate_price"
            await ask(self._client, v1.prices.update_async(step.id, {"active": active}), WRITE_PRICES)

    async def _meter_of(self, price: WantedPrice) -> str | None:
        event = price.terms.event
        if event is None:
            return None
        if self._meters is None:
            found = await read_meters(self._client, self._pace)
            self._meters = {name: meter.id for name, meter in found.items() if meter.active}
        if event not in self._meters:
            raise StripeFault(f'Stripe has no active meter with the event name "{event}"')
        return self._meters[event]

    def _product_params(self, id: str) -> Any:
        """The name is what customers read; whoever changes it at Stripe is left alone."""
        name = id.removeprefix(f"{self._prefix}_")
        return {"id": id, "name": name, "metadata": {MARK: self._prefix, "plan": name}}

    def _price_params(self, price: WantedPrice, meter: str | None) -> Any:
        words = {"plan": price.plan} | ({} if price.meter is None else {"meter": price.meter})
        return params(price.terms, meter) | {
            "product": price.product,
            "lookup_key": price.key,
            "transfer_lookup_key": True,
            "nickname": " ".join(words.values()),
            "metadata": {MARK: self._prefix, **words},
        }


def _meter_params(meter: Meter) -> Any:
    made: dict[str, Any] = {
        "display_name": meter.name,
        "event_name": meter.stripe_event,
        "default_aggregation": {"formula": "sum"},
        "customer_mapping": {"type": "by_id", "event_payload_key": CUSTOMER_KEY},
        "value_settings": {"event_payload_key": VALUE_KEY},
    }
    return made if meter.stripe_window == "none" else made | {"event_time_window": meter.stripe_window}
