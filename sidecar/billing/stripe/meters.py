"""The meters that Stripe has, and whether they count what we are going to send."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sidecar.billing.pace import Pace
from sidecar.billing.stripe.client import StripeClient
from sidecar.billing.stripe.faults import StripeFault, ask
from sidecar.billing.stripe.listing import listed
from sidecar.billing.stripe.sink import CUSTOMER_KEY, VALUE_KEY, WRITE_EVENTS
from sidecar.core.policy import Meter, Snapshot

READ_METERS = "Meters: Read"


@dataclass(frozen=True, slots=True)
class StripeMeter:
    """A meter as Stripe has it. ``window``: ``none`` (every event adds), ``hour`` or ``day`` (the newest counts)."""

    id: str
    event_name: str
    active: bool
    formula: str
    window: str
    customer_key: str
    value_key: str


async def read_meters(client: StripeClient, pace: Pace | None = None) -> dict[str, StripeMeter]:
    """Event name to meter; where several have had it, the active one. StripeFault when they cannot be read."""
    found: dict[str, StripeMeter] = {}
    for item in await listed(client, client.v1.billing.meters.list_async, {}, READ_METERS, pace=pace):
        meter = _meter(item)
        known = found.get(meter.event_name)
        if known is None or not known.active:
            found[meter.event_name] = meter
    return found


async def check(client: StripeClient, snapshot: Snapshot) -> list[str]:
    """Why usage could not be billed right, in sentences: empty when it can. StripeFault when Stripe cannot be asked;
    a key that is wrong or lacks a permission is a sentence, not a fault."""
    try:
        meters = await read_meters(client)
    except StripeFault as fault:
        if fault.stop:
            return [str(fault)]
        raise
    wanted = [meter for meter in snapshot.meters.values() if meter.stripe_event is not None]
    told = [text for meter in wanted for text in differences(meter, meters)]
    for call, permission in _probes(client, wanted, meters):
        told += await _refusal(client, call, permission)
    return told


def differences(meter: Meter, meters: Mapping[str, StripeMeter]) -> list[str]:
    """What about the meter at Stripe does not fit ``meter``, which has a ``stripe_event``."""
    name = f'the meter "{meter.stripe_event}" at Stripe'
    found = meters.get(meter.stripe_event or "")
    if found is None:
        return [f'Stripe has no meter with the event name "{meter.stripe_event}"; make it with `sidecar stripe apply`']
    if not found.active:
        return [f"{name} is inactive: its events are dropped; reactivate it at Stripe, or write another stripe_event"]
    told = []
    if found.formula != "sum":
        told.append(f"{name} takes the {found.formula} of its events; usage needs one with the aggregation sum")
    if found.window != meter.stripe_window:
        said = "adds every event" if found.window == "none" else f"keeps the newest event of each {found.window}"
        instead = f"write stripe_window: {found.window}" if found.window != "day" else "use a meter without that window"
        told.append(f"{name} {said}, but stripe_window of {meter.name} is {meter.stripe_window}; {instead}")
    for what, key, ours in (("customer", found.customer_key, CUSTOMER_KEY), ("value", found.value_key, VALUE_KEY)):
        if key != ours:
            told.append(
                f'{name} reads its {what} from "{key}", but it is sent as "{ours}"; use a meter that reads that'
            )
    return told


def _meter(item: Mapping[str, Any]) -> StripeMeter:
    try:
        return StripeMeter(
            str(item["id"]),
            str(item["event_name"]),
            item["status"] == "active",
            str(item["default_aggregation"]["formula"]),
            str(item.get("event_time_window") or "none"),
            str(item["customer_mapping"]["event_payload_key"]),
            str(item["value_settings"]["event_payload_key"]),
        )
    except (KeyError, TypeError):
        raise StripeFault("Stripe's list of meters holds one that cannot be read") from None


def _probes(
    client: StripeClient, wanted: list[Meter], meters: Mapping[str, StripeMeter]
) -> list[tuple[Callable[[], Awaitable[Any]], str]]:
    """Calls that change nothing, whatever Stripe answers: only a refusal of the key counts. The event has no payload,
    so that it can never be taken."""
    v1 = client.v1
    one: Any = {"limit": 1}
    probes: list[tuple[Callable[[], Awaitable[Any]], str]] = [
        (partial(v1.prices.list_async, one), "Prices: Read"),
        (partial(v1.subscriptions.list_async, one), "Subscriptions: Read"),
        (partial(v1.invoices.list_async, one), "Invoices: Read"),
    ]
    known = [found for found in (meters.get(meter.stripe_event or "") for meter in wanted) if found is not None]
    if known:
        nobody: Any = {"customer": "cus_none", "start_time": 0, "end_time": 60}
        empty: Any = {"event_name": known[0].event_name}
        probes += [
            (partial(v1.billing.meters.event_summaries.list_async, known[0].id, nobody), READ_METERS),
            (partial(v1.billing.meter_events.create_async, empty), WRITE_EVENTS),
        ]
    return probes


async def _refusal(client: StripeClient, call: Callable[[], Awaitable[Any]], permission: str) -> list[str]:
    """What Stripe says of the key, if it refuses it; any other answer of Stripe's means that it was let in."""
    try:
        await ask(client, call(), permission)
    except StripeFault as fault:
        if fault.stop:
            return [str(fault)]
        if not fault.http:
            raise
    return []
