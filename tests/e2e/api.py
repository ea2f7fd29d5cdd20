"""A real upstream API on a free loopback port, in a thread of its own; it reports what reached it and waits when told.

==================  ============================================================================================
``/echo...``        200, JSON: method, raw target, header lines, length and SHA-256 of the body
``/bytes/{n}``      ``n`` bytes with Content-Length; ``/chunked/{n}`` the same in chunks
``/status/{code}``  that status, without a body
``/hold``           200 after ``release()``; ``arrived`` is set when a request waits
``/events``         server-sent events: one at once, the second after ``release()``
``/early``          413 without reading the body
``/short``          promises 100 bytes, sends 10, closes
``/drop``           closes without an answer
==================  ============================================================================================
"""

import asyncio
import hashlib
import threading
from collections.abc import Awaitable, Callable

from aiohttp import web

PIECE = b"x" * 65536


class Api:
    """``url`` is the origin; ``seen`` counts what reached the API, by path."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.seen: dict[str, int] = {}
        self.url = ""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(20)

    def hold(self) -> None:
        """From now on `/hold` and `/events` wait."""
        self.arrived.clear()
        self._loop.call_soon_threadsafe(self._open.clear)

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._open.set)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._open.set)
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open, self._end = asyncio.Event(), asyncio.Event()
        self._open.set()
        runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._end.wait()
        await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        first, _, rest = request.path.lstrip("/").partition("/")
        self.seen[request.path] = self.seen.get(request.path, 0) + 1
        answers: dict[str, Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]] = {
            "bytes": self._bytes,
            "chunked": self._bytes,
            "status": self._status,
            "hold": self._hold,
            "events": self._events,
            "early": self._early,
            "short": self._short,
            "drop": self._drop,
        }
        return await answers.get(first, self._echo)(request, rest)

    async def _echo(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        digest, length = hashlib.sha256(), 0
        async for piece in request.content.iter_chunked(65536):
            digest.update(piece)
            length += len(piece)
        lines = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.raw_headers]
        body = {
            "method": request.method,
            "target": request.raw_path,
            "headers": lines,
            "length": length,
            "sha256": digest.hexdigest(),
        }
        return web.json_response(body)

    async def _bytes(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        left = int(rest)
        reply = web.StreamResponse()
        if request.path.startswith("/bytes"):
            reply.content_length = left
        else:
            reply.enable_chunked_encoding()
        await reply.prepare(request)
        while left and request.method != "HEAD":
            await reply.write(PIECE[:left])
            left -= min(left, len(PIECE))
        return reply

    async def _status(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        return web.Response(status=int(rest), headers={"ETag": '"1"'})

    async def _hold(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        self.arrived.set()
        await self._open.wait()
        return web.Response(text="held")

    async def _events(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        await reply.write(b"data: first\n\n")
        self.arrived.set()
        await self._open.wait()
        await reply.write(b"data: second\n\n")
        return reply

    async def _early(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        return web.Response(status=413, text="too much", headers={"Connection": "close"})

    async def _short(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        reply = web.StreamResponse()
        reply.content_length = 100
        await reply.prepare(request)
        await reply.write(b"0123456789")
        assert request.transport is not None
        request.transport.abort()
        return reply

    async def _drop(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
