"""The pages of payment in a worker: passed on to the parent, which alone writes the store."""

import aiohttp
from aiohttp import web

PAGES = "pages"  # the parent's socket, beside the link
_AT_ONCE = 64
_TIMEOUT_S = 30.0
_CHUNK = 64 * 1024
_KEPT = ("Content-Type", "Retry-After", "Cache-Control", "Set-Cookie")  # one cookie at most


class Pages:
    """``socket``: where the parent serves them."""

    def __init__(self, socket: str) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(socket, limit=_AT_ONCE),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    def routes(self) -> list[web.RouteDef]:
        """Whatever the worker does not answer itself; the parent says 404 to what it does not know."""
        return [web.route("*", "/_sidecar/{rest:(?!livez|jwks).+}", self._pass_on)]

    async def close(self) -> None:
        await self._session.close()

    async def _pass_on(self, request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OWN}
        body = request.content.iter_chunked(_CHUNK) if request.can_read_body else None
        try:
            url = f"http://parent{request.raw_path}"
            async with self._session.request(
                request.method, url, headers=headers, data=body, allow_redirects=False
            ) as reply:
                kept = {name: reply.headers[name] for name in _KEPT if name in reply.headers}
                return web.Response(status=reply.status, body=await reply.read(), headers=kept)
        except (aiohttp.ClientError, TimeoutError):
            return web.Response(status=503, text="try again\n", headers={"Retry-After": "5"})


_OWN = frozenset({"host", "connection", "content-length", "transfer-encoding", "expect", "upgrade"})
