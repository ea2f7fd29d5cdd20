"""A scripted Stripe, and the project's client of it."""

from collections.abc import AsyncIterator

import pytest

from sidecar.billing.stripe import StripeClient
from sidecar.core.billing_settings import StripeSettings
from tests.billing.stripe.peer import KEY, Peer


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    await peer.start()
    yield peer
    await peer.stop()


@pytest.fixture
async def client(peer: Peer) -> AsyncIterator[StripeClient]:
    client = StripeClient(StripeSettings(KEY, api=peer.url))
    yield client
    await client.close()
