"""TLS to Redis and to its sentinels. The package's Redis has none, so a terminator stands in front of it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sidecar.core.errors import StoreDown
from sidecar.core.redis_address import RedisAddress
from sidecar.storage.redis import RedisLimitStore
from tests.certify import Authority
from tests.storage.redis.server import Server, running
from tests.storage.redis.test_redis_limits import call


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as one:
        yield one


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def terminated(authority: Authority, port: int, name: str = "localhost") -> AsyncIterator[int]:
    """The port of a listener with a certificate for ``name``, behind which ``port`` is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign(name, dns=(name,), ips=("127.0.0.1",), file=f"{name}-{port}"))

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
        ways = [asyncio.create_task(copy(reader, outer)), asyncio.create_task(copy(inner, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        outer.close()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisLimitStore]:
    store = RedisLimitStore(RedisAddress.parse(url), budget_s=5)
    try:
        yield store
    finally:
        await store.close()


async def test_limits_are_counted_over_tls(server: Server, authority: Authority) -> None:
    async with (
        terminated(authority, server.port) as port,
        opened(f"rediss://localhost:{port}/2?ca={authority.file}") as store,
    ):
        await store.ready()
        assert (await store.lease(call(requests=12))).passed == 10
    assert "sidecar:{acme}" in server.cli("-n", "2", "KEYS", "*")


@pytest.mark.parametrize("fault", ["authority", "name", "no tls"])
async def test_who_is_not_who_it_should_be_is_not_trusted(server: Server, authority: Authority, fault: str) -> None:
    """An unknown authority, another host's certificate, and a server that speaks no TLS: nothing is counted there."""
    name = "elsewhere" if fault == "name" else "localhost"
    ca = "" if fault == "authority" else f"?ca={authority.file}"
    async with terminated(authority, server.port, name) as port:
        url = f"rediss://localhost:{server.port if fault == 'no tls' else port}{ca}"
        for method in ("ready", "lease"):
            async with opened(url) as store:
                with pytest.raises(StoreDown):
                    await (store.ready() if method == "ready" else store.lease(call()))
    assert not server.cli("KEYS", "*").strip()


async def test_sentinels_are_asked_over_tls_too(server: Server, authority: Authority) -> None:
    with running("--sentinel") as watcher:
        async with terminated(authority, server.port) as master, terminated(authority, watcher.port) as port:
            watcher.cli("SENTINEL", "MONITOR", "limits", "127.0.0.1", str(master), "1")
            async with opened(f"rediss+sentinel://localhost:{port}/limits?ca={authority.file}") as store:
                await store.ready()
                assert (await store.lease(call())).passed == 1
    assert "sidecar:{acme}" in server.cli("KEYS", "*")
