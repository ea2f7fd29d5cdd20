"""The admin port before the store was reached for the first time: alive, not ready, and it says why."""

from collections.abc import Callable

from aiohttp import web

from sidecar.admin.replies import Refused, guarded, json_reply


def make_waiting_app(reason: Callable[[], str]) -> web.Application:
    """``/livez`` and ``/readyz``; everything else is 503. No tokens are checked, since there is nothing to guard."""

    async def livez(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        return json_reply({"ready": False, "reasons": [reason()], "warnings": []}, 503)

    async def other(request: web.Request) -> web.Response:
        raise Refused("store_unavailable", reason())

    app = web.Application(middlewares=[guarded])
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.route("*", "/{rest:.*}", other)])
    return app
