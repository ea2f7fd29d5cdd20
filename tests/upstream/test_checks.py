"""The checks of ``health`` go where calls go: to the addresses that were judged, and to no others."""

import asyncio
import socket
from typing import Any

import pytest
from aiohttp import web

from sidecar.core.clock import ManualClock
from sidecar.core.upstreams import Health, Target, Upstream
from sidecar.upstream import UpstreamPool
from sidecar.upstream.health import check, check_session


@pytest.mark.parametrize(
    ("answer", "tried", "healthy"),
    [
        (("169.254.169.254", "127.0.0.1"), ["127.0.0.1"], True),
        (("127.0.0.1",), ["127.0.0.1"], True),
        (("169.254.169.254", "fe80::1"), [], False),
    ],
)
async def test_a_check_never_goes_to_link_local(
    answer: tuple[str, ...], tried: list[str], healthy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """http.md 2, SSRF: a name with good addresses beside it hides none of them."""
    loop, seen, hosts = asyncio.get_running_loop(), list[str](), list[str]()

    async def handler(request: web.BaseRequest) -> web.Response:
        hosts.append(request.host)
        return web.Response()

    runner = web.ServerRunner(web.Server(handler, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]

    async def getaddrinfo(host: str, port: Any, **_: object) -> list[tuple[object, ...]]:
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in answer]
        return [(f, socket.SOCK_STREAM, 6, "", (a, port)) for f, a in zip(families, answer, strict=True)]

    connect = loop.sock_connect

    async def sock_connect(sock: socket.socket, address: Any) -> None:
        seen.append(address[0])
        if address[0] != "127.0.0.1":
            raise ConnectionRefusedError(111, "refused")
        await connect(sock, address)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    health = Health("/", 1_000_000_000, 1_000_000_000, fails=1)
    pool = UpstreamPool(Upstream("api", (Target("http", "api.example", port),), health=health), ManualClock())
    (target,) = pool.targets
    async with check_session(target) as session:
        await check(session, target, "/", 5)
    assert (seen, target.healthy) == (tried, healthy)
    assert hosts == [f"api.example:{port}"] * len(tried)
    pool.abort()
    await runner.cleanup()
