"""The fake Stripe on a thread of its own, on this machine's time."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import ClientSession, web

from demo.fakestripe import Endpoint, FakeStripe
from demo.fakestripe.server import Server
from tests.billing.killer import Killer

Made = TypeVar("Made")
SECRET = "whsec_e2e"
RESTRICTED = "rk_test_restricted"


class _Wall:
    def wall_ns(self) -> int:
        return time.time_ns()


class Stripe:
    """``url``: where it listens. ``do`` runs a function of the fake on its thread; ``killer`` may kill who reports
    usage. ``rights``: of the restricted key RESTRICTED."""

    def __init__(self, rights: frozenset[str] = frozenset()) -> None:
        self.fake = FakeStripe(_Wall(), keys={RESTRICTED: rights})
        self.url = ""
        self.killer = Killer()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(30)

    def do(self, work: Callable[[FakeStripe], Made]) -> Made:
        async def run() -> Made:
            return work(self.fake)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    def hook(self, url: str) -> None:
        """Events go there from now on."""
        self.do(lambda fake: fake.webhooks.endpoints.append(Endpoint(url, SECRET)))

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)

    def bill(self, subscription: str) -> dict[str, Any]:
        """An invoice over the fee of another month, attempted at once."""

        def work(fake: FakeStripe) -> dict[str, Any]:
            sub = fake.world.subscriptions[subscription]
            items = [(item, item["current_period_start"], item["current_period_end"]) for item in sub["items"]["data"]]
            span = (items[0][1], items[0][2])
            invoice = fake.invoices.draft(sub, "subscription_cycle", items, span)
            fake.invoices.run(invoice)
            return invoice

        return self.do(work)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = Server(self.fake)
        app = server.application()
        app.middlewares.insert(0, self.killer.middleware())
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = "http://{}:{}".format(*runner.addresses[0][:2])
        self._ready.set()
        try:
            async with ClientSession() as session:
                while not self._end.is_set():
                    self.fake.run_due()
                    await server.deliver(session)
                    await asyncio.sleep(0.05)
        finally:
            await runner.cleanup()
