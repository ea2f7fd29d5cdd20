"""The sample API that the demo protects. It knows nothing of keys, plans or limits: that is the point.

``python -m demo.upstream --port 9000`` prints one line with its address once it listens; port 0 takes a free one.
"""

import argparse
import asyncio
import itertools
import json

from aiohttp import web

MAX_ITEMS = 1_000  # then the oldest ones go
ITEMS: dict[int, dict[str, object]] = {number: {"id": number, "name": f"item {number}"} for number in range(1, 6)}
NUMBERS = itertools.count(6)
MARKS = "tenant key plan request".split()


def caller(request: web.Request) -> dict[str, str | None]:
    """Who the sidecar says is calling: the API reads four headers and has no key, database or JWT of its own."""
    names = ("X-Tenant-ID", "X-Key-ID", "X-Plan", "X-Request-ID")
    return dict(zip(MARKS, map(request.headers.get, names), strict=True))


async def search(request: web.Request) -> web.Response:
    word = request.query.get("q", "")
    hits = [item for item in ITEMS.values() if word in str(item["name"])]
    return web.json_response({"query": word, "hits": hits, "caller": caller(request)})


async def item(request: web.Request) -> web.Response:
    number = request.match_info["id"]
    found = ITEMS.get(int(number)) if number.isdecimal() else None
    if found is None:
        return web.json_response({"error": f"there is no item {number}"}, status=404)
    return web.json_response(found)


async def add_item(request: web.Request) -> web.Response:
    try:
        body = await request.json()
        name = str(body["name"])
    except (ValueError, KeyError, TypeError):
        return web.json_response({"error": 'send {"name": "..."}'}, status=400)
    number = next(NUMBERS)
    ITEMS[number] = {"id": number, "name": name}
    if len(ITEMS) > MAX_ITEMS:
        del ITEMS[next(iter(ITEMS))]
    return web.json_response(ITEMS[number], status=201, headers={"Location": f"/v1/items/{number}"})


async def report(request: web.Request) -> web.Response:
    return web.json_response({"report": f"{len(ITEMS)} items", "caller": caller(request)}, status=201)


async def slow(request: web.Request) -> web.Response:
    await asyncio.sleep(1)
    return web.json_response({"waited_s": 1})


async def stream(request: web.Request) -> web.StreamResponse:
    reply = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await reply.prepare(request)
    for number in range(5):
        await reply.write(f"id: {number}\ndata: {json.dumps({'tick': number})}\n\n".encode())
        await asyncio.sleep(0.2)
    return reply


async def healthz(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def application() -> web.Application:
    app = web.Application()
    app.router.add_get("/v1/search", search)
    app.router.add_get("/v1/items/{id}", item)
    app.router.add_post("/v1/items", add_item)
    app.router.add_post("/v1/reports", report)
    app.router.add_get("/v1/slow", slow)
    app.router.add_get("/v1/stream", stream)
    app.router.add_get("/healthz", healthz)
    return app


async def serve(port: int) -> None:
    runner = web.AppRunner(application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    host, bound = runner.addresses[0][:2]
    print(f"sample API: listening on http://{host}:{bound}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9000)
    try:
        asyncio.run(serve(parser.parse_args().port))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
