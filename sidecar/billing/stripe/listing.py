"""Stripe's lists, read to their end."""

from collections.abc import Awaitable, Callable
from typing import Any

from sidecar.billing.pace import Pace
from sidecar.billing.stripe.client import StripeClient
from sidecar.billing.stripe.faults import StripeFault, ask

PAGE = 100  # the most that Stripe gives; its default of 10 has cost others their month
MOST = 10_000


async def listed(
    client: StripeClient,
    fetch: Callable[[Any], Awaitable[Any]],
    params: dict[str, Any],
    permission: str,
    *,
    pace: Pace | None = None,
    most: int = MOST,
) -> list[dict[str, Any]]:
    """Every item of the list that ``fetch`` gives a page of. StripeFault when there are more than ``most``."""
    found: list[dict[str, Any]] = []
    after: dict[str, Any] = {}
    while True:
        if pace is not None:
            await pace.wait()
        page = await ask(client, fetch({**params, "limit": PAGE, **after}), permission)
        items, more = _read(page)
        found += items
        if not more:
            return found
        if not items or len(found) >= most:
            raise StripeFault(f"Stripe lists more than {most:,} where that many are the most")
        last = items[-1].get("id")
        if not isinstance(last, str) or after.get("starting_after") == last:
            raise StripeFault("Stripe's list does not go on")
        after = {"starting_after": last}


def _read(page: Any) -> tuple[list[dict[str, Any]], bool]:
    shown = page.to_dict() if hasattr(page, "to_dict") else None
    items = shown.get("data") if isinstance(shown, dict) else None
    if not isinstance(shown, dict) or not isinstance(items, list) or not isinstance(shown.get("has_more"), bool):
        raise StripeFault("Stripe's answer is no list")
    if not all(isinstance(item, dict) for item in items):
        raise StripeFault("Stripe's list holds something that is no object")
    return items, shown["has_more"]
