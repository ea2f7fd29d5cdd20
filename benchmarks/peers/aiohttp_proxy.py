"""The proxy that most people write first: an aiohttp application that forwards with a ClientSession. No checks.

Usage: ``python aiohttp_proxy.py LISTEN_PORT UPSTREAM_PORT``. Bodies are streamed both ways, uvloop, no access log.
"""

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from multidict import CIMultiDict

_HOP_BY_HOP = {
    "connection",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


def _passed_on(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP)


async def _serve(listen: int, upstream: int) -> None:
    async with ClientSession(
        connector=TCPConnector(limit=0, keepalive_timeout=300),
        timeout=ClientTimeout(total=None, sock_connect=1, sock_read=30),
        auto_decompress=False,
    ) as session:

        async def forward(request: web.Request) -> web.StreamResponse:
            async with session.request(
                request.method,
                f"http://127.0.0.1:{upstream}{request.rel_url}",
                headers=_passed_on(request.headers.copy()),
                data=request.content if request.body_exists else None,
                allow_redirects=False,
            ) as answer:
                reply = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers.copy()))
                await reply.prepare(request)
                async for chunk in answer.content.iter_any():
                    await reply.write(chunk)
                await reply.write_eof()
                return reply

        application = web.Application(client_max_size=0)
        application.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(application, access_log=None, keepalive_timeout=300, handle_signals=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", listen).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
