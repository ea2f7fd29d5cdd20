"""A store, the fake Stripe on a clock that is moved by hand, and all that keeps accounts true."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from demo.fakestripe import KEY, FakeStripe
from demo.fakestripe.server import Server
from sidecar.billing.access import Keeper, Newcomers
from sidecar.billing.access.inbox import Inbox
from sidecar.billing.access.webhooks import arrival_of
from sidecar.billing.stripe import StripeClient
from sidecar.core.accounts import PaymentCounts
from sidecar.core.billing_settings import AccessPolicy, Billing, Notices, StripeSettings
from sidecar.core.clock import NS_PER_S, ManualClock
from sidecar.core.policy import Plan, Settings, Snapshot
from sidecar.core.values import ApiKey, Tenant
from sidecar.identity import MintedKey, Peppers, new_key
from sidecar.storage import SqliteStore
from tests.fakestripe.openapi import Validated

RESTRICTED = "rk_test_events_only"
PEPPERS = Peppers({"p1": "a pepper for the tests"})
SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"


class House:
    """``pro`` costs 29 a month; ``notices`` go to a webhook. ``price``: of the fee."""

    def __init__(self, store: SqliteStore, clock: ManualClock, fake: FakeStripe, url: str) -> None:
        self.store, self.clock, self.fake = store, clock, fake
        self.stripe = StripeSettings(KEY, api=url, webhook_secrets=("whsec_test",))
        billing = Billing(self.stripe, notices=Notices("http://nobody.example/", SECRET))
        plans = {name: Plan(name) for name in ("free", "pro")}
        self.snapshot = Snapshot(Settings(billing=billing), {}, {}, (), plans)
        self.counts = PaymentCounts()
        self.use(KEY)
        product = fake.catalogue.create_product({"name": "pro"})
        price = {"product": product["id"], "currency": "usd", "unit_amount": 2900, "recurring": {"interval": "month"}}
        marked = {**price, "lookup_key": "sidecar:pro:base", "metadata": {"sidecar": "sidecar"}}
        self.price = fake.catalogue.create_price(marked)["id"]

    def use(self, key: str) -> None:
        """The rooms with this API key."""
        self.client = StripeClient(replace(self.stripe, api_key=key))
        self.keeper = Keeper(self.store, self.client, lambda: self.snapshot, self.clock, self.counts)
        self.keeper._pace = Free()
        everything = (self.store, self.client, self.keeper, lambda: self.snapshot, self.mint, self.clock)
        self.newcomers = Newcomers(*everything, self.counts.faults)
        self.inbox = self.another_inbox()

    def another_inbox(self) -> Inbox:
        """As another node has it, or this one after a restart."""
        everything = (self.store, self.client, self.keeper, self.newcomers, lambda: self.snapshot, self.clock)
        return Inbox(*everything, self.counts)

    def mint(self, **known: Any) -> tuple[ApiKey, MintedKey]:
        return new_key(PEPPERS, "sk", **known)

    def declare(self, **customers: str) -> None:
        tenants = {name: Tenant(name, "free", stripe_customer=customer) for name, customer in customers.items()}
        self.snapshot = replace(self.snapshot, tenants=tenants)

    def access(self, **known: Any) -> None:
        """Another policy of access."""
        billing = replace(self.snapshot.settings.billing, access=AccessPolicy(**known))
        self.snapshot = replace(self.snapshot, settings=replace(self.snapshot.settings, billing=billing))

    def subscribe(self, customer: str, **more: Any) -> dict[str, Any]:
        return self.fake.subscriptions.create({"customer": customer, "items": [{"price": self.price}], **more})

    def checkout(self, **metadata: str) -> dict[str, Any]:
        params = {"mode": "subscription", "line_items": [{"price": self.price}], "metadata": metadata}
        return self.fake.sessions.create({**params, "subscription_data": {"metadata": metadata}})

    async def deliver(self, kinds: str = "", *, times: int = 1) -> int:
        """Receives every event that happened so far whose type begins so; how many were new."""
        new = 0
        for event in list(self.fake.world.events.values()):
            if event["object"] == "event" and event["type"].startswith(kinds):
                for _ in range(times):
                    new += await self.store.receive(arrival_of(event, self.clock.wall_ns()))
        return new

    async def advance(self, days: float) -> None:
        """Time goes by, hour by hour for steps, and the inbox works."""
        for _ in range(max(1, round(days))):
            self.fake.advance(days * 86_400 / max(1, round(days)))
            await self.inbox.round()

    async def access_of(self, tenant: str = "acme") -> tuple[str, str | None]:
        account = await self.store.account(tenant)
        assert account is not None
        return account.access.value, account.plan

    async def told(self) -> list[str]:
        due = await self.store.due_notices(at_ns=self.clock.wall_ns() + NS_PER_S, limit=1000)
        return [notice.kind for notice in due]


class Free:
    """A pace that never waits."""

    async def wait(self) -> None:
        return


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = ManualClock(wall_ns=1_800_000_000 * NS_PER_S)
    fake = FakeStripe(clock, keys={RESTRICTED: frozenset({"rak_event_read"})})
    store = SqliteStore.open(tmp_path / "sidecar.db")
    app = Server(fake).application()
    watched = Validated(app)
    async with TestServer(app) as server:
        house = House(store, clock, fake, str(server.make_url("")))
        yield house
        await house.client.close()
    store.close()
    assert watched.faults == []
