"""HTTP/2 on the lane's own journey: heads, bodies both ways, windows, ends of every kind, and floods."""

import asyncio
import contextlib

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from sidecar.gateway.http2 import Http2Connection
from sidecar.gateway.http2.connection import (
    MAX_IDLE_FRAMES,
    MAX_RESETS,
    MAX_STREAMS,
    WINDOW,
)
from tests.gateway.cruel import OK, CruelUpstream, Wire, until
from tests.gateway.http2_client import Answer, connected
from tests.gateway.rig import Options, Rig


async def test_a_call_is_forwarded_recorded_and_answered(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Own: 2\r\n\r\nok")
    async with connected(rig) as client:
        answer = await client.answer(client.ask(b"/a/b?c=%20d", (b"cookie", b"a=1"), (b"cookie", b"b=2")))
    assert (answer.status, answer.body, answer.fields[b"x-own"]) == (200, b"ok", b"2")
    assert not {b"connection", b"x-hop", b"transfer-encoding"} & answer.fields.keys()
    assert answer.fields[b"x-request-id"]
    request = upstream.requests[0]
    assert request.start == b"GET /a/b?c=%20d HTTP/1.1"
    assert (request.one("cookie"), request.one("x-tenant-id")) == (b"a=1; b=2", b"acme")
    entry = await rig.only_entry()
    assert (entry.status, entry.outcome, entry.units, entry.bytes_out) == (200, "ok", 3, 2)


async def test_426_has_no_upgrade_here(rig: Rig, upstream: CruelUpstream) -> None:
    """RFC 9113, 8.2.2, 8.6: there is no Upgrade in HTTP/2, whatever the status asks for."""
    upstream.answers(b"HTTP/1.1 426 U\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n")
    async with connected(rig) as client:
        answer = await client.answer(client.ask(b"/x"))
        assert (answer.status, answer.ended) == (426, True)
        assert not {b"upgrade", b"connection"} & answer.fields.keys()


ODD = [
    b"X-A: b \t ", b"X-A:\t b", b"X-A:", b"X-A: \xe4\xff", b"X!#$%&'*+.^_`|~: b", b"X-A: b\tc", b"Cookie: a=b",
    b"X-A: b\r\nX-A: c", b"Host: e", b"Proxy-Connection: close", b"Keep-Alive: x", b"Connection: x-a\r\nX-A: b",
    b"Set-Cookie: a=b\r\nSet-Cookie: c=d", b"Content-Type: text/plain\r\ncontent-type: text/html", b"TE: trailers",
    b"X-A: " + b"b" * 60_000,
]  # fmt: skip


@pytest.mark.parametrize("line", ODD)
@pytest.mark.parametrize("status", [b"200 OK", b"999 \xe4"])
async def test_odd_replies_arrive(rig: Rig, upstream: CruelUpstream, line: bytes, status: bytes) -> None:
    """What HTTP/1.1 may say and HTTP/2 may not must cost a field at most, and never the reply."""
    upstream.answers(b"HTTP/1.1 %b\r\n%b\r\nContent-Length: 2\r\n\r\nok" % (status, line))
    async with connected(rig) as client:
        answer = await client.answer(client.ask(b"/x"))
        assert (answer.status, answer.body, answer.ended) == (int(status[:3]), b"ok", True)


async def test_refusals_are_the_lanes_own(rig: Rig) -> None:
    async with connected(rig) as client:
        answer = await client.answer(client.ask(key=False))
        assert (answer.status, answer.fields[b"content-type"]) == (401, b"application/problem+json")
        assert (await client.answer(client.ask(b"/_sidecar/nothing"))).status == 404
        assert (await client.answer(client.ask(b"/small", (b"content-length", b"11"), end=False))).status == 413


async def test_many_streams_at_once_each_get_their_reply(rig: Rig, upstream: CruelUpstream) -> None:
    async def echoes(wire: Wire) -> None:
        while True:
            path = (await upstream.take(wire)).start.split()[1]
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    for _ in range(8):
        upstream.runs(echoes)
    async with connected(rig) as client:
        asked = {client.ask(b"/open/%d" % number): b"/open/%d" % number for number in range(50)}
        assert {number: (await client.answer(number)).body for number in asked} == asked
        await until(lambda: len(rig.lane.connections) == 1)


@pytest.mark.parametrize("length", [True, False])
async def test_a_body_larger_than_any_window_arrives_whole(rig: Rig, upstream: CruelUpstream, length: bool) -> None:
    body = bytes(range(256)) * 4096  # 1 MiB
    upstream.answers(OK)
    async with connected(rig) as client:
        more = [(b"content-length", b"%d" % len(body))] if length else []
        number = client.ask(b"/written", *more, method=b"PUT", end=False)
        for at in range(0, len(body), 16384):
            await client.until(lambda: client.frames.local_flow_control_window(number) >= 16384)
            client.data(number, body[at : at + 16384], end=at + 16384 == len(body))
        assert (await client.answer(number)).status == 200
    request = upstream.requests[0]
    assert request.body == body
    assert (request.one("transfer-encoding") is None) is length


async def test_a_reply_waits_for_its_window_and_holds_the_upstream(rig: Rig, upstream: CruelUpstream) -> None:
    size = 8 * 1024 * 1024
    upstream.answers(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
    async with connected(rig) as client:
        client.takes = False
        number = client.ask()
        await client.until(lambda: len(client.answers[number].body) == 65535)
        connection = next(c for c in rig.lane.connections if c.current is not None)
        await until(lambda: connection.stalled)
        assert connection.transport.get_write_buffer_size() < 2 * 1024 * 1024
        client.takes = True
        client.frames.increment_flow_control_window(size)
        client.frames.increment_flow_control_window(size, number)
        client.flush()
        assert len((await client.answer(number)).body) == size


async def test_a_client_that_never_opens_its_window_is_ended(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + b"x" * 4_000_000)
    async with connected(rig) as client:
        client.takes = False
        number = client.ask()
        await client.until(lambda: len(client.answers[number].body) == 65535)
        connection = next(c for c in rig.lane.connections if c.current is not None)
        await until(lambda: connection.stalled)
        rig.advance(31)
        assert (await client.answer(number)).reset == ErrorCodes.INTERNAL_ERROR
    assert (await rig.only_entry()).outcome == "client_gone"


async def test_interim_replies_trailers_and_head(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n",
    )
    async with connected(rig) as client:
        answer = await client.answer(client.ask(b"/", (b"te", b"trailers")))
        assert (answer.interim, answer.body, answer.trailers) == ([103], b"ok", [(b"x-sum", b"7")])
        answer = await client.answer(client.ask(method=b"HEAD"))
        assert (answer.fields[b"content-length"], answer.body) == (b"2000", b"")


async def test_a_reply_that_breaks_off_resets_its_stream_alone(rig: Rig, upstream: CruelUpstream) -> None:
    async def breaks(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await wire.drained()
        wire.reset()

    upstream.runs(breaks)
    upstream.answers(OK)
    async with connected(rig) as client:
        assert (await client.answer(client.ask())).reset == ErrorCodes.INTERNAL_ERROR
        assert (await client.answer(client.ask())).body == b"ok"


async def test_a_client_that_resets_its_stream_cancels_the_call(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(b"")
    async with connected(rig) as client:
        number = client.ask(b"/cancel")
        await until(lambda: bool(upstream.requests))
        client.frames.reset_stream(number)
        client.flush()
        entry = await rig.only_entry()
    assert (entry.outcome, entry.units) == ("client_gone", 0)


async def test_an_early_reply_ends_the_upload(rig: Rig, upstream: CruelUpstream) -> None:
    async def early(wire: Wire) -> None:
        await wire.message(bodiless=True)
        wire.send(OK)
        await wire.gone()

    upstream.runs(early)
    async with connected(rig) as client:
        number = client.ask(b"/written", method=b"PUT", end=False)
        client.data(number, b"some")
        answer = await client.answer(number)
        await client.until(lambda: client.answers[number].reset is not None)
    assert (answer.status, answer.body, answer.reset) == (200, b"ok", ErrorCodes.NO_ERROR)


@pytest.mark.parametrize(
    ("path", "more", "method"),
    [
        (b"/a b", (), b"GET"),
        (b"/a\r\nx: y", (), b"GET"),
        (b"/", ((b"x-a", b"b\r\nx-tenant-id: other"),), b"GET"),
        (b"/", ((b"x-a", b"b\x00"),), b"GET"),
        (b"/", ((b"x a", b"b"),), b"GET"),
        (b"/", ((b"x:a", b"b"),), b"GET"),
        (b"/", (), b"GE T"),
        (b"/", (), b"GET / HTTP/1.1\r\nx: y\r\n\r\nGET"),
    ],
)
async def test_nothing_in_a_head_begins_another_line(
    rig: Rig, upstream: CruelUpstream, path: bytes, more: tuple[tuple[bytes, bytes], ...], method: bytes
) -> None:
    async with connected(rig) as client:
        number = client.ask(path, *more, method=method)
        answer = client.answers[number]
        await client.until(lambda: answer.reset is not None or client.gone_away is not None)
        assert ErrorCodes.PROTOCOL_ERROR in (answer.reset, client.gone_away)
    assert upstream.requests == []


@pytest.mark.parametrize(
    "field",
    [(b"connection", b"x-tenant-id"), (b"transfer-encoding", b"chunked"), (b"upgrade", b"websocket"), (b"X-Up", b"1")],
)
async def test_what_is_of_http_1_alone_is_an_error(
    rig: Rig, upstream: CruelUpstream, field: tuple[bytes, bytes]
) -> None:
    async with connected(rig) as client:
        client.ask(b"/", field)
        assert await client.closes() == ErrorCodes.PROTOCOL_ERROR
    assert upstream.requests == []


async def test_a_body_of_another_length_than_told_is_an_error(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(b"")
    async with connected(rig) as client:
        number = client.ask(b"/written", (b"content-length", b"9"), method=b"PUT", end=False)
        client.data(number, b"four", end=True)
        assert await client.closes() == ErrorCodes.PROTOCOL_ERROR
    assert all(entry.units == 0 for entry in await rig.ledger())


async def test_connect_is_refused(rig: Rig) -> None:
    async with connected(rig) as client:
        number = client.frames.get_next_available_stream_id()
        client.answers[number] = answer = Answer()
        client.frames.send_headers(number, [(b":method", b"CONNECT"), (b":authority", b"a.example:443")])
        client.flush()
        await client.until(lambda: bool(answer.fields) or answer.reset is not None)
        assert answer.status == 405


async def test_a_flood_of_pings_ends_the_connection(rig: Rig) -> None:
    async with connected(rig) as client:
        for _ in range(MAX_IDLE_FRAMES + 1):
            client.frames.ping(b"12345678")
        client.flush()
        assert await client.closes() == ErrorCodes.ENHANCE_YOUR_CALM


async def test_window_updates_of_a_long_download_are_no_flood(rig: Rig, upstream: CruelUpstream) -> None:
    rounds, step = MAX_IDLE_FRAMES // 2 + 50, 1024
    size = 65535 + rounds * step
    upstream.answers(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
    async with connected(rig) as client:
        client.takes = False
        number = client.ask()
        answer = client.answers[number]
        for done in range(rounds):
            while len(answer.body) < 65535 + done * step:
                assert not client.closed
                await client.read()
            client.frames.increment_flow_control_window(step)
            client.frames.increment_flow_control_window(step, number)
            client.flush()
        assert (await client.answer(number)).ended


async def test_a_reader_that_was_slow_once_keeps_its_streams(rig: Rig, upstream: CruelUpstream) -> None:
    size, more = 16 * 1024 * 1024, asyncio.Event()

    async def late(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (size + 2) + b"x" * size)
        await more.wait()
        wire.send(b"ok")

    upstream.runs(late)
    async with connected(rig) as client:
        number = client.ask()
        client.frames.increment_flow_control_window(2 * size)
        client.frames.increment_flow_control_window(2 * size, number)
        client.flush()
        await until(lambda: any(isinstance(c, Http2Connection) and c._stalled for c in rig.lane.connections))
        await client.until(lambda: len(client.answers[number].body) == size)
        rig.advance(31)
        more.set()
        assert (await client.answer(number)).body[-2:] == b"ok"


async def test_a_flood_of_resets_ends_the_connection(rig: Rig, upstream: CruelUpstream) -> None:
    """CVE-2023-44487."""
    async with connected(rig) as client:
        for _ in range(2 * MAX_RESETS):  # some are answered before they are reset
            number = client.ask(key=False, end=False)
            client.frames.reset_stream(number)
        client.flush()
        with contextlib.suppress(ConnectionError):  # of what it sends on
            assert await client.closes() == ErrorCodes.ENHANCE_YOUR_CALM
        await until(lambda: rig.lane.connections == set())
    assert upstream.requests == []


async def test_streams_and_windows_have_bounds(rig: Rig) -> None:
    async with connected(rig) as client:
        await client.until(lambda: client.frames.remote_settings.initial_window_size == WINDOW)
        settings = client.frames.remote_settings
        assert settings[SettingCodes.MAX_CONCURRENT_STREAMS] == MAX_STREAMS
        assert settings[SettingCodes.MAX_HEADER_LIST_SIZE] == rig.lane.rules.bounds.max_header_bytes


async def test_a_head_over_the_bound_is_refused(rig: Rig, upstream: CruelUpstream) -> None:
    async with connected(rig) as client:
        client.ask(b"/", *((b"x-%d" % number, b"v" * 1000) for number in range(80)))
        assert await client.closes() is not None
    assert upstream.requests == []


@pytest.mark.parametrize("options", [Options(bounds="max_connections_per_ip: 2")])
async def test_streams_count_as_connections(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(b"")
    async with connected(rig) as client:
        client.ask()
        await until(lambda: bool(upstream.requests))
        assert (await client.answer(client.ask())).reset == ErrorCodes.INTERNAL_ERROR


async def test_an_idle_connection_ends(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(OK)
    async with connected(rig) as client:
        await client.answer(client.ask())
        await until(lambda: len(rig.lane.connections) == 1)
        rig.advance(76)
        assert await client.closes() == ErrorCodes.NO_ERROR


async def test_garbage_instead_of_frames_ends_the_connection(rig: Rig) -> None:
    async with connected(rig) as client:
        await client.read()
        client.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        assert await client.closes() == ErrorCodes.FRAME_SIZE_ERROR
    await until(lambda: rig.lane.connections == set())
