"""http.md 1.15: WebSocket alone is passed on; after the 101 bytes go both ways, counted, bounded and never changed."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from sidecar.core.records import indeterminate
from tests.gateway.cruel import OK, CruelUpstream, Wire, until
from tests.gateway.rig import Client, Options, Rig, quotas_over, start_rig

UPGRADE = (
    "Connection: keep-alive, Upgrade",
    "Upgrade: WebSocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: a2V5",
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Hop: 1\r\n"
    b"Sec-WebSocket-Accept: YQ==\r\n\r\n"
)
METERS = """\
  messages: {count: messages}
  seconds: {count: connection_s}
  tokens: {from: response.json, path: $.tokens}"""
COUNTED = Options(meters=METERS, quotas=quotas_over("messages", "seconds", "tokens"))


class Ends:
    """A tunnel with a raw client and a raw upstream."""

    def __init__(self, client: Client, wire: Wire) -> None:
        self.client = client
        self.wire = wire


def switching(upstream: CruelUpstream, reply: bytes = SWITCH) -> list[Wire]:
    """The next connection answers 101; its wire comes into the list."""
    wires: list[Wire] = []

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(reply)
        wires.append(wire)

    upstream.runs(script)
    return wires


async def tunnel(rig: Rig, line: str = "GET /ws HTTP/1.1") -> Ends:
    wires = switching(rig.upstream)
    client = await rig.client()
    client.ask(line, *UPGRADE)
    assert (await client.message(bodiless=True)).status == 101
    return Ends(client, wires[0])


async def test_what_goes_up_and_what_comes_down(rig: Rig, upstream: CruelUpstream) -> None:
    wires = switching(upstream)
    client = await rig.client()
    client.ask("GET /ws?a=b HTTP/1.1", *UPGRADE, "Sec-WebSocket-Protocol: chat", "TE: trailers")
    reply = await client.message(bodiless=True)
    request = upstream.requests[0]
    assert request.start == b"GET /ws?a=b HTTP/1.1"
    assert request.all("connection") == [b"Upgrade"]
    assert request.all("upgrade") == [b"websocket"]
    assert (request.one("te"), request.one("x-tenant-id")) == (None, b"acme")
    assert (request.one("sec-websocket-key"), request.one("sec-websocket-protocol")) == (b"a2V5", b"chat")
    assert reply.status == 101
    assert (reply.one("connection"), reply.one("upgrade")) == (b"Upgrade", b"websocket")
    assert reply.one("sec-websocket-accept") == b"YQ=="
    assert reply.one("x-request-id") == request.one("x-request-id")
    assert (reply.one("content-length"), reply.one("transfer-encoding")) == (None, None)
    assert len(wires) == 1


@pytest.mark.parametrize("options", [COUNTED])
async def test_the_record_of_a_tunnel(rig: Rig) -> None:
    ends = await tunnel(rig)
    ends.client.send(b"\x81\x82\x00\x00\x00\x00hi" + b"\x89\x80\x00\x00\x00\x00")
    assert await ends.wire.read(14) == b"\x81\x82\x00\x00\x00\x00hi\x89\x80\x00\x00\x00\x00"
    ends.wire.send(b"\x01\x01a\x80\x01b\x82\x00")
    assert await ends.client.read(8) == b"\x01\x01a\x80\x01b\x82\x00"
    rig.advance(7)
    ends.wire.close()
    await ends.client.closes()
    entry = await rig.only_entry()
    assert (entry.status, entry.outcome, entry.units, entry.route) == (101, "ok", 3, "all")
    assert (entry.bytes_in, entry.bytes_out) == (14, 8)
    assert entry.meters == {"requests": 1, "messages": 3, "seconds": 7}
    assert rig.pool.targets[0].outstanding == 0
    assert rig.pool.targets[0].idle == []


async def test_the_record_is_there_when_the_client_sees_the_end(rig: Rig) -> None:
    ends = await tunnel(rig)
    ends.wire.send(b"last")
    ends.wire.close()
    assert await ends.client.rest() == b"last"
    assert rig.journal.readings().open_calls == 0


async def test_early_bytes_of_both_sides_pass(rig: Rig, upstream: CruelUpstream) -> None:
    wires = switching(upstream, SWITCH + b"welcome")
    client = await rig.client()
    client.send(client.request("GET /ws HTTP/1.1", *UPGRADE) + b"\x81\x00early")
    await client.message(bodiless=True)
    assert await client.read(7) == b"welcome"
    assert await wires[0].read(7) == b"\x81\x00early"
    client.reset()
    entry = await rig.only_entry()
    assert (entry.outcome, entry.bytes_in, entry.bytes_out) == ("ok", 7, 7)


async def test_an_upgrade_that_is_declined_is_an_ordinary_call(rig: Rig, upstream: CruelUpstream) -> None:
    """What came behind it is the next request, also when it came in the same packet; both connections are kept."""
    upstream.answers(OK, OK)
    client = await rig.client()
    client.send(client.request("GET /ws HTTP/1.1", *UPGRADE) + client.request("GET /next HTTP/1.1"))
    assert [(await client.message()).status for _ in range(2)] == [200, 200]
    client.ask("GET /third HTTP/1.1")
    assert (await client.message()).status == 200
    assert [request.start.split()[1] for request in upstream.requests] == [b"/ws", b"/next", b"/third"]
    assert len(upstream.wires) == 1
    assert [entry.status for entry in await rig.ledger()] == [200, 200, 200]


async def test_a_refused_upgrade_keeps_the_connection(rig: Rig, upstream: CruelUpstream) -> None:
    client = await rig.client()
    client.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
    assert (await client.message()).status == 401
    client.ask()
    assert (await client.message()).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        ("Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: AAA"),
        ("Upgrade: websocket",),
        ("Connection: Upgrade", "Upgrade: websocket/13"),
    ],
)
async def test_no_other_upgrade_is_passed_on(rig: Rig, upstream: CruelUpstream, fields: tuple[str, ...]) -> None:
    assert (await rig.call("GET / HTTP/1.1", *fields)).status == 200
    request = upstream.requests[0]
    assert (request.one("upgrade"), request.one("connection"), request.one("http2-settings")) == (None, None, None)


@pytest.mark.parametrize("line", ["POST / HTTP/1.1", "GET / HTTP/1.0"])
async def test_websocket_is_a_get_of_http_1_1(rig: Rig, upstream: CruelUpstream, line: str) -> None:
    assert (await rig.call(line, *UPGRADE)).status == 200
    assert upstream.requests[0].one("upgrade") is None


@pytest.mark.parametrize("framing", ["Content-Length: 3", "Transfer-Encoding: chunked"])
async def test_an_upgrade_with_a_body_is_refused(rig: Rig, upstream: CruelUpstream, framing: str) -> None:
    client = await rig.client()
    client.ask("GET /ws HTTP/1.1", *UPGRADE, framing)
    assert (await client.message()).status == 400
    await client.gone()
    assert upstream.wires == []


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 S\r\n\r\n" + OK,
    ],
)
async def test_a_101_to_something_else_is_502(rig: Rig, upstream: CruelUpstream, reply: bytes) -> None:
    upstream.answers(reply)
    client = await rig.client()
    client.ask("GET /ws HTTP/1.1", *UPGRADE)
    assert (await client.message()).status == 502
    assert (await rig.only_entry()).outcome == "upstream_failed"


async def test_a_client_that_half_closes_gets_the_rest(rig: Rig) -> None:
    ends = await tunnel(rig)
    ends.client.send(b"bye")
    ends.client.half_close()
    assert await ends.wire.rest() == b"bye"
    ends.wire.send(b"and thanks")
    ends.wire.close()
    assert await ends.client.rest() == b"and thanks"
    assert (await rig.only_entry()).bytes_out == 10
    # Its end was seen before the tunnel's: nothing is waited for, and neither a place nor a shutdown is held up.
    await until(lambda: not rig.lane.connections and not rig.lane.tunnels)


async def test_a_half_closed_tunnel_ends_after_the_idle_time(rig: Rig) -> None:
    ends = await tunnel(rig)
    ends.client.half_close()
    assert await ends.wire.rest() == b""
    rig.advance(61)
    await ends.client.closes()
    assert (await rig.only_entry()).outcome == "ok"


@pytest.mark.parametrize("options", [Options(upstream="timeouts: {tunnel: 20s}")])
async def test_silence_of_both_sides_ends_a_tunnel(rig: Rig) -> None:
    ends = await tunnel(rig)
    for side, other in ((ends.client, ends.wire), (ends.wire, ends.client)):
        rig.advance(15)
        side.send(b"x")
        assert await other.read(1) == b"x"
        rig.advance(15)
    rig.advance(21)
    await ends.client.closes()
    assert await ends.wire.rest() == b""
    assert (await rig.only_entry()).status == 101


@pytest.mark.parametrize("options", [Options(bounds="buffer: 64KiB")])
async def test_a_side_that_does_not_read_holds_the_other_back(rig: Rig) -> None:
    """Bounded both ways: what is in flight is socket buffers and one write buffer, then nothing is read any more."""
    ends = await tunnel(rig)
    head = b"\x82\x7f" + (1 << 40).to_bytes(8, "big")
    for receiver, sender in ((ends.client, ends.wire), (ends.wire, ends.client)):
        sender.send(head)
        assert await receiver.read(len(head)) == head
        receiver.writer.transport.pause_reading()
        total = 0
        while sender.writer.transport.get_write_buffer_size() == 0 or total < 8 << 20:
            sender.send(bytes(1 << 20))
            total += 1 << 20
            await asyncio.sleep(0)
            assert total < 256 << 20
        connection = next(iter(rig.lane.connections))
        held = connection.transport.get_write_buffer_size()
        assert held < 1 << 20
        receiver.writer.transport.resume_reading()
        assert await receiver.read(total) == bytes(total)
    ends.wire.close()
    await ends.client.closes()


async def test_the_slot_is_held_for_the_life_of_the_tunnel(tmp_path: Path, upstream: CruelUpstream) -> None:
    rig = await start_rig(tmp_path, upstream, Options(plan="concurrency: [{name: one, limit: 1, scope: [key]}]"))
    try:
        ends = await tunnel(rig)
        assert (await rig.call()).status == 429
        ends.client.reset()
        await until(lambda: not rig.lane.tunnels)
        assert (await rig.call()).status == 200
    finally:
        await rig.stop()


@pytest.mark.parametrize("options", [COUNTED])
async def test_a_tunnel_says_how_far_it_is(rig: Rig) -> None:
    """What a kill would leave: status, bytes, time and messages up to the last mark."""
    ends = await tunnel(rig)
    ends.client.send(b"\x81\x80\x00\x00\x00\x00")
    await ends.wire.read(6)
    rig.advance(4)
    assert [row[:1] for row in rig.open_records()] == [b'"']
    rig.advance(2)
    (row,) = rig.open_records()
    found = indeterminate(row)
    assert (found.status, found.units, found.bytes_in, found.total_us) == (101, 3, 6, 6_000_000)
    assert found.meters == {"requests": 1, "messages": 1, "seconds": 6}
    ends.wire.close()
    await ends.client.closes()
    assert (await rig.only_entry()).outcome == "ok"


async def test_shutdown_records_and_closes_tunnels(rig: Rig) -> None:
    ends = await tunnel(rig)
    ends.client.send(b"abc")
    await ends.wire.read(3)
    await rig.app.stop()
    await ends.client.gone()
    await rig.app.start()
    entry = await rig.only_entry()
    assert (entry.outcome, entry.bytes_in) == ("ok", 3)


async def test_a_client_that_leaves_before_the_101(rig: Rig, upstream: CruelUpstream) -> None:
    """``drain`` has nothing to read to its end here."""

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        await wire.gone()

    upstream.runs(script)
    client = await rig.client()
    client.ask("GET /drain HTTP/1.1", *UPGRADE)
    await until(lambda: bool(upstream.requests))
    client.reset()
    entry = await rig.only_entry()
    assert (entry.status, entry.outcome, entry.meters) == (0, "client_gone", {})
    assert rig.lane.abandoned == set()


async def test_a_real_client_and_a_real_server(tmp_path: Path) -> None:
    """aiohttp on both ends, compression switched on, texts and binaries of any size, and a clean close."""

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["chat"])
        await socket.prepare(request)
        async for message in socket:
            await (socket.send_str if message.type is aiohttp.WSMsgType.TEXT else socket.send_bytes)(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/ws", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake = CruelUpstream()
    fake.port = runner.addresses[0][1]
    rig = await start_rig(tmp_path, fake, COUNTED)
    try:
        async with (
            aiohttp.ClientSession(headers={"X-API-Key": rig.key}) as session,
            session.ws_connect(f"http://{rig.app.listening[0]}/ws", protocols=["chat"], compress=15) as socket,
        ):
            assert socket.protocol == "chat"
            for size in (0, 5, 126, 70_000, 1 << 20):
                await socket.send_str("a" * size)
                assert await socket.receive_str() == "a" * size
                await socket.send_bytes(bytes(size))
                assert await socket.receive_bytes() == bytes(size)
            await socket.ping()
        assert socket.close_code == 1000
        entry = await rig.only_entry()
        assert (entry.status, entry.outcome, entry.meters["messages"]) == (101, "ok", 20)
    finally:
        await rig.stop()
        await runner.cleanup()
