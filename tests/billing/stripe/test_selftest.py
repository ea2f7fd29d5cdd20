"""The self-test finds what it is told to look for, takes away what it made, and never runs with a live key."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp.test_utils import TestServer

from demo.fakestripe import KEY, FakeStripe
from demo.fakestripe.server import Server
from sidecar.billing.stripe import Finding, SelfTest, StripeClient
from sidecar.core.billing_settings import StripeSettings
from sidecar.core.clock import ManualClock
from sidecar.core.errors import SidecarError
from tests.fakestripe.openapi import Validated


@dataclass
class Sandbox:
    """A fake on a virtual clock, and the self-test of it."""

    fake: FakeStripe
    clock: ManualClock
    client: StripeClient
    found: list[Finding]

    async def run(self) -> bool:
        async def sleep(seconds: float) -> None:
            self.clock.advance(seconds)

        return await SelfTest(self.client, self.clock, self.found.append, sleep=sleep).run()

    def answer(self, words: str) -> Finding:
        (found,) = (finding for finding in self.found if words in finding.question)
        return found


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    clock = ManualClock()
    fake = FakeStripe(clock)
    app = Server(fake).application()
    watched = Validated(app)
    served = TestServer(app)
    await served.start_server()
    client = StripeClient(StripeSettings(KEY, api=str(served.make_url("")).rstrip("/")))
    yield Sandbox(fake, clock, client, [])
    await client.close()
    await served.close()
    watched.assert_clean()


async def test_a_sandbox_that_does_as_documented_is_good(sandbox: Sandbox) -> None:
    sandbox.fake.knobs.summary_lag_s = 40
    assert await sandbox.run()
    assert len(sandbox.found) == 6
    assert 40 <= int(sandbox.answer("how late").answer.split()[1]) <= 60
    assert sandbox.answer("newest event").good
    assert all(meter["status"] == "inactive" for meter in sandbox.fake.world.meters.values())
    assert all(customer.get("deleted") for customer in sandbox.fake.world.customers.values())


async def test_a_sandbox_that_counts_an_identifier_twice_is_not(sandbox: Sandbox) -> None:
    sandbox.fake.knobs.dedupe_s = 0
    assert not await sandbox.run()
    assert sandbox.answer("second event").good is False


async def test_sums_that_never_show_an_event_are_said(sandbox: Sandbox) -> None:
    sandbox.fake.knobs.summary_lag_s = 10**6
    assert not await sandbox.run()
    assert "not there after 300 s" in sandbox.answer("how late").answer


async def test_what_was_made_is_taken_away_when_it_breaks_off(sandbox: Sandbox) -> None:
    sandbox.fake.fail_next("unavailable", "/v1/billing/meter_events")
    with pytest.raises(SidecarError):
        await sandbox.run()
    assert all(meter["status"] == "inactive" for meter in sandbox.fake.world.meters.values())


async def test_a_live_key_is_refused() -> None:
    live = StripeClient(StripeSettings("sk_live_abcdefgh"))
    with pytest.raises(SidecarError, match="sandbox only"):
        SelfTest(live, ManualClock(), [].append)
    await live.close()
