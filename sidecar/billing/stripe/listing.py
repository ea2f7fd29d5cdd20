"""Stripe's lists, read to their end."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

from sidecar.billing.pace import Pace
from sidecar.billing.stripe.client import StripeClient
from sidecar.billing.stripe.faults import StripeFault, ask

PAGE = 100  # the most that Stripe gives; its default of 10 has cost others their month
MOST = 10_000
_After: TypeAlias = dict[str, Any]  # what says where a page begins, besides the parameters of the list
_Page: TypeAlias = tuple[list[dict[str, Any]], _After | None]


class TooMany(StripeFault):
    """There are more items than were to be read."""

    def __init__(self, most: int) -> None:
        super().__init__(f"Stripe lists more than {most:,} where that many are the most")


async def listed(
    client: StripeClient,
    fetch: Callable[[Any], Awaitable[Any]],
    params: dict[str, Any],
    permission: str,
    *,
    pace: Pace | None = None,
    most: int = MOST,
) -> list[dict[str, Any]]:
    """Every item of the list that ``fetch`` gives a page of. TooMany when there are more than ``most``, StripeFault."""

    async def page(after: _After) -> _Page:
        if pace is not None:
            await pace.wait()
        items, more = _read(await ask(client, fetch({**params, "limit": PAGE, **after}), permission))
        if more and not items:
            raise TooMany(most)
        return items, {"starting_after": items[-1].get("id")} if more else None

    return await _all(page, most)


async def listed_v2(
    client: StripeClient,
    fetch: Callable[[Any], Awaitable[Any]],
    params: dict[str, Any],
    permission: str,
    *,
    most: int = MOST,
) -> list[dict[str, Any]]:
    """As ``listed``, of the v2 API, which names the next page by a token in an address. TooMany, StripeFault."""

    async def page(after: _After) -> _Page:
        found = await ask(client, fetch({**params, "limit": PAGE, **after}), permission)
        shown = found.to_dict() if hasattr(found, "to_dict") else {}
        items, following = shown.get("data"), shown.get("next_page_url")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise StripeFault("Stripe's answer is no list")
        if following is None:
            return items, None
        tokens = parse_qs(urlsplit(str(following)).query).get("page", [])
        return items, {"page": tokens[0] if len(tokens) == 1 and items else None}

    return await _all(page, most)


async def _all(page: Callable[[_After], Awaitable[_Page]], most: int) -> list[dict[str, Any]]:
    """``page`` gives the items behind a place, and the place of the next ones, None at the end."""
    found: list[dict[str, Any]] = []
    after: _After = {}
    while True:
        items, following = await page(after)
        found += items
        if following is None:
            return found
        if len(found) >= most:
            raise TooMany(most)
        if following == after or not all(isinstance(place, str) for place in following.values()):
            raise StripeFault("Stripe's list does not go on")
        after = following


def _read(page: Any) -> tuple[list[dict[str, Any]], bool]:
    shown = page.to_dict() if hasattr(page, "to_dict") else None
    items = shown.get("data") if isinstance(shown, dict) else None
    if not isinstance(shown, dict) or not isinstance(items, list) or not isinstance(shown.get("has_more"), bool):
        raise StripeFault("Stripe's answer is no list")
    if not all(isinstance(item, dict) for item in items):
        raise StripeFault("Stripe's list holds something that is no object")
    return items, shown["has_more"]
