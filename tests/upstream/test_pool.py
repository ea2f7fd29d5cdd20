"""The pool on real sockets: who gets the next connection, and what is bounded."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from sidecar.core.clock import ManualClock
from sidecar.core.errors import UpstreamError
from sidecar.core.upstreams import Target, Upstream
from sidecar.upstream import UpstreamPool
from sidecar.upstream.health import check


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if (await reader.readline()).startswith(b"GET /bad"):
        writer.write(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    else:
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /bad\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await reader.read()
    writer.close()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def pool(port: int) -> AsyncIterator[UpstreamPool]:
    upstream = Upstream("api", (Target("http", "127.0.0.1", port),), max_connections=2, max_waiting=2)
    made = UpstreamPool(upstream, ManualClock())
    yield made
    made.abort()
    await asyncio.sleep(0)


async def test_max_connections_and_hand_over(pool: UpstreamPool) -> None:
    """The longest waiting request gets what becomes free."""
    target, first = await pool.acquire()
    _, second = await pool.acquire()
    waiting = [asyncio.create_task(pool.acquire()) for _ in range(2)]
    await asyncio.sleep(0)
    assert pool.readings()[0].waiting == 2
    with pytest.raises(UpstreamError) as caught:
        await pool.acquire()
    assert caught.value.kind == "busy"
    target.put_back(second)
    target.put_back(first)
    assert [(await task)[1] for task in waiting] == [second, first]
    assert len(target.connections) == 2


async def test_a_waiter_that_left_is_passed_over(pool: UpstreamPool) -> None:
    target, first = await pool.acquire()
    await pool.acquire()
    gone, stays = (asyncio.create_task(pool.acquire()) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    target.put_back(first)
    assert (await stays)[1] is first
    assert gone.cancelled()


async def test_a_connection_given_to_a_waiter_that_leaves_makes_room(pool: UpstreamPool) -> None:
    target, first = await pool.acquire()
    await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    target.put_back(first)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    async with asyncio.timeout(10):
        _, fresh = await pool.acquire()
    assert not fresh.closed
    assert pool.readings()[0].waiting == 0


async def test_a_lost_connection_lets_a_waiter_open_another(pool: UpstreamPool) -> None:
    _, first = await pool.acquire()
    await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    first.close()
    async with asyncio.timeout(10):
        _, other = await waiter
    assert other is not first


async def test_the_warmest_idle_connection_goes_first(pool: UpstreamPool) -> None:
    target, first = await pool.acquire()
    _, second = await pool.acquire()
    target.put_back(first)
    target.put_back(second)
    picked = pool.pick()
    assert picked is target
    assert picked.take() is second


async def test_closing_keeps_nothing(pool: UpstreamPool) -> None:
    target, first = await pool.acquire()
    pool.close()
    target.put_back(first)
    assert first.closed
    assert target.take() is None


async def test_the_target_with_fewer_requests(port: int) -> None:
    targets = (Target("http", "127.0.0.1", port), Target("http", "localhost", port))
    pool = UpstreamPool(Upstream("api", targets), ManualClock())
    taken = [(await pool.acquire())[0].target for _ in range(4)]
    assert {target: taken.count(target) for target in targets} == dict.fromkeys(targets, 2)
    pool.abort()
    await asyncio.sleep(0)


async def test_health(pool: UpstreamPool) -> None:
    """2xx and 3xx are healthy, a redirect is not followed; an unhealthy target is not asked."""
    target = pool.targets[0]
    async with aiohttp.ClientSession() as session:
        await check(session, target, "/bad", 10)
        assert not pool.available
        with pytest.raises(UpstreamError) as caught:
            await pool.acquire()
        assert caught.value.kind == "open"
        await check(session, target, "/good", 10)
        assert pool.available
