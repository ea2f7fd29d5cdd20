"""A browser in front of the sidecar: fetch, a streamed fetch, EventSource; where one is installed."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.e2e.conftest import Make
from tests.e2e.process import write_config

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
POLICIES = """\
routes:
  - {name: keyed, match: {path: "/keyed"}, upstream: api}
  - {name: page, match: {path: "/{path...}"}, upstream: api, auth: none, plan: all}
plans:
  all: {}
tenants:
  browser: {plan: all}
"""
PAGE = """<!doctype html><script>
(async () => {
  const result = {};
  try {
    result.plain = await (await fetch('/data')).json();
    const key = new URLSearchParams(location.search).get('k');
    result.keyed = (await fetch('/keyed', {headers: {'X-API-Key': key}})).status;
    result.refused = (await (await fetch('/keyed')).json()).code;
    result.posted = await (await fetch('/length', {method: 'POST', body: new Uint8Array(1000000)})).text();
    const reader = (await fetch('/stream')).body.getReader();
    result.pieces = 0; result.bytes = 0;
    for (let read; !(read = await reader.read()).done;) {
      result.pieces++;
      result.bytes += read.value.length;
      await fetch('/go');
    }
    result.events = await new Promise((done, failed) => {
      const seen = [], source = new EventSource('/events');
      source.onmessage = event => {
        seen.push(event.data + '/' + event.lastEventId);
        if (seen.length == 4) { source.close(); done(seen); }
      };
      setTimeout(() => failed('only ' + seen), 20000);
    });
  } catch (error) { result.error = String(error); }
  await fetch('/result', {method: 'POST', body: JSON.stringify(result)});
})();
</script>"""


class Site:
    """What the browser talks to, through the sidecar. ``result`` is what its page found."""

    def __init__(self) -> None:
        self.result: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        self.go = asyncio.Event()
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path == "/result":
            self.result.set_result(json.loads(await request.text()))
        if path == "/length":
            return web.Response(text=str(len(await request.read())))
        if path == "/go":
            self.go.set()
        if path == "/data":
            return web.json_response({"a": 1})
        if path in ("/stream", "/events"):
            return await self._stream(request)
        return web.Response(text=PAGE if path == "/" else "ok", content_type="text/html")

    async def _stream(self, request: web.BaseRequest) -> web.StreamResponse:
        """Each piece of ``/stream`` waits until the page has seen the one before; ``/events`` ends after two."""
        events = request.path == "/events"
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream" if events else "application/x-ndjson"})
        await reply.prepare(request)
        last = int(request.headers.get("Last-Event-ID", "0"))
        for number in range(last + 1, last + 3) if events else range(3):
            text = f"retry: 10\nid: {number}\ndata: e{number}\n\n" if events else f'{{"n": {number}}}\n'
            self.go.clear()
            await reply.write(text.encode())
            if not events:
                await self.go.wait()
        return reply


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    runner = web.ServerRunner(web.Server(made.answer, access_log=None), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


if CHROMIUM is not None:

    async def test_chromium(make: Make, site: Site, tmp_path: Path) -> None:
        """Streams reach the page piece by piece, and EventSource goes on where it was when a stream ends."""
        front = make(*write_config(tmp_path, site.url, POLICIES))
        await asyncio.to_thread(front.start)
        key = await asyncio.to_thread(front.another_key, "browser")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        browser = await asyncio.create_subprocess_exec(
            str(CHROMIUM),
            *flags,
            f"--user-data-dir={tmp_path / 'profile'}",
            "--remote-debugging-port=0",
            f"{front.base}/?k={key}",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(120):
                result = await site.result
        finally:
            browser.kill()
            await browser.wait()
        assert result == {
            "plain": {"a": 1},
            "keyed": 200,
            "refused": "key_missing",
            "posted": "1000000",
            "pieces": 3,
            "bytes": 27,
            "events": ["e1/1", "e2/2", "e3/3", "e4/4"],
        }
