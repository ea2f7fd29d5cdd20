"""Works off what arrived, steps whose time has come, and what webhooks may have missed."""

import logging
from collections.abc import Callable

from sidecar.billing.access.keeper import Keeper, PaymentStore
from sidecar.billing.access.newcomers import SESSION, Newcomers
from sidecar.billing.access.webhooks import arrival_of, hint
from sidecar.billing.stripe import StripeClient, StripeFault, listed
from sidecar.core.accounts import Arrival, PaymentCounts
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import SidecarError
from sidecar.core.policy import Snapshot

BATCH = 100
READ_EVENTS = "Events: Read"
EVENTS_S = (10, 60)  # how often events are polled for: without webhooks, with them
OVERLAP_S = 120  # an event may be listed a little after its time
SWEEP_S = 6 * 3600  # every account is read again
WAIT_NS = (5 * NS_PER_S, 3600 * NS_PER_S)  # before an arrival is tried again: the first time, the longest
MOST_SEEN = 10_000  # ids of polled events that need not be written again
TYPES = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "invoice.created",
    "invoice.finalized",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.marked_uncollectible",
    "invoice.voided",
)
log = logging.getLogger("sidecar.billing")


class Inbox:
    """The work of the one node that leads. Each method returns when there is nothing more to do now."""

    def __init__(
        self,
        store: PaymentStore,
        client: StripeClient,
        keeper: Keeper,
        newcomers: Newcomers,
        snapshot: Callable[[], Snapshot],
        clock: Clock,
        counts: PaymentCounts,
    ) -> None:
        self._store = store
        self._client = client
        self._keeper = keeper
        self._newcomers = newcomers
        self._snapshot = snapshot
        self._clock = clock
        self._counts = counts
        self._since_s = clock.wall_ns() // NS_PER_S - 3600
        self._next_events_ns = self._next_sweep_ns = 0
        self._seen: dict[str, None] = {}
        self._not_before: dict[str, int] = {}

    async def round(self) -> None:
        """Arrivals, steps, polled events, and now and then everybody. SidecarError when the store fails."""
        await self.work_off()
        await self.take_steps()
        now = self._clock.monotonic_ns()
        if now >= self._next_events_ns:
            stripe = self._snapshot().settings.billing.stripe
            hooked = stripe is not None and bool(stripe.webhook_secrets)
            self._next_events_ns = now + EVENTS_S[hooked] * NS_PER_S
            await self.poll_events()
        if now >= self._next_sweep_ns:
            self._next_sweep_ns = now + SWEEP_S * NS_PER_S
            await self.sweep()

    async def work_off(self) -> None:
        """A customer that several events are about is read once for all of them."""
        while batch := await self._store.arrivals(at_ns=self._clock.wall_ns(), limit=BATCH):
            done: dict[str, str] = {}
            for arrival in batch:
                await self._work(arrival, done)
            if len(batch) < BATCH:
                return

    async def _work(self, arrival: Arrival, done: dict[str, str]) -> None:
        about = _about(arrival)
        try:
            note = done.get(about) or await self._follow(about)
        except SidecarError as error:
            wait = min(WAIT_NS[0] << min(arrival.attempts, 20), WAIT_NS[1])
            log.warning("event %s (%s) waits: %s", arrival.id, arrival.type, error)
            await self._store.postpone(arrival.id, next_ns=self._clock.wall_ns() + wait, note=str(error)[:500])
            self._count("postponed")
            return
        done[about] = note
        await self._store.finish(arrival.id, at_ns=self._clock.wall_ns(), note=note)
        self._count("done")

    async def _follow(self, about: str) -> str:
        if SESSION.fullmatch(about):
            state, tenant = await self._newcomers.provide(about)
            return f"{state} {tenant}".strip()
        if not about:
            return "nothing follows from it"
        return f"{await self._keeper.refresh_customer(about)} tenants were read again"

    async def take_steps(self) -> None:
        """Grace, read-only and suspension that have come."""
        now = self._clock.wall_ns()
        for account in await self._store.accounts_due(at_ns=now, limit=BATCH):
            if self._not_before.get(account.tenant, 0) > now:
                continue
            try:
                await self._keeper.step(account)
                self._not_before.pop(account.tenant, None)
            except StripeFault as error:
                if len(self._not_before) >= MOST_SEEN:
                    self._not_before.clear()
                self._not_before[account.tenant] = now + 60 * NS_PER_S
                log.warning("%s keeps its access: %s", account.tenant, error)

    async def poll_events(self) -> None:
        """What Stripe lists and no webhook brought. Every kind once in the store, by its id."""
        params = {"created": {"gte": self._since_s - OVERLAP_S}, "types": list(TYPES)}
        now_s = self._clock.wall_ns() // NS_PER_S
        try:
            found = await listed(self._client, self._client.v1.events.list_async, params, READ_EVENTS, most=2000)
        except StripeFault as error:
            self._counts.failures += 1
            log.warning("Stripe's events cannot be listed: %s", error)
            if now_s - self._since_s > 3600:  # then reading everybody again is the cheaper way
                self._since_s, self._next_sweep_ns = now_s, 0
            return
        for event in reversed(found):
            id, kind = event.get("id"), event.get("type")
            if isinstance(id, str) and isinstance(kind, str) and id not in self._seen:
                if await self._store.receive(arrival_of(event, self._clock.wall_ns())):
                    self._count("polled")
                self._seen[id] = None
        while len(self._seen) > MOST_SEEN:
            del self._seen[next(iter(self._seen))]
        self._since_s = now_s
        await self.work_off()

    async def sweep(self) -> None:
        """Reads everybody again: what was lost everywhere is found here."""
        async for tenant, customer in self._keeper.everybody():
            try:
                await self._keeper.refresh(tenant, customer)
            except StripeFault as error:
                log.warning("the account of %s cannot be read: %s", tenant, error)
                if error.stop or error.http == 0:
                    self._next_sweep_ns = self._clock.monotonic_ns() + 60 * NS_PER_S
                    return

    def _count(self, result: str) -> None:
        self._counts.events[result] = self._counts.events.get(result, 0) + 1


def _about(arrival: Arrival) -> str:
    """The checkout session or the customer that is to be read again; empty when there is neither."""
    if arrival.type.startswith("checkout.session."):
        return arrival.object_id
    return arrival.object_id if arrival.object_id.startswith("cus_") else hint(arrival, "customer")
