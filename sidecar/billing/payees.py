"""The payee that the configuration names, put together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from sidecar.billing.cloud_events import CloudEvents
from sidecar.billing.outbox import Assigner, Events, Rules, Sender, events_of
from sidecar.billing.outbox.windows import Terms
from sidecar.billing.pace import Pace
from sidecar.billing.reconcile import Alarms, Book, ParityKeeper, Reporter, Verifier, unasked_tenants
from sidecar.billing.reporting import Parts
from sidecar.core.accounts import Account
from sidecar.core.billing import Period
from sidecar.core.billing_settings import Billing, CloudEventsSink, StripeSettings
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.policy import Snapshot
from sidecar.core.values import Tenant

# Per second: Stripe takes 1,000 events live, 25 of each other call, and 25 of everything together with a test key.
LIVE_RATE, TEST_RATE = 250, 10
LIVE_READS, TEST_READS = 15, 5  # of sums, and again of invoices; the rest is for whoever else uses the account
_MINUTE_NS = 60 * NS_PER_S
_PAGE = 500


class TenantBook(Book, Protocol):
    """A store that knows the tenants too."""

    async def tenants(self, *, after: str = "", limit: int = 100) -> list[Tenant]: ...


@dataclass(frozen=True, slots=True)
class Payee:
    """Who is told of usage, and asked for a report."""

    parts: Parts
    reporter: Reporter


def payee_of(
    snapshot: Snapshot,
    store: TenantBook,
    clock: Clock,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Payee | None:
    """None: nobody is to be told of usage, or no meter has an event. ``sleep``: of whoever keeps a pace."""
    billing = snapshot.settings.billing
    events = events_of(snapshot.meters.values())
    if not (events.added or events.hourly):
        return None
    if billing.stripe is not None:
        return _stripe(snapshot, billing.stripe, events, store, clock, sleep)
    if billing.cloud_events is not None:
        return _cloud_events(snapshot, billing.cloud_events, events, store, clock)
    return None


def terms_of(billing: Billing) -> Terms:
    return Terms(
        window=billing.window_ns // _MINUTE_NS,
        grace_s=billing.invoice_grace_ns // NS_PER_S,
        carry=billing.late == "carry",
    )


def _stripe(
    snapshot: Snapshot,
    settings: StripeSettings,
    events: Events,
    store: TenantBook,
    clock: Clock,
    sleep: Callable[[float], Awaitable[None]],
) -> Payee:
    from sidecar.billing.catalogue import plan  # loads the SDK, which takes 8 MB
    from sidecar.billing.stripe import InvoiceLines, MeterEvents, MeterSums, StripeClient, check

    client = StripeClient(settings)
    reads = LIVE_READS if client.live else TEST_READS
    sums = MeterSums(client, clock, rate=reads, sleep=sleep)
    rules = Rules(terms_of(snapshot.settings.billing))
    rate = settings.rate or (LIVE_RATE if client.live else TEST_RATE)

    verifier = Verifier(store, sums, clock)
    meters = {**events.added, **events.hourly}
    bills = InvoiceLines(client, Pace(reads, clock, sleep=sleep), clock)
    reporter = Reporter(store, sums, meters, clock, terms=rules.terms, bills=bills)
    channels = snapshot.settings.billing.notices.channels

    async def drift() -> int | None:
        return len((await plan(client, snapshot, settings.prefix)).lines)

    parts = Parts(
        assigner=Assigner(store, events, rules.terms, clock),
        sender=Sender(store, MeterEvents(client), sums, clock, rules=rules, rate=rate, sleep=sleep),
        verifier=verifier,
        parity=ParityKeeper(store, reporter, bills, verifier, meters, channels, clock),
        events=events,
        alarms=Alarms(store, channels, clock),
        check=lambda: check(client, snapshot),
        drift=drift,
        unasked=lambda: unasked_tenants(store, snapshot),
        prepare=_nothing,
        close=client.close,
    )
    return Payee(parts, reporter)


def _cloud_events(
    snapshot: Snapshot, settings: CloudEventsSink, events: Events, store: TenantBook, clock: Clock
) -> Payee:
    sink = CloudEvents(settings)
    rules = Rules(terms_of(snapshot.settings.billing), gate_s=None)

    async def check() -> list[str]:
        return [
            f"the meter {meter} has stripe_window: hour, which {settings.url} cannot take: it adds events up"
            for meter in events.hourly
        ]

    async def drift() -> int | None:
        return None

    parts = Parts(
        assigner=Assigner(store, events, rules.terms, clock),
        sender=Sender(store, sink, None, clock, rules=rules, rate=settings.rate),
        verifier=None,
        parity=None,
        events=events,
        alarms=Alarms(store, (), clock),
        check=check,
        drift=drift,
        unasked=_nobody,
        prepare=_own_accounts(snapshot, store, clock),
        close=sink.close,
    )
    return Payee(parts, Reporter(store, None, {**events.added, **events.hourly}, clock, terms=rules.terms))


def _own_accounts(snapshot: Snapshot, store: TenantBook, clock: Clock) -> Callable[[], Awaitable[None]]:
    """Where no payee tells of customers, each tenant is one, and its periods are calendar months in UTC."""
    known: dict[str, int] = {}  # tenant to the start of its newest period; as many as there are tenants

    async def prepare() -> None:
        now_ns = clock.wall_ns()
        periods = months(now_ns // NS_PER_S)
        for name in [*snapshot.tenants, *[tenant.name async for tenant in _all_tenants(store)]]:
            if known.get(name) != periods[-1].start_s:
                account = Account(name, name, status="active", periods=periods, read_ns=now_ns)
                await store.save_account(account, actor="billing", at_ns=now_ns)
                known[name] = periods[-1].start_s

    return prepare


async def _all_tenants(store: TenantBook) -> AsyncIterator[Tenant]:
    after = ""
    while page := await store.tenants(after=after, limit=_PAGE):
        for tenant in page:
            yield tenant
        after = page[-1].name


def months(now_s: int) -> tuple[Period, ...]:
    """The calendar month before this one, and this one."""
    this = datetime.fromtimestamp(now_s, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    before = this.replace(year=this.year - (this.month == 1), month=(this.month - 2) % 12 + 1)
    after = this.replace(year=this.year + (this.month == 12), month=this.month % 12 + 1)
    edges = [int(moment.timestamp()) for moment in (before, this, after)]
    return Period(edges[0], edges[1]), Period(edges[1], edges[2])


async def _nobody() -> list[str]:
    return []


async def _nothing() -> None:
    return None
