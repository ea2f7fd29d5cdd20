"""What Stripe lists of what happened, and no webhook brought: snapshot events and thin ones, each from a cursor on.

Stripe lists 30 days. A cursor is where the last reading ended, less two minutes, for an event may be listed late; the
store keeps it, so that whoever works next goes on there, and drops the ids that it knows. What is too much for one
reading is read in shorter stretches of time, the oldest first.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from sidecar.billing.access.keeper import PaymentStore
from sidecar.billing.access.webhooks import arrival_of, is_event
from sidecar.billing.reconcile.rejections import READ_EVENTS, REPORTS
from sidecar.billing.stripe import StripeClient, StripeFault, TooMany, listed, listed_v2
from sidecar.core.accounts import PaymentCounts
from sidecar.core.clock import NS_PER_S, Clock

OVERLAP_S = 120
FIRST_S = 3 * 86_400  # so far back the first reading of all goes, as long as Stripe tries a webhook
LISTED_S = 30 * 86_400 - 3600  # so far back Stripe lists
MOST = 1_000  # events of one reading: ten calls
MOST_SEEN = 10_000  # ids of events that need not be written again
# What may change an account. Every change of a subscription has an event of its own; of invoices two are read besides.
TYPES = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.pending_update_applied",
    "customer.subscription.pending_update_expired",
    "invoice.paid",
    "invoice.payment_failed",
)
log = logging.getLogger("sidecar.billing")
List = Callable[[int, int], Awaitable[list[dict[str, Any]]]]


class EventPoll:
    """Of the one node that leads."""

    def __init__(self, store: PaymentStore, client: StripeClient, clock: Clock, counts: PaymentCounts) -> None:
        self._store = store
        self._client = client
        self._clock = clock
        self._counts = counts
        self._seen: dict[str, None] = {}
        self._span_s: dict[str, int] = {}  # of the next reading, where everything at once was too much
        self._failing_since_s: int | None = None
        self._lost = False

    async def poll(self) -> bool:
        """Reads what happened since the last time; whether there is more to be read at once. StoreError."""
        return any([await self._read("events", self._snapshots), await self._read("reports", self._reports)])

    def blind(self, seconds: int) -> bool:
        """Whether events could not be listed for so long, or some were passed over; told once, then counted anew."""
        now_s = self._clock.wall_ns() // NS_PER_S
        lost, self._lost = self._lost, False
        if self._failing_since_s is not None and now_s - self._failing_since_s >= seconds:
            self._failing_since_s, lost = now_s, True
        return lost

    async def _read(self, what: str, read: List) -> bool:
        now_s = self._clock.wall_ns() // NS_PER_S
        cursor = await self._store.cursor(what)
        since_s = max(now_s - FIRST_S if cursor is None else cursor, now_s - LISTED_S)
        until_s = min(since_s + self._span_s.get(what, LISTED_S), now_s + 1)
        try:
            found = await read(since_s, until_s)
        except TooMany as fault:
            self._span_s[what] = (until_s - since_s) // 2
            if until_s - since_s > 1:
                return True
            log.error("more events in one second than are read, everybody is read again: %s", fault)
            found, self._lost = [], True
        except StripeFault as fault:
            self._fail(what, fault, now_s)
            return False
        if what == "events":
            self._counts.faults.pop(what, None)
            self._failing_since_s = None
        for event in reversed(found):
            await self._take(event)
        await self._store.move_cursor(what, min(until_s, now_s - OVERLAP_S))
        if what in self._span_s:
            self._span_s[what] *= 2
        if until_s > now_s:
            self._span_s.pop(what, None)
        return until_s <= now_s

    def _fail(self, what: str, fault: StripeFault, now_s: int) -> None:
        self._counts.failures += 1
        if what == "events":  # what a report says is found by the payee's sums too, an hour later
            self._counts.faults[what] = str(fault)
            self._failing_since_s = now_s if self._failing_since_s is None else self._failing_since_s
        log.warning("Stripe's %s cannot be listed: %s", what, fault)

    async def _take(self, event: dict[str, Any]) -> None:
        id = event.get("id")
        if not is_event(event) or id in self._seen:
            return
        if await self._store.receive(arrival_of(event, self._clock.wall_ns())):
            self._counts.events["polled"] = self._counts.events.get("polled", 0) + 1
        self._seen[str(id)] = None
        while len(self._seen) > MOST_SEEN:
            del self._seen[next(iter(self._seen))]

    async def _snapshots(self, since_s: int, until_s: int) -> list[dict[str, Any]]:
        params = {"created": {"gte": since_s, "lt": until_s}, "types": list(TYPES)}
        return await listed(self._client, self._client.v1.events.list_async, params, READ_EVENTS, most=MOST)

    async def _reports(self, since_s: int, until_s: int) -> list[dict[str, Any]]:
        params = {"created": {"gte": _rfc3339(since_s), "lt": _rfc3339(until_s)}, "types": list(REPORTS)}
        found = await listed_v2(self._client, self._client.v2.core.events.list_async, params, READ_EVENTS, most=MOST)
        return sorted(found, key=lambda event: str(event.get("created")), reverse=True)


def _rfc3339(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
