"""Works off what arrived, steps whose time has come, and what webhooks may have missed."""

import logging
from collections.abc import Callable

from sidecar.billing.access.events import TYPES, EventPoll
from sidecar.billing.access.keeper import Keeper, PaymentStore
from sidecar.billing.access.newcomers import SESSION, Newcomers
from sidecar.billing.access.webhooks import hint
from sidecar.billing.reconcile.rejections import REPORTS, Rejections
from sidecar.billing.stripe import StripeClient, StripeFault
from sidecar.core.accounts import Arrival, PaymentCounts
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import SidecarError
from sidecar.core.policy import Snapshot

BATCH = 50  # arrivals or steps in a round: about five seconds of readings
SWEPT = 20  # accounts in a round of a sweep, so that it holds up nothing
EVENTS_S = (10, 60)  # how often events are polled for: without webhooks, with them
BLIND_S = 3600  # without a list of events everybody is read again so often
SWEEP_S = 6 * 3600  # every account is read again
WAIT_NS = (5 * NS_PER_S, 3600 * NS_PER_S)  # before an arrival is tried again: the first time, the longest
MOST_DUE = 10_000  # accounts whose step has come, and those that wait with one
log = logging.getLogger("sidecar.billing")


class Inbox:
    """The work of the one node that leads, in rounds of some seconds: a lead lasts 30."""

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
        self._rejections = Rejections(store, client, lambda: snapshot().settings.billing.notices.channels, clock)
        self._snapshot = snapshot
        self._clock = clock
        self._counts = counts
        self._poll = EventPoll(store, client, clock, counts)
        self._next_events_ns = self._next_sweep_ns = 0
        self._swept: str | None = None  # the last tenant of a sweep that is under way
        self._not_before: dict[str, int] = {}

    async def round(self) -> None:
        """Polled events, arrivals, steps, and now and then everybody. SidecarError when the store fails."""
        now = self._clock.monotonic_ns()
        if now >= self._next_events_ns:
            stripe = self._snapshot().settings.billing.stripe
            hooked = stripe is not None and bool(stripe.webhook_secrets)
            more = await self.poll_events()
            self._next_events_ns = now if more else now + EVENTS_S[hooked] * NS_PER_S
        await self.work_off()
        await self.take_steps()
        if now >= self._next_sweep_ns:
            self._next_sweep_ns = now + SWEEP_S * NS_PER_S
            self._swept = ""
        await self.sweep()

    async def work_off(self) -> None:
        """A customer that several events are about is read once for all of them."""
        done: dict[str, str] = {}
        for arrival in await self._store.arrivals(at_ns=self._clock.wall_ns(), limit=BATCH):
            await self._work(arrival, done)

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
        if about.startswith("evt_"):
            return await self._rejections.learn(about)
        if not about:
            return "nothing follows from it"
        return f"{await self._keeper.refresh_customer(about)} tenants were read again"

    async def take_steps(self) -> None:
        """Grace, read-only and suspension that have come."""
        now = self._clock.wall_ns()
        due = await self._store.accounts_due(at_ns=now, limit=MOST_DUE)
        for account in [one for one in due if self._not_before.get(one.tenant, 0) <= now][:BATCH]:
            try:
                await self._keeper.step(account)
                self._not_before.pop(account.tenant, None)
            except StripeFault as error:
                if len(self._not_before) >= MOST_DUE:
                    self._not_before.clear()
                self._not_before[account.tenant] = now + 60 * NS_PER_S
                log.warning("%s keeps its access: %s", account.tenant, error)

    async def poll_events(self) -> bool:
        """What Stripe lists and no webhook brought; whether there is more. Where it could not be listed for an hour
        everybody is read again: that is the cheaper way, and what is listed later is read all the same."""
        more = await self._poll.poll()
        if self._poll.blind(BLIND_S):
            self._next_sweep_ns = 0
        return more

    async def sweep(self) -> None:
        """Reads the next few of everybody again: what was lost everywhere is found here."""
        if self._swept is None:
            return
        some = await self._keeper.some(after=self._swept, limit=SWEPT)
        self._swept = some[-1][0] if some else None
        for tenant, customer in some:
            try:
                await self._keeper.refresh(tenant, customer)
            except StripeFault as error:
                log.warning("the account of %s cannot be read: %s", tenant, error)
                if error.stop or error.http == 0:
                    self._swept, self._next_sweep_ns = None, self._clock.monotonic_ns() + 60 * NS_PER_S
                    return

    def _count(self, result: str) -> None:
        self._counts.events[result] = self._counts.events.get(result, 0) + 1


def _about(arrival: Arrival) -> str:
    """The checkout session, the customer or the report that is to be read; empty when there is none."""
    if arrival.type in REPORTS:
        return arrival.id
    if arrival.type not in TYPES:
        return ""
    if arrival.type.startswith("checkout.session."):
        return arrival.object_id
    return arrival.object_id if arrival.object_id.startswith("cus_") else hint(arrival, "customer")
