"""The total timeout, the wait for a connection, a rewritten Host, and targets behind Unix sockets."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from sidecar.core.clock import ManualClock
from sidecar.core.errors import UpstreamError
from sidecar.core.upstreams import Health, Target, Upstream
from sidecar.upstream import UpstreamPool
from sidecar.upstream.health import check, check_session
from tests.gateway.cruel import OK, TORN, CruelUpstream, Wire, until
from tests.gateway.rig import Options, Rig

TOTAL = Options(upstream="timeouts: {total: 5s}")


@pytest.mark.parametrize("options", [TOTAL])
async def test_total_before_the_reply(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(b"")
    client = await rig.client()
    client.ask()
    await until(lambda: bool(upstream.requests))
    rig.advance(4)
    assert rig.pool.targets[0].failures == {}
    rig.advance(2)
    assert (await client.message()).status == 504
    assert rig.pool.targets[0].failures == {"total_timeout": 1}
    assert (await rig.only_entry()).outcome == "upstream_failed"


@pytest.mark.parametrize("options", [TOTAL])
async def test_total_in_the_middle_of_a_reply_that_never_stalls(rig: Rig, upstream: CruelUpstream) -> None:
    """Bytes come all the time, so ``idle`` never ends it; the client is torn off, and the call is not charged."""

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n\x01")
        for _ in range(3):
            await until(lambda: bool(ticks))
            ticks.clear()
            wire.send(b"\x02")
        await wire.gone()

    ticks: list[int] = []
    upstream.runs(script)
    client = await rig.client()
    client.ask()
    await client.reader.readuntil(b"\x01")
    for _ in range(3):
        rig.advance(1.5)
        ticks.append(1)
        await client.reader.readuntil(b"\x02")
    rig.advance(1)
    with pytest.raises(TORN):
        await client.read(1)
    assert (await rig.only_entry()).units == 0


@pytest.mark.parametrize("options", [TOTAL])
async def test_total_begins_anew_with_each_call(rig: Rig, upstream: CruelUpstream) -> None:
    client = await rig.client()
    for _ in range(3):
        client.ask()
        assert (await client.message()).status == 200
        rig.advance(3)
    assert len(upstream.wires) == 1


@pytest.mark.parametrize("options", [Options(upstream="host: api.internal:8443")])
async def test_host_is_rewritten(rig: Rig, upstream: CruelUpstream) -> None:
    await rig.call()
    assert upstream.requests[0].one("host") == b"api.internal:8443"
    assert upstream.requests[0].one("x-forwarded-host") == b"a.example"


async def test_the_wait_for_a_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    target = Target("http", "127.0.0.1", server.sockets[0].getsockname()[1])
    pool = UpstreamPool(Upstream("api", (target,), max_connections=1, queue_timeout_ns=10**6), ManualClock())
    await pool.acquire()
    with pytest.raises(UpstreamError) as caught:
        await pool.acquire()
    assert caught.value.kind == "busy"
    pool.abort()
    server.close()
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_unix_socket(tmp_path: Path) -> None:
    """Requests and checks go there; when the socket is gone, both say so."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # one connection is never used
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(OK)
            await reader.read()
        writer.close()

    path = str(tmp_path / "api.sock")
    server = await asyncio.start_unix_server(serve, path)
    health = Health("/h", 10**9, 10**9, fails=2, passes=2)
    upstream = Upstream("api", (Target("http", "localhost", 80, socket=path),), host="api.internal", health=health)
    pool = UpstreamPool(upstream, ManualClock())
    target, connection = await pool.acquire()
    assert (str(target.target), connection.address) == (f"unix:{path}", path)
    async with check_session(target) as session:
        await check(session, target, "/h", 10)
        assert b"Host: api.internal\r\n" in heads[0]
        assert heads[0].startswith(b"GET /h HTTP/1.1\r\n")
        pool.abort()
        server.close()
        Path(path).unlink(missing_ok=True)  # noqa: ASYNC240 - a test
        up = []
        for _ in range(2):
            await check(session, target, "/h", 10)
            up.append(target.up)
        assert up == [True, False], "down after two in a row"
        server = await asyncio.start_unix_server(serve, path)
        for _ in range(2):
            await check(session, target, "/h", 10)
            up.append(target.up)
        assert up[2:] == [False, True]
    server.close()
    for _ in range(5):
        await asyncio.sleep(0)
