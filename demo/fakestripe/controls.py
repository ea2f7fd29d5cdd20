"""What people do at Stripe, as links for a demo: pay at a checkout, let a card fail, look at what was billed.

These are no part of Stripe's API and stand under ``/_fake/``.
"""

from collections.abc import Callable

from aiohttp import web

from demo.fakestripe.model import FakeStripe
from demo.fakestripe.state import Object


class Controls:
    """Routes over one fake. ``catch_up`` sets its clock right."""

    def __init__(self, fake: FakeStripe, catch_up: Callable[[], None]) -> None:
        self.fake = fake
        self._catch_up = catch_up

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/_fake/checkout/{session}/pay", self.pay),
            web.post("/_fake/customers/{customer}/month", self.month),
            web.post("/_fake/customers/{customer}/settle", self.settle),
            web.get("/_fake/usage", self.usage),
            web.post("/_fake/catch-up", self.catch_up),
        ]

    async def pay(self, request: web.Request) -> web.Response:
        """The customer enters a good card."""
        self.fake.sessions.complete(request.match_info["session"])
        return web.json_response({"paid": True})

    async def month(self, request: web.Request) -> web.Response:
        """Another month is invoiced, and the card is refused."""
        customer = request.match_info["customer"]
        self.fake.knobs.payments[customer] = "fail"
        sub = next(one for one in self.fake.world.subscriptions.values() if one["customer"] == customer)
        items = [(item, item["current_period_start"], item["current_period_end"]) for item in sub["items"]["data"]]
        invoice = self.fake.invoices.draft(sub, "subscription_cycle", items, (items[0][1], items[0][2]))
        self.fake.invoices.run(invoice)
        return web.json_response({"invoice": invoice["id"], "status": invoice["status"], "total": invoice["total"]})

    async def settle(self, request: web.Request) -> web.Response:
        """The customer puts in another card, which pays what is open."""
        customer = request.match_info["customer"]
        self.fake.knobs.payments.pop(customer, None)
        opened = [one for one in self.fake.world.invoices.values() if one["customer"] == customer and _owed(one)]
        for invoice in opened:
            self.fake.invoices.act(invoice["id"], "pay")
        return web.json_response({"paid": [invoice["id"] for invoice in opened]})

    async def usage(self, request: web.Request) -> web.Response:
        """Every event that was counted."""
        names = {meter["id"]: meter["event_name"] for meter in self.fake.world.meters.values()}
        rows = [
            {"event": names[meter], "customer": customer, "value": str(row.value), "timestamp": row.timestamp_s}
            for (meter, customer), rows in self.fake.meters.usage.items()
            for row in rows
        ]
        return web.json_response(rows)

    async def catch_up(self, request: web.Request) -> web.Response:
        """Minutes pass at once."""
        self._catch_up()
        return web.json_response({"now": self.fake.world.now_s()})


def _owed(invoice: Object) -> bool:
    return bool(invoice["status"] == "open")
