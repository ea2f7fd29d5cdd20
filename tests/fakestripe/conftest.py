"""The fake on a socket, watched by Stripe's own document, and the official SDK in front of it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import stripe
from aiohttp import web
from aiohttp.test_utils import TestServer

from demo.fakestripe import KEY, FakeStripe
from demo.fakestripe.server import Server
from sidecar.core.clock import ManualClock
from tests.fakestripe.openapi import Validated

stripe.enable_telemetry = False
START_S = 1_767_225_600 + 30 * 86_400  # 2026-01-31 00:00 UTC


@dataclass
class Account:
    """A fake, its clock, its server and a way to make clients of it."""

    fake: FakeStripe
    clock: ManualClock
    server: Server
    app: web.Application
    url: str
    opened: list[stripe.AIOHTTPClient]

    def client(self, key: str = KEY) -> stripe.StripeClient:
        http = stripe.AIOHTTPClient(timeout=10)
        self.opened.append(http)
        return stripe.StripeClient(key, base_addresses={"api": self.url, "meter_events": self.url}, http_client=http)

    @property
    def now_s(self) -> int:
        return self.clock.wall_ns() // 10**9


@pytest.fixture
async def account() -> AsyncIterator[Account]:
    clock = ManualClock(wall_ns=START_S * 10**9)
    fake = FakeStripe(clock, keys={"rk_test_read": frozenset({"rak_billing_meter_read"})})
    server = Server(fake)
    app = server.application()
    watched = Validated(app)
    served = TestServer(app)
    await served.start_server()
    made = Account(fake, clock, server, app, str(served.make_url("")).rstrip("/"), [])
    yield made
    for http in made.opened:
        await http.close_async()
    await served.close()
    watched.assert_clean()
