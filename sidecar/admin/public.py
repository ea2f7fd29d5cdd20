"""The sidecar's own paths on the public port, ``/_sidecar/...``: they need no secret and tell none."""

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from sidecar.admin.replies import SECURITY_HEADERS, Handler, json_reply, problem_reply
from sidecar.core.problems import problem


def make_public_app(jwks: dict[str, Any] | None, routes: Iterable[web.RouteDef] = ()) -> web.Application:
    """``/_sidecar/livez``, and ``/_sidecar/jwks.json`` when the identity is passed upstream as a signed token; and
    ``routes``, under the same prefix."""
    app = web.Application(middlewares=[_documented])

    async def livez(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def keys(request: web.Request) -> web.Response:
        assert jwks is not None
        return json_reply(jwks)

    app.add_routes([web.get("/_sidecar/livez", livez)])
    app.add_routes(routes)
    if jwks is not None:
        app.add_routes([web.get("/_sidecar/jwks.json", keys)])
    return app


@web.middleware
async def _documented(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        reply = await handler(request)
    except web.HTTPMethodNotAllowed as error:
        reply = problem_reply(problem("method_not_allowed", f"Allowed here: {error.headers.get('Allow', 'GET')}."))
        reply.headers["Allow"] = error.headers.get("Allow", "GET")
    except web.HTTPException:
        reply = problem_reply(problem("route_unknown", "The sidecar has nothing at this address."))
    reply.headers.update(SECURITY_HEADERS)
    if reply.content_type == "text/html":  # its one form goes back to where it came from
        reply.headers["Content-Security-Policy"] += "; form-action 'self'"
    return reply
