"""Links to Stripe's own pages: to buy a plan, and to look after a subscription."""

from typing import Any

from sidecar.billing.access.endpoint import WELCOME
from sidecar.billing.access.subscriptions import MARK, PLAN, TENANT
from sidecar.billing.catalogue import lookup_keys
from sidecar.billing.stripe import StripeClient, StripeFault, ask, listed
from sidecar.core.errors import SidecarError
from sidecar.core.policy import Snapshot

WRITE_SESSIONS, READ_PRICES, WRITE_PORTAL = "Checkout Sessions: Write", "Prices: Read", "Customer portal: Write"
KEYS_AT_ONCE = 10  # lookup keys per list, as many as Stripe takes


async def checkout_link(
    client: StripeClient,
    snapshot: Snapshot,
    prefix: str,
    tenant: str,
    plan: str,
    *,
    customer: str | None = None,
    success_url: str | None = None,
    trial_days: int | None = None,
) -> str:
    """Where a person buys the plan for the tenant; works for 24 hours. SidecarError says what is missing."""
    base = snapshot.settings.billing.access.public_url
    back = success_url or (f"{base.rstrip('/')}{WELCOME}?session_id={{CHECKOUT_SESSION_ID}}" if base else None)
    if back is None:
        raise SidecarError("nobody knows where to go after paying; write billing.access.public_url, or --success-url")
    if plan not in snapshot.plans:
        raise SidecarError(f"there is no plan {plan}; plans: {', '.join(sorted(snapshot.plans))}")
    marks = {MARK: prefix, TENANT: tenant, PLAN: plan}
    data: dict[str, Any] = {"metadata": marks} | ({"trial_period_days": trial_days} if trial_days else {})
    params: Any = {
        "mode": "subscription",
        "line_items": await _items(client, snapshot, prefix, plan),
        "metadata": marks,
        "client_reference_id": tenant,
        "subscription_data": data,
        "success_url": back,
    }
    if customer is not None:
        params["customer"] = customer
    session = await ask(client, client.v1.checkout.sessions.create_async(params), WRITE_SESSIONS)
    return _url(session)


async def portal_link(client: StripeClient, snapshot: Snapshot, customer: str) -> str:
    """Where the customer changes cards, plan and so on; works for minutes."""
    access = snapshot.settings.billing.access
    back = access.public_url or access.pay_url
    params: Any = {"customer": customer} | ({"return_url": back} if back else {})
    return _url(await ask(client, client.v1.billing_portal.sessions.create_async(params), WRITE_PORTAL))


async def _items(client: StripeClient, snapshot: Snapshot, prefix: str, plan: str) -> list[dict[str, Any]]:
    keys = lookup_keys(snapshot, prefix, plan)
    if not keys:
        raise SidecarError(f"the plan {plan} has no price that is asked for at Stripe; write price: into the policies")
    found: dict[str, dict[str, Any]] = {}
    for at in range(0, len(keys), KEYS_AT_ONCE):
        params = {"lookup_keys": keys[at : at + KEYS_AT_ONCE], "active": True}
        for price in await listed(client, client.v1.prices.list_async, params, READ_PRICES):
            if (price.get("metadata") or {}).get(MARK) == prefix:  # somebody else's amount is not sold
                found[str(price.get("lookup_key"))] = price
    missing = [key for key in keys if key not in found]
    if missing:
        raise StripeFault(f"Stripe has no price {missing[0]} of ours; run sidecar stripe apply")
    return [_item(found[key]) for key in keys]


def _item(price: dict[str, Any]) -> dict[str, Any]:
    metered = (price.get("recurring") or {}).get("usage_type") == "metered"
    return {"price": price["id"]} | ({} if metered else {"quantity": 1})


def _url(made: Any) -> str:
    url = getattr(made, "url", None)
    if not isinstance(url, str):
        raise StripeFault("Stripe made no link")
    return url
