"""A receiver of usage on a thread of its own that fails as it is told to."""

import asyncio
import json
import os
import signal
import threading
from collections import deque
from collections.abc import Callable

from aiohttp import web


class Receiver:
    """``faults``: what happens to the next events, one each, in order; then all are taken. ``taken``: id to type,
    subject and value of each event that counts; a second one of an id is refused as known. ``asked``: how often it was
    asked for each id.

    ========  ==============================================================
    ``500``   not taken, status 500
    ``cut``   not taken, the connection is cut
    ``lost``  taken, the connection is cut before the answer
    ``kill``  taken, and ``pid`` is killed (SIGKILL) before the answer
    ========  ==============================================================
    """

    def __init__(self) -> None:
        self.faults: deque[str] = deque()
        self.taken: dict[str, tuple[str, str, int]] = {}
        self.asked: dict[str, int] = {}
        self.differing: list[str] = []  # ids that came with two contents
        self.pid: Callable[[], int] | None = None
        self.url = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(30)

    def sums(self) -> dict[tuple[str, str], int]:
        """Type and subject to what is added up."""
        sums: dict[tuple[str, str], int] = {}
        for kind, subject, value in list(self.taken.values()):
            sums[kind, subject] = sums.get((kind, subject), 0) + value
        return sums

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)
        self._loop.close()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_post("/cloudevents", self._cloud_event)
        app.router.add_post("/lago", self._lago)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = "http://{}:{}".format(*runner.addresses[0][:2])
        self._ready.set()
        await self._end.wait()
        await runner.cleanup()

    async def _cloud_event(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/cloudevents+json"
        event = json.loads(await request.read())
        assert event["specversion"] == "1.0"
        content = (event["type"], event["subject"], int(event["data"]["value"]))
        return self._answer(request, f"{event['source']} {event['id']}", content, web.Response(status=409))

    async def _lago(self, request: web.Request) -> web.Response:
        event = json.loads(await request.read())["event"]
        content = (event["code"], event["external_subscription_id"], int(event["properties"]["value"]))
        known = web.json_response({"error_details": {"transaction_id": ["value_already_exist"]}}, status=422)
        return self._answer(request, event["transaction_id"], content, known)

    def _answer(
        self, request: web.Request, name: str, content: tuple[str, str, int], known: web.Response
    ) -> web.Response:
        self.asked[name] = self.asked.get(name, 0) + 1
        fault = self.faults.popleft() if self.faults else ""
        if fault in ("500", "cut"):
            return web.Response(status=500) if fault == "500" else _cut(request)
        had = self.taken.setdefault(name, content)
        if had != content:
            self.differing.append(name)
        if fault == "kill":
            assert self.pid is not None
            os.kill(self.pid(), signal.SIGKILL)
        if fault in ("kill", "lost"):
            return _cut(request)
        return known if self.asked[name] > 1 and had is not content else web.Response(status=204)


def _cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
