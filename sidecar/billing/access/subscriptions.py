"""A customer's subscriptions as Stripe shows them, read into what states.follow takes."""

from collections.abc import Collection, Mapping
from typing import Any

from sidecar.billing.access.states import Seen
from sidecar.billing.stripe import Pace, StripeClient, listed
from sidecar.core.billing import Period

READ_SUBSCRIPTIONS = "Subscriptions: Read"
TENANT, PLAN, MARK = "sidecar_tenant", "sidecar_plan", "sidecar"  # keys of metadata
# From the one that says most about what is owed now to the one that says least.
_ORDER = ("active", "trialing", "past_due", "unpaid", "paused", "canceled", "incomplete", "incomplete_expired")


async def read_seen(
    client: StripeClient, customer: str, tenant: str, prefix: str, plans: Collection[str], pace: Pace
) -> Seen:
    """What Stripe says of the tenant now. StripeFault when it cannot be asked."""
    await pace.wait()
    params = {"customer": customer, "status": "all"}
    found = await listed(client, client.v1.subscriptions.list_async, params, READ_SUBSCRIPTIONS, pace=pace, most=1000)
    return chosen(found, customer, tenant, prefix, plans)


def chosen(found: list[dict[str, Any]], customer: str, tenant: str, prefix: str, plans: Collection[str]) -> Seen:
    """Of the subscriptions that are about us: the one that is paid for, else the newest of the least hopeless.

    A subscription is about us when its metadata name the tenant or a plan, or when it has one of our prices: a customer
    may buy other things too, and an unpaid other thing must not lock this one. One that names another tenant is not.
    """
    ours = [one for one in found if _is_ours(one, tenant, prefix)]
    if not ours:
        return Seen(customer)
    best = min(ours, key=lambda one: (_rank(one), -_int(one.get("created"), 0)))
    return _seen(best, customer, prefix, plans)


def _is_ours(one: Mapping[str, Any], tenant: str, prefix: str) -> bool:
    metadata = _map(one.get("metadata"))
    if TENANT in metadata:
        return bool(metadata[TENANT] == tenant)
    return PLAN in metadata or any(_plan_of(item, prefix) is not None for item in _items(one))


def _rank(one: Mapping[str, Any]) -> int:
    status = one.get("status")
    return _ORDER.index(status) if status in _ORDER else 0  # an unknown one is to be seen, and told


def _seen(one: Mapping[str, Any], customer: str, prefix: str, plans: Collection[str]) -> Seen:
    items = _items(one)
    # The price first: the customer's portal changes it, and leaves the metadata of the first purchase as they were.
    named = [*(_plan_of(item, prefix) for item in items), _map(one.get("metadata")).get(PLAN)]
    # A yearly fee beside monthly usage: usage is invoiced by the month.
    timed = [item for item in items if _is_metered(item)] or items
    periods = {(item.get("current_period_start"), item.get("current_period_end")) for item in timed}
    known = [Period(start, end) for start, end in periods if type(start) is int and type(end) is int and start < end]
    ended = _int(one.get("ended_at"))
    ends = _int(one.get("cancel_at"))
    if ends is None and one.get("cancel_at_period_end") is True and known:
        ends = max(period.end_s for period in known)
    if ended is not None:
        known = [Period(p.start_s, min(p.end_s, ended)) for p in known if p.start_s < ended]
    id = one.get("id")
    return Seen(
        customer,
        id if isinstance(id, str) else None,
        str(one.get("status") or "unknown"),
        next((plan for plan in named if plan in plans), None),
        tuple(sorted(known)),
        _int(one.get("trial_end")),
        ends,
        ended,
    )


def _plan_of(item: Mapping[str, Any], prefix: str) -> str | None:
    """Of the price's metadata, its lookup key, or its product's id, which stay when the price is replaced."""
    price = _map(item.get("price"))
    metadata = _map(price.get("metadata"))
    if isinstance(metadata.get(PLAN), str):
        return str(metadata[PLAN])
    if metadata.get(MARK) == prefix and isinstance(metadata.get("plan"), str):
        return str(metadata["plan"])
    key, product = price.get("lookup_key"), price.get("product")
    if isinstance(key, str) and key.startswith(f"{prefix}:"):
        return key.split(":")[1]
    if isinstance(product, str) and product.startswith(f"{prefix}_"):
        return product.removeprefix(f"{prefix}_")
    return None


def _is_metered(item: Mapping[str, Any]) -> bool:
    return _map(_map(item.get("price")).get("recurring")).get("usage_type") == "metered"


def _items(one: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    data = _map(one.get("items")).get("data")
    return [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _int(value: Any, default: Any = None) -> Any:
    return value if type(value) is int else default
