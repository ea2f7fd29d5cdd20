"""Whoever waits for a connection is woken when there is room, and nothing that was handed over is lost."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from sidecar.core.clock import ManualClock
from sidecar.core.errors import UpstreamError
from sidecar.core.upstreams import Breaker, Target, Upstream
from sidecar.upstream import UpstreamPool


@pytest.fixture
async def pool() -> AsyncIterator[UpstreamPool]:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    made = UpstreamPool(Upstream("api", (Target("http", "127.0.0.1", port),), max_connections=1), ManualClock())
    yield made
    made.abort()
    server.close()
    for _ in range(5):  # the far ends notice
        await asyncio.sleep(0)


async def test_a_failed_connect_wakes_who_waits() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        target = Target("http", "127.0.0.1", closed.getsockname()[1])
        pool = UpstreamPool(Upstream("api", (target,), max_connections=1), ManualClock())
        async with asyncio.timeout(10):
            errors = await asyncio.gather(*(pool.acquire() for _ in range(3)), return_exceptions=True)
    assert [error.kind for error in errors if isinstance(error, UpstreamError)] == ["connect"] * 3


async def test_an_open_breaker_wakes_everybody() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        target = Target("http", "127.0.0.1", closed.getsockname()[1])
        upstream = Upstream("api", (target,), max_connections=1, breaker=Breaker(failures=1))
        pool = UpstreamPool(upstream, ManualClock())
        async with asyncio.timeout(10):
            errors = await asyncio.gather(*(pool.acquire() for _ in range(4)), return_exceptions=True)
    assert [e.kind for e in errors if isinstance(e, UpstreamError)] == ["connect", "open", "open", "open"]


async def test_room_given_to_a_waiter_that_leaves_goes_to_the_next(pool: UpstreamPool) -> None:
    _, first = await pool.acquire()
    leaves, stays = (asyncio.create_task(pool.acquire()) for _ in range(2))
    await asyncio.sleep(0)
    first.close()
    pool.targets[0].connections.discard(first)
    pool.room_made()
    leaves.cancel()
    async with asyncio.timeout(10):
        _, other = await stays
    assert not other.closed


async def test_a_handed_connection_that_closed_on_the_way(pool: UpstreamPool) -> None:
    target, first = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    target.put_back(first)
    first.close()
    async with asyncio.timeout(10):
        _, other = await waiter
    assert other is not first
    assert not other.closed


async def test_handed_over_at_the_moment_of_the_timeout(pool: UpstreamPool, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    real, ahead = loop.time, [0.0]
    monkeypatch.setattr(loop, "time", lambda: real() + ahead[0])
    target, first = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    loop.call_soon(target.put_back, first)
    ahead[0] = 31.0  # the timeout fires right after it
    with pytest.raises(UpstreamError):
        await waiter
    async with asyncio.timeout(10):
        _, other = await pool.acquire()
    assert not other.closed


async def test_a_fresh_connection_when_idle_ones_fill_the_target(pool: UpstreamPool) -> None:
    target, first = await pool.acquire()
    target.put_back(first)
    async with asyncio.timeout(10):
        _, other = await pool.acquire(fresh=True)
    assert other is not first
    assert not other.closed


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "100.100.100.200"])
async def test_a_name_that_resolves_to_link_local_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """http.md 2, SSRF: nothing is sent there, not even a SYN."""
    tried = _resolves(monkeypatch, address)
    pool = UpstreamPool(Upstream("api", (Target("http", "api.example", 80),)), ManualClock())
    with pytest.raises(UpstreamError, match="allow_link_local"):
        await pool.acquire()
    assert tried == []
    assert pool.targets[0].failures == {"connect": 1}


async def test_link_local_that_is_allowed_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = _resolves(monkeypatch, "169.254.169.254")
    upstream = Upstream("api", (Target("http", "api.example", 80),), allow_link_local=True)
    with pytest.raises(UpstreamError):
        await UpstreamPool(upstream, ManualClock()).acquire()
    assert tried == ["169.254.169.254"]


async def test_only_the_other_addresses_of_a_name_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = _resolves(monkeypatch, "169.254.169.254", "192.0.2.1", "192.0.2.2")
    with pytest.raises(UpstreamError):
        await UpstreamPool(Upstream("api", (Target("http", "api.example", 80),)), ManualClock()).acquire()
    assert tried == ["192.0.2.1", "192.0.2.2"]


def _resolves(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """``api.example`` has these addresses, and none of them can be reached; the list of those that were tried."""
    loop, tried = asyncio.get_running_loop(), list[str]()

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        assert host == "api.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    async def create_connection(_: object, host: str, *__: object, **___: object) -> None:
        tried.append(host)
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(loop, "create_connection", create_connection)
    return tried
