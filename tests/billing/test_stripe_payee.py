"""Reporting against the fake Stripe over HTTP, by the official SDK; Stripe's own document checks each exchange."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from demo.fakestripe import KEY, FakeStripe
from demo.fakestripe.server import Server
from sidecar.billing import Reporting, payee_of
from sidecar.billing.catalogue import apply
from sidecar.billing.payees import Payee
from sidecar.billing.stripe import StripeClient
from sidecar.config import Overrides, load
from sidecar.core.accounts import Account
from sidecar.core.billing import Period, RowQuery
from sidecar.core.clock import NS_PER_S, ManualClock
from sidecar.core.policy import Snapshot
from tests.billing.books import Books
from tests.fakestripe.openapi import Validated

POLICIES = """\
meters: {tokens: {count: units, stripe_event: acme_tokens}}
routes: [{name: all, match: {path: "/{rest...}"}}]
plans:
  pro:
    price:
      meters:
        tokens: {mode: graduated, tiers: [{up_to: 10, amount: "0.10 USD"}, {amount: "0.05 USD"}]}
"""
START_S = 1_767_225_600 + 12 * 86_400  # 2026-01-13 00:00 UTC


class World:
    """One installation whose payee is the fake, on one virtual clock."""

    def __init__(self, path: Path, url: str, fake: FakeStripe, clock: ManualClock, snapshot: Snapshot) -> None:
        self.fake = fake
        self.clock = clock
        self.books = Books(path, periods=(), events=None, clock=clock)
        payee = payee_of(snapshot, self.books.store, clock)
        assert payee is not None
        self.payee: Payee = payee
        self.reporting = Reporting(self.books.store, payee.parts, "node", clock)
        self.snapshot = snapshot
        self.url = url

    async def subscribe(self) -> str:
        client = StripeClient(self.snapshot.settings.billing.stripe)  # type: ignore[arg-type]  # it is configured
        await apply(client, self.snapshot, "sidecar")
        await client.close()
        customer = self.fake.customer(name="acme")
        price = next(price for price in self.fake.world.prices.values() if price["lookup_key"] == "sidecar:pro:tokens")
        made = self.fake.subscriptions.create({"customer": customer, "items": [{"price": price["id"]}]})
        self.subscription = str(made["id"])
        self.books.customers["acme"] = customer
        await self.read()
        return customer

    async def read(self) -> None:
        """What the keeper of accounts does: the subscription's periods."""
        item = self.fake.world.subscriptions[self.subscription]["items"]["data"][0]
        seen = Period(item["current_period_start"], item["current_period_end"])
        old = await self.books.store.account("acme")
        periods = tuple(sorted({*(old.periods if old else ()), seen}))
        account = Account("acme", self.books.customers["acme"], self.subscription, "active", periods=periods)
        await self.books.store.save_account(account, actor="test", at_ns=1)

    async def pass_time(self, seconds: int, step: int) -> None:
        for _ in range(seconds // step):
            self.fake.advance(step)
            await self.reporting.tick()


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    clock = ManualClock(wall_ns=START_S * NS_PER_S)
    fake = FakeStripe(clock)
    app = Server(fake).application()
    watched = Validated(app)
    served = TestServer(app)
    await served.start_server()
    url = str(served.make_url("")).rstrip("/")
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "p.yaml").write_text(POLICIES)
    (tmp_path / "sidecar.yaml").write_text(
        f"policies: [policies]\nupstreams: {{api: {{targets: ['http://127.0.0.1:1']}}}}\n"
        f"billing: {{stripe: {{api_key: '${{KEY}}', api: '{url}'}}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    snapshot = load(tmp_path / "sidecar.yaml", Overrides(), {"KEY": KEY}, needs_upstream=True)
    made = World(tmp_path / "a.db", url, fake, clock, snapshot)
    yield made
    await made.reporting.close()
    made.books.end()
    await served.close()
    # An event without a payload can never be taken: it asks for the permission alone (billing.stripe.check).
    watched.faults[:] = [fault for fault in watched.faults if "'payload' is a required property" not in fault]
    watched.assert_clean()


async def test_a_month_is_used_reported_verified_and_invoiced(world: World) -> None:
    await world.subscribe()
    for tokens in (3, 40, 500):
        await world.books.use(tokens)
        await world.pass_time(1_200, 300)
    await world.pass_time(3 * 3_600, 3_600)
    store = world.books.store
    assert {row.state for row in await store.rows(RowQuery())} == {"verified"}
    account = await store.account("acme")
    assert account is not None
    await world.pass_time(account.periods[-1].end_s - world.books.now_s + 60, 86_400)
    world.fake.advance(account.periods[-1].end_s - world.books.now_s + 60)
    await world.read()
    await world.pass_time(2_400, 600)
    (draft,) = await store.parities()
    assert (draft.final, draft.ledger, draft.payee, draft.billed, draft.agrees) == (False, 543, 543, 543, True)
    await world.pass_time(3_600, 600)
    (final,) = await store.parities()
    assert (final.final, final.billed, final.agrees) == (True, 543, True)
    invoice = world.fake.world.invoices[final.invoice]
    assert invoice["total"] == 10 * 10 + 533 * 5, "ten at 0.10, the rest at 0.05"
    assert world.reporting.read().parity_differs == 0


async def test_an_invoice_that_does_not_agree_is_told_while_it_is_a_draft(world: World) -> None:
    customer = await world.subscribe()
    await world.books.use(7)
    await world.pass_time(7_200, 600)
    account = await world.books.store.account("acme")
    assert account is not None
    stamp = world.books.now_s - 3_600
    world.fake.meter_event("acme_tokens", customer, "5", "somebody's", stamp, world.clock.wall_ns())
    world.fake.advance(account.periods[-1].end_s - world.books.now_s + 60)
    await world.read()
    await world.pass_time(2_400, 600)
    (draft,) = await world.books.store.parities()
    assert (draft.final, draft.ledger, draft.payee, draft.billed, draft.agrees) == (False, 7, 12, 12, False)
    assert world.reporting.read().parity_differs == 1


async def test_a_meter_that_stripe_lacks_is_named_and_nothing_is_sent(world: World) -> None:
    await world.reporting.tick()
    (fault,) = world.reporting.read().faults
    assert fault == 'Stripe has no meter with the event name "acme_tokens"; make it with `sidecar stripe apply`'
    assert not [path for method, path, _ in world.fake.calls if path == "/v1/billing/meter_events"]
