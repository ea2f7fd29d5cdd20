"""What operators do with the catalogue at Stripe; each call opens a client and closes it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sidecar.core.errors import SidecarError
from sidecar.core.policy import Snapshot

if TYPE_CHECKING:
    from sidecar.billing.catalogue import Difference
    from sidecar.billing.stripe import StripeClient


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
