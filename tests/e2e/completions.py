"""A fake completion API that speaks as OpenAI's does: whole replies, streams with and without usage, compressed ones.

Tokens are counted by words, so that a test knows what must be billed. ``asked`` holds every request body.
"""

import asyncio
import gzip
import json
import threading
from typing import Any

from aiohttp import web


class Completions:
    """``url`` is the origin; lives in a thread of its own until ``stop``."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.url = ""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(20)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._end.wait()
        await runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(asked)
        words = asked["messages"][-1]["content"].split()
        usage = {"prompt_tokens": len(words), "completion_tokens": 3, "total_tokens": len(words) + 3}
        head = {"id": "chatcmpl-1", "created": 1_760_000_000, "model": asked["model"]}
        if asked.get("stream"):
            return await self._stream(request, asked, head, usage)
        message = {"role": "assistant", "content": "one two three"}
        body = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        text = json.dumps(head | body | {"usage": usage}).encode()
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(
                body=gzip.compress(text), headers={"Content-Encoding": "gzip", "Content-Type": "application/json"}
            )
        return web.Response(body=text, content_type="application/json")

    async def _stream(
        self, request: web.Request, asked: dict[str, Any], head: dict[str, Any], usage: dict[str, int]
    ) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await reply.prepare(request)
        wanted = (asked.get("stream_options") or {}).get("include_usage")
        for word in ("one ", "two ", "three"):
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            chunk = head | {"object": "chat.completion.chunk", "choices": [choice]}
            if wanted:
                chunk["usage"] = None
            await reply.write(f"data: {json.dumps(chunk)}\n\n".encode())
        if wanted:
            last = head | {"object": "chat.completion.chunk", "choices": [], "usage": usage}
            await reply.write(f"data: {json.dumps(last)}\n\n".encode())
        await reply.write(b"data: [DONE]\n\n")
        return reply
