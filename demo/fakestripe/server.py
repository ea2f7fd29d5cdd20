"""The model behind sockets: forms and JSON in, answers, cut connections and delays out, webhooks on their way."""

import asyncio
import json
from collections.abc import Iterable

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from demo.fakestripe.model import FakeStripe
from demo.fakestripe.params import nested
from demo.fakestripe.state import Lost, Object, Reply
from demo.fakestripe.webhooks import Delivery

MAX_BODY = 1 << 20


class Server:
    """One fake on HTTP. ``lanes``: the (event name, customer) pairs whose event is being processed."""

    def __init__(self, fake: FakeStripe) -> None:
        self.fake = fake
        self.lanes: set[tuple[str, str]] = set()

    def application(self, routes: Iterable[web.RouteDef] = ()) -> web.Application:
        """``routes`` come before Stripe's own."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_routes(routes)
        app.router.add_route("*", "/{path:.*}", self.serve)
        return app

    async def serve(self, request: web.Request) -> web.StreamResponse:
        await self._delay(request.path)
        try:
            params = await _params(request)
        except ValueError as error:
            return web.json_response({"error": {"type": "invalid_request_error", "message": str(error)}}, status=400)
        lane = _lane(request.path, params)
        try:
            if lane is None:
                return _response(self._handle(request, params))
            if lane in self.lanes:
                return _response(self.fake.refused("conflict"))
            self.lanes.add(lane)
            try:
                if self.fake.knobs.processing_s:
                    await asyncio.sleep(self.fake.knobs.processing_s)
                return _response(self._handle(request, params))
            finally:
                self.lanes.discard(lane)
        except Lost as lost:
            return await _cut(request, lost.cut)

    def _handle(self, request: web.Request, params: Object) -> Reply:
        return self.fake.handle(request.method, request.path, request.headers, params)

    async def _delay(self, path: str) -> None:
        for fault in list(self.fake.knobs.faults):
            if fault.kind == "delay" and path.startswith(fault.path):
                fault.times -= 1
                if fault.times <= 0:
                    self.fake.knobs.faults.remove(fault)
                await asyncio.sleep(fault.seconds)

    async def deliver(self, session: ClientSession) -> int:
        """Attempts all deliveries that are due, one after another; how many."""
        ready = self.fake.webhooks.due()
        for delivery in ready:
            self.fake.webhooks.answered(delivery, await self._post(session, delivery))
        return len(ready)

    async def _post(self, session: ClientSession, delivery: Delivery) -> int:
        body, headers = self.fake.webhooks.signed(delivery)
        try:
            timeout = ClientTimeout(total=20)
            async with session.post(delivery.endpoint.url, data=body, headers=headers, timeout=timeout) as answer:
                return answer.status
        except (ClientError, TimeoutError):
            return 0


def application(fake: FakeStripe) -> web.Application:
    """The app alone, for tests that need no deliveries."""
    return Server(fake).application()


async def _params(request: web.Request) -> Object:
    if request.method == "GET":
        return nested(request.query.items())
    if "json" in request.content_type:
        body = json.loads(await request.text() or "{}")
        if not isinstance(body, dict):
            raise ValueError("the body is not an object")
        return body
    form = await request.post()
    return nested([*request.query.items(), *((name, str(value)) for name, value in form.items())])


def _lane(path: str, params: Object) -> tuple[str, str] | None:
    if path not in ("/v1/billing/meter_events", "/v2/billing/meter_events"):
        return None
    return str(params.get("event_name")), json.dumps(params.get("payload", {}).get("stripe_customer_id"))


def _response(reply: Reply) -> web.Response:
    text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
    return web.Response(status=reply.status, body=text.encode(), headers=reply.headers)


async def _cut(request: web.Request, reply: Reply | None) -> web.StreamResponse:
    """Ends the connection: without a byte, or with headers that promise a body and the half of it."""
    response = web.StreamResponse(status=reply.status if reply else 200)
    if reply is not None:
        body = json.dumps(reply.body).encode()
        response.headers.update(reply.headers)
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.abort() if reply is None else request.transport.close()
    return response
