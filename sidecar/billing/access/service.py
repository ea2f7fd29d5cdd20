"""All of payment that runs in a process: the pages on the public port, the one task that keeps accounts true, the one
that tells. Several nodes take the deliveries; one of them at a time works them off."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from sidecar.billing.access.endpoint import WEBHOOK, WELCOME, WebhookEndpoint, WelcomePage
from sidecar.billing.access.inbox import Inbox
from sidecar.billing.access.keeper import Keeper, PaymentStore
from sidecar.billing.access.newcomers import Mint, Newcomers
from sidecar.billing.notices import NoticeSender
from sidecar.billing.stripe import StripeClient
from sidecar.core.accounts import PaymentCounts
from sidecar.core.billing_settings import StripeSettings
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import SidecarError
from sidecar.core.policy import Snapshot

LEAD_NS = 30 * NS_PER_S
ROUND_S = 1.0  # without an arrival
log = logging.getLogger("sidecar.billing")


class Payments:
    """``routes`` go to the public port; ``start`` the tasks, ``close`` them."""

    def __init__(
        self,
        stripe: StripeSettings,
        snapshot: Callable[[], Snapshot],
        store: PaymentStore,
        mint: Mint,
        node: str,
        clock: Clock,
    ) -> None:
        self.counts = PaymentCounts()
        self._store = store
        self._clock = clock
        self._node = node
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._client = StripeClient(stripe)
        keeper = Keeper(store, self._client, snapshot, clock, self.counts)
        newcomers = Newcomers(store, self._client, keeper, snapshot, mint, clock, self.counts.faults)
        self._inbox = Inbox(store, self._client, keeper, newcomers, snapshot, clock, self.counts)
        self._sender = NoticeSender(store, snapshot().settings.billing.notices, clock, self.counts.notices)
        self._page = WelcomePage(newcomers, lambda: _is_https(snapshot().settings.billing.access.public_url))
        self._endpoint = WebhookEndpoint(
            store.receive, stripe.webhook_secrets, clock, self.counts.webhooks, self._news.set
        )
        self._hooked = bool(stripe.webhook_secrets)

    def routes(self) -> list[web.RouteDef]:
        """The webhook's address exists where there is a secret to verify with."""
        pages = [web.get(WELCOME, self._page.ask), web.post(WELCOME, self._page.show)]
        return [*pages, *([web.post(WEBHOOK, self._endpoint.answer)] if self._hooked else [])]

    def start(self) -> None:
        """Begins to work."""
        self._tasks = [
            asyncio.create_task(self._led("access", self._inbox.round)),
            asyncio.create_task(self._led("notices", self._sender.work_off)),
        ]

    async def close(self) -> None:
        """Ends the work and lets another node lead."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for what in ("access", "notices"):
            with contextlib.suppress(SidecarError):
                await self._store.yield_lead(what, self._node)
        await self._sender.close()
        await self._client.close()

    async def _led(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        until_ns = 0
        while True:
            try:
                now = self._clock.monotonic_ns()
                if now >= until_ns:
                    led = await self._store.lead(what, self._node, ttl_ns=LEAD_NS, at_ns=self._clock.wall_ns())
                    until_ns = now + LEAD_NS // 3 if led else 0
                if until_ns:
                    await work()
            except SidecarError as error:
                log.warning("%s: %s", what, error)
            except Exception:
                log.exception("%s failed; it goes on", what)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROUND_S):
                    await self._news.wait()
                    self._news.clear()


def _is_https(url: str | None) -> bool:
    return url is not None and url.startswith("https:")
