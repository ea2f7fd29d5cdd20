"""What operators do with Stripe, each call with a client of its own; and what the app runs."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.accounts import Notice, PaymentCounts
from sidecar.core.clock import Clock
from sidecar.core.credit_store import CrossingStore
from sidecar.core.crossings import Crossing
from sidecar.core.errors import SidecarError
from sidecar.core.policy import Quota, Snapshot

if TYPE_CHECKING:
    from sidecar.billing.access import Mint, Payments, PaymentStore
    from sidecar.billing.catalogue import Difference
    from sidecar.billing.notices import NoticeService
    from sidecar.billing.notices.service import NoticeStore
    from sidecar.billing.stripe import StripeClient

Tell: TypeAlias = Callable[[Crossing, str, Quota], Awaitable[bool]]


async def plan_catalogue(snapshot: Snapshot) -> "Difference":
    """What ``apply_catalogue`` would change. SidecarError when Stripe is not configured or cannot be asked."""
    from sidecar.billing.catalogue import plan  # loads the SDK, which takes 8 MB

    async with _client(snapshot) as (client, prefix):
        return await plan(client, snapshot, prefix)


async def apply_catalogue(snapshot: Snapshot) -> "Difference":
    """Makes Stripe hold what the policies say; what was changed. SidecarError, also when something is in the way."""
    from sidecar.billing.catalogue import apply

    async with _client(snapshot) as (client, prefix):
        return await apply(client, snapshot, prefix)


def open_payments(
    snapshot: Callable[[], Snapshot], store: "PaymentStore | None", mint: "Mint", node: str, clock: Clock
) -> "Payments | None":
    """What keeps access true to payment, not started yet. None where Stripe is not configured, or no store can hold
    accounts. ``node`` names this process among those of the store, and whoever takes its place after a crash."""
    settings = snapshot().settings.billing.stripe
    if settings is None or store is None:
        return None
    from sidecar.billing.access import Payments

    return Payments(settings, snapshot, store, mint, node, clock)


def open_notices(
    snapshot: Callable[[], Snapshot], store: "NoticeStore", clock: Clock, counts: PaymentCounts
) -> "NoticeService | None":
    """What sends notices where no payment is kept true; None where nobody is told."""
    settings = snapshot().settings.billing.notices
    if not settings.channels:
        return None
    from sidecar.billing.notices import NoticeService  # loads aiosmtplib

    return NoticeService(store, settings, clock, counts)


def teller(snapshot: Callable[[], Snapshot], store: CrossingStore) -> "Tell":
    """Who writes down that a share of a quota was reached, and tells."""
    from sidecar.billing.notices import ThresholdTeller

    return ThresholdTeller(store, snapshot).tell


async def make_checkout(
    snapshot: Snapshot,
    tenant: str,
    plan: str,
    *,
    customer: str | None = None,
    success_url: str | None = None,
    trial_days: int | None = None,
) -> str:
    """A link to buy the plan for the tenant. SidecarError."""
    from sidecar.billing.access import checkout_link

    async with _client(snapshot) as (client, prefix):
        return await checkout_link(
            client,
            snapshot,
            prefix,
            tenant,
            plan,
            customer=customer,
            success_url=success_url,
            trial_days=trial_days,
        )


async def make_portal(snapshot: Snapshot, customer: str) -> str:
    """A link to Stripe's customer portal. SidecarError."""
    from sidecar.billing.access import portal_link

    async with _client(snapshot) as (client, _):
        return await portal_link(client, snapshot, customer)


async def try_stripe(snapshot: Snapshot, say: Callable[[str, str, bool | None], None], clock: Clock) -> bool:
    """Tries what Stripe's documentation leaves open, in a sandbox. ``say``: question, answer, whether reporting may
    rely on it (None: good to know). False when it may not. SidecarError, also with a live key."""
    from sidecar.billing.stripe import SelfTest

    async with _client(snapshot) as (client, _):
        return await SelfTest(client, clock, lambda found: say(found.question, found.answer, found.good)).run()


def preview_notices(snapshot: Snapshot, kind: str, tenant: str, clock: Clock) -> dict[str, str]:
    """Channel to what would go out, headers too. SidecarError when there is no such kind or nobody is told."""
    from sidecar.billing.notices import mail_of, request_of

    settings = snapshot.settings.billing.notices
    shown = {}
    for notice in _examples(snapshot, kind, tenant, clock):
        if settings.mail is not None and notice.channel == "email":
            shown["email"] = mail_of(notice, settings.mail).as_string()
        elif settings.webhook is not None:
            headers, body = request_of(notice, settings.secret or "", clock.wall_ns())
            lines = [f"POST {settings.webhook}", *(f"{name}: {value}" for name, value in headers.items())]
            shown["webhook"] = "\n".join([*lines, "", body.decode()])
    return shown


async def send_notices(snapshot: Snapshot, kind: str, tenant: str, clock: Clock) -> dict[str, str]:
    """Sends them now, once: channel to why it failed, empty when it was taken. SidecarError as above."""
    from sidecar.billing.notices import NoticeSender

    sender = NoticeSender(None, snapshot.settings.billing.notices, clock, {})
    try:
        return {notice.channel: await sender.send(notice) for notice in _examples(snapshot, kind, tenant, clock)}
    finally:
        await sender.close()


def _examples(snapshot: Snapshot, kind: str, tenant: str, clock: Clock) -> list[Notice]:
    from sidecar.billing.notices import KINDS, example

    channels = snapshot.settings.billing.notices.channels
    if not channels:
        raise SidecarError("nobody is told; write billing.notices.webhook or billing.notices.mail")
    if kind not in KINDS:
        raise SidecarError(f"there is no notice {kind}; write one of {', '.join(KINDS)}")
    return [example(kind, tenant, channel, clock.wall_ns()) for channel in channels]


@asynccontextmanager
async def _client(snapshot: Snapshot) -> AsyncIterator[tuple["StripeClient", str]]:
    from sidecar.billing.stripe import StripeClient

    settings = snapshot.settings.billing.stripe
    if settings is None:
        raise SidecarError("Stripe is not configured; write billing: {stripe: {api_key: ${STRIPE_API_KEY}}}")
    client = StripeClient(settings)
    try:
        yield client, settings.prefix
    finally:
        await client.close()
