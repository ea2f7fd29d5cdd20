"""An installation whose payee is the fake Stripe over HTTP, by the official SDK, on one virtual clock.

Stripe's own OpenAPI document checks each exchange.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestServer

from demo.fakestripe import KEY, FakeStripe
from demo.fakestripe.server import Server
from sidecar.billing import Reporting, payee_of
from sidecar.billing.access import Keeper
from sidecar.billing.catalogue import apply
from sidecar.billing.pace import Pace
from sidecar.billing.payees import Payee
from sidecar.billing.stripe import StripeClient
from sidecar.config import Overrides, load
from sidecar.core.accounts import PaymentCounts
from sidecar.core.billing import Period
from sidecar.core.billing_settings import StripeSettings
from sidecar.core.clock import NS_PER_S, ManualClock
from sidecar.core.policy import Snapshot
from tests.billing.books import Books
from tests.fakestripe.openapi import Validated

HOOK = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"  # ${HOOK} in ``more``
POLICIES = """\
meters: {tokens: {count: units, stripe_event: acme_tokens}}
routes: [{name: all, match: {path: "/{rest...}"}}]
plans:
  pro:
    price:
      meters:
        tokens: {mode: graduated, tiers: [{up_to: 10, amount: "0.10 USD"}, {amount: "0.05 USD"}]}
"""


class World:
    """``url``: the fake's. The tenant is ``acme``."""

    def __init__(self, path: Path, url: str, fake: FakeStripe, clock: ManualClock, snapshot: Snapshot) -> None:
        self.fake = fake
        self.clock = clock
        self.books = Books(path, periods=(), events=None, clock=clock)
        self.snapshot = snapshot
        self._report()
        self.url = url
        stripe = snapshot.settings.billing.stripe
        assert stripe is not None
        self.stripe: StripeSettings = stripe
        self.client = StripeClient(stripe)
        self.keeper = Keeper(self.books.store, self.client, lambda: snapshot, clock, PaymentCounts())
        self.keeper._pace = _Free()

    def _report(self) -> None:
        payee = payee_of(self.snapshot, self.books.store, self.clock, sleep=_at_once)
        assert payee is not None
        self.payee: Payee = payee
        self.reporting = Reporting(self.books.store, payee.parts, "node", self.clock)

    async def restart(self) -> None:
        """Another process reports: nothing of the last one's memory is left."""
        await self.reporting.close()
        self._report()

    @property
    def store(self) -> Any:
        return self.books.store

    @property
    def now_s(self) -> int:
        return self.books.now_s

    def price(self, key: str = "sidecar:pro:tokens") -> str:
        return next(str(p["id"]) for p in self.fake.world.prices.values() if p["lookup_key"] == key)

    async def subscribe(self, **more: Any) -> str:
        """The catalogue is made and acme buys pro: the customer."""
        await apply(self.client, self.snapshot, "sidecar", pace=_Free())
        customer = self.fake.customer(name="acme")
        made = self.fake.subscriptions.create({"customer": customer, "items": [{"price": self.price()}], **more})
        self.subscription = str(made["id"])
        self.books.customers["acme"] = customer
        await self.read()
        return customer

    async def read(self) -> None:
        """What follows from a webhook: the subscription is read again."""
        await self.keeper.refresh("acme", self.books.customers["acme"])

    def billed(self, period: Period) -> int:
        """What Stripe's meter holds of acme within the period."""
        customer, now_ns = self.books.customers["acme"], self.clock.wall_ns()
        return int(self.fake.summary("acme_tokens", customer, period.start_s, period.end_s, now_ns))

    async def pass_time(self, seconds: int, step: int) -> None:
        """What the process does goes on meanwhile."""
        for _ in range(seconds // step):
            self.fake.advance(step)
            await self.reporting.tick()

    async def close(self) -> None:
        await self.reporting.close()
        await self.client.close()
        self.books.end()


@asynccontextmanager
async def open_world(
    folder: Path, start_s: int, more: str = "", rights: frozenset[str] | None = None
) -> AsyncIterator[World]:
    """``more``: lines for ``billing:``; ``rights``: those of a restricted key, None: the key may do all."""
    clock = ManualClock(wall_ns=start_s * NS_PER_S)
    key = KEY if rights is None else "rk_test_restricted"
    fake = FakeStripe(clock, keys={} if rights is None else {key: rights})
    app = Server(fake).application()
    watched = Validated(app)
    served = TestServer(app)
    await served.start_server()
    url = str(served.make_url("")).rstrip("/")
    (folder / "policies").mkdir()
    (folder / "policies" / "p.yaml").write_text(POLICIES)
    (folder / "sidecar.yaml").write_text(
        f"policies: [policies]\nupstreams: {{api: {{targets: ['http://127.0.0.1:1']}}}}\n"
        f"billing:\n  stripe: {{api_key: '${{KEY}}', api: '{url}'}}\n{more}"
    )
    snapshot = load(folder / "sidecar.yaml", Overrides(), {"KEY": key, "HOOK": HOOK}, needs_upstream=True)
    made = World(folder / "a.db", url, fake, clock, snapshot)
    yield made
    await made.close()
    await served.close()
    # An event without a payload can never be taken: it asks for the permission alone (billing.stripe.check).
    watched.faults[:] = [fault for fault in watched.faults if "'payload' is a required property" not in fault]
    watched.assert_clean()


class _Free(Pace):
    """A pace that never waits."""

    def __init__(self) -> None:
        super().__init__(1, ManualClock(), sleep=_at_once)


async def _at_once(seconds: float) -> None:
    return None
