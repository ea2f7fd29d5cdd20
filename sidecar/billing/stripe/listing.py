"""Stripe's lists, read to their end."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

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
    """Every item of the list that ``fetch`` gives a page of. TooMany when there are more than
    ``most``, StripeFault."""
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
            raise TooMany(f"Stripe lists more than {most:,} where that many are the most")
        last = items[-1].get("id")
        if not isinstance(last, str) or after.get("starting_after") == last:
            raise StripeFault("Stripe's list does not go on")
        after = {"starting_after": last}


class TooMany(StripeFault):
    """There are more items than were to be read."""


async def listed_v2(
    client: StripeClient,
    fetch: Callable[[Any], Awaitable[Any]],
    params: dict[str, Any],
    permission: str,
    *,
    most: int = MOST,
) -> list[dict[str, Any]]:
    """As ``listed``, of the v2 API, which names the next page by a token in an address. TooMany, StripeFault."""
    found: list[dict[str, Any]] = []
    token: dict[str, Any] = {}
    while True:
        page = await ask(client, fetch({**params, "limit": PAGE, **token}), permission)
        shown = page.to_dict() if hasattr(page, "to_dict") else {}
        items, following = shown.get("data"), shown.get("next_page_url")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise StripeFault("Stripe's answer is no list")
        found += items
        if following is None:
            return found
        names = parse_qs(urlsplit(str(following)).query).get("page", [])
        if len(found) >= most:
            raise TooMany(f"Stripe lists more than {most:,} where that many are the most")
        if not items or len(names) != 1 or token.get("page") == names[0]:
            raise StripeFault("Stripe's list does not go on")
        token = {"page": names[0]}


def _read(page: Any) -> tuple[list[dict[str, Any]], bool]:
    shown = page.to_dict() if hasattr(page, "to_dict") else None
    items = shown.get("data") if isinstance(shown, dict) else None
    if not isinstance(shown, dict) or not isinstance(items, list) or not isinstance(shown.get("has_more"), bool):
        raise StripeFault("Stripe's answer is no list")
    if not all(isinstance(item, dict) for item in items):
        raise StripeFault("Stripe's list holds something that is no object")
    return items, shown["has_more"]
