"""A Stripe that kills whoever calls it, at a chosen point of a chosen event."""

import os
import signal
from typing import Any

from aiohttp import web

EVENTS = "/v1/billing/meter_events"
# Of one request, in this order: read and nothing done; done and no byte sent; the head sent; half of the body; all.
POINTS = ("read", "done", "head", "half", "whole")


class Killer:
    """A middleware. ``aim`` at a process and say when: it is killed (SIGKILL) once, then nothing more happens."""

    def __init__(self) -> None:
        self.pid = 0
        self.left = 0
        self.point = ""
        self.killed = 0

    def aim(self, pid: int, number: int, point: str) -> None:
        """At the ``number``-th event from now on."""
        self.pid, self.left, self.point = pid, number, point

    def middleware(self) -> Any:
        @web.middleware
        async def watch(request: web.Request, handler: Any) -> web.StreamResponse:
            if request.path != EVENTS or "payload" not in (await request.text()):
                answer: web.StreamResponse = await handler(request)
                return answer
            self.left -= 1
            if self.left or not self.pid:
                answer = await handler(request)
                return answer
            if self.point == "read":
                self._kill()
            answer = await handler(request)
            if self.point == "done":
                self._kill()
            if self.point in ("read", "done") or not isinstance(answer, web.Response):
                return answer
            return await self._cut(request, answer)

        return watch

    async def _cut(self, request: web.Request, whole: web.Response) -> web.StreamResponse:
        body = bytes(whole.body) if isinstance(whole.body, bytes) else b""
        answer = web.StreamResponse(status=whole.status, headers=whole.headers)
        answer.content_length = len(body)
        await answer.prepare(request)
        if self.point != "head":
            await answer.write(body[: len(body) // 2] if self.point == "half" else body)
        self._kill()
        return answer

    def _kill(self) -> None:
        pid, self.pid = self.pid, 0
        self.killed += 1
        os.kill(pid, signal.SIGKILL)
