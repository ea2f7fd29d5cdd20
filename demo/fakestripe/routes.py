"""Which path is which call, and the permission a restricted key needs for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from demo.fakestripe.state import Object, Refusal, found, page

if TYPE_CHECKING:
    from demo.fakestripe.model import FakeStripe

Route = Callable[..., Object]
EVENTS_KEPT_S = 30 * 86_400  # "List events, going back up to 30 days"
ID = r"/([^/]+)"


def routes(fake: FakeStripe) -> list[tuple[str, str, str, Route]]:
    """(method, pattern of the path, permission without its verb, call with the path's ids and the parameters)."""
    return [*_metering(fake), *_catalogue(fake), *_billing(fake), *_events(fake)]


def _metering(fake: FakeStripe) -> list[tuple[str, str, str, Route]]:
    meters, now = fake.meters, fake.world.now_ns
    root = "/v1/billing/meters"
    return [
        ("POST", root, "billing_meter", meters.create),
        ("GET", root, "billing_meter", meters.list),
        ("GET", root + ID, "billing_meter", meters.retrieve),
        ("POST", root + ID, "billing_meter", meters.update),
        ("POST", root + ID + "/deactivate", "billing_meter", meters.deactivate),
        ("POST", root + ID + "/reactivate", "billing_meter", meters.reactivate),
        ("GET", root + ID + "/event_summaries", "billing_meter", meters.summaries),
        ("POST", "/v1/billing/meter_events", "billing_meter_event", lambda p: meters.event(p, now())),
        ("POST", "/v1/billing/meter_event_adjustments", "billing_meter_event", lambda p: meters.cancel(p, now())),
        ("POST", "/v2/billing/meter_events", "billing_meter_event", lambda p: _event_v2(fake, p)),
    ]


def _event_v2(fake: FakeStripe, params: Object) -> Object:
    """The v2 twin: RFC 3339 times, all validation at once, its own names for the errors."""
    given = dict(params)
    if "timestamp" in given:
        given["timestamp"] = int(datetime.fromisoformat(given["timestamp"]).timestamp())
    kept = fake.knobs.asynchronous
    fake.knobs.asynchronous = frozenset()
    try:
        event = fake.meters.event(given, fake.world.now_ns())
    except Refusal as refusal:
        if "already exists" in str(refusal):
            raise Refusal(400, str(refusal), code="duplicate_meter_event") from None
        raise
    finally:
        fake.knobs.asynchronous = kept
    stamps: dict[str, Any] = {name: _rfc3339(event[name]) for name in ("created", "timestamp")}
    return {**event, "object": "v2.billing.meter_event", **stamps}


def _unix(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp).timestamp())


def _rfc3339(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _catalogue(fake: FakeStripe) -> list[tuple[str, str, str, Route]]:
    book = fake.catalogue
    return [
        ("POST", "/v1/products", "product", book.create_product),
        ("GET", "/v1/products", "product", book.products),
        ("GET", "/v1/products" + ID, "product", book.product),
        ("POST", "/v1/products" + ID, "product", book.update_product),
        ("POST", "/v1/prices", "plan", book.create_price),
        ("GET", "/v1/prices", "plan", book.prices),
        ("GET", "/v1/prices" + ID, "plan", book.price),
        ("POST", "/v1/prices" + ID, "plan", book.update_price),
        ("POST", "/v1/customers", "customer", book.create_customer),
        ("GET", "/v1/customers", "customer", book.customers),
        ("GET", "/v1/customers" + ID, "customer", book.customer),
        ("POST", "/v1/customers" + ID, "customer", book.update_customer),
        ("DELETE", "/v1/customers" + ID, "customer", book.delete_customer),
    ]


def _billing(fake: FakeStripe) -> list[tuple[str, str, str, Route]]:
    subs, invoices, sessions = fake.subscriptions, fake.invoices, fake.sessions
    action = "/(finalize|pay|void|mark_uncollectible)"
    return [
        ("POST", "/v1/subscriptions", "subscription", subs.create),
        ("GET", "/v1/subscriptions", "subscription", subs.list),
        ("GET", "/v1/subscriptions" + ID, "subscription", subs.retrieve),
        ("POST", "/v1/subscriptions" + ID, "subscription", subs.update),
        ("DELETE", "/v1/subscriptions" + ID, "subscription", subs.cancel),
        ("GET", "/v1/invoices", "invoice", invoices.list),
        ("GET", "/v1/invoices" + ID, "invoice", invoices.retrieve),
        ("POST", "/v1/invoices" + ID, "invoice", invoices.update),
        ("GET", "/v1/invoices" + ID + "/lines", "invoice", invoices.lines),
        ("POST", "/v1/invoices" + ID + action, "invoice", lambda key, what, p: invoices.act(key, what)),
        ("POST", "/v1/checkout/sessions", "checkout_session", sessions.create),
        ("GET", "/v1/checkout/sessions" + ID, "checkout_session", sessions.retrieve),
        ("POST", "/v1/billing_portal/sessions", "customer_portal", sessions.portal),
    ]


def _events(fake: FakeStripe) -> list[tuple[str, str, str, Route]]:
    events = fake.world.events

    def chosen(kind: str, params: Object, read: Callable[[Any], int]) -> list[Object]:
        """Of the last 30 days; ``read``: a time of this kind as Unix seconds."""
        kinds = params.get("types") or ([params["type"]] if "type" in params else None)
        span = {name: read(value) for name, value in (params.get("created") or {}).items()}
        first = max(span.get("gte", 0), fake.world.now_s() - EVENTS_KEPT_S)
        return [
            event
            for event in events.values()
            if event["object"] == kind
            and first <= read(event["created"]) < span.get("lt", first + 2 * EVENTS_KEPT_S)
            and (not kinds or event["type"] in kinds)
        ]

    def listed(params: Object) -> Object:
        return page(chosen("event", params, int), params, "/v1/events")

    def listed_v2(params: Object) -> Object:
        """Pages by a token, which here is the id that a page begins with."""
        rows = chosen("v2.core.event", params, _unix)[::-1]
        limit = int(params.get("limit", 20))
        if not 1 <= limit <= 100 or len(params.get("types") or []) > 20:
            raise Refusal(400, "limit is between 1 and 100, and there are at most 20 types", param="limit")
        ids = [row["id"] for row in rows]
        at = ids.index(params["page"]) if params.get("page") in ids else 0
        following = f"/v2/core/events?limit={limit}&page={ids[at + limit]}" if at + limit < len(ids) else None
        return {"data": rows[at : at + limit], "next_page_url": following, "previous_page_url": None}

    return [
        ("GET", "/v1/events", "event", listed),
        ("GET", "/v1/events" + ID, "event", lambda key, p: found(events, key, "event")),
        ("GET", "/v2/core/events", "event", listed_v2),
        ("GET", "/v2/core/events" + ID, "event", lambda key, p: found(events, key, "event")),
    ]
