"""How an HTTP/2 connection ends: GOAWAY from either side, slow readers, what h2 is given (RFC 9113, 6.8)."""

import asyncio
from typing import Any

import pytest
from h2.errors import ErrorCodes

from sidecar.gateway.http2 import Http2Connection
from sidecar.gateway.http2.connection import PREFACE, FrameHeads
from tests.gateway.cruel import OK, CruelUpstream, Wire, until
from tests.gateway.http2_client import connected
from tests.gateway.rig import Options, Rig

GOAWAY = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + bytes(8)


def frame(kind: int, payload: bytes, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + stream.to_bytes(4, "big") + payload


FRAMES = [frame(5, b"12345", 1), frame(4, b""), frame(0, bytes(300), 1), frame(6, bytes(8))]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 11, 1000])
@pytest.mark.parametrize("at", [0, 2, 4])
def test_frames_pass_whole_and_in_order_and_a_goaway_does_not(step: int, at: int) -> None:
    """However the network cuts them."""
    heads = FrameHeads()
    stream = PREFACE + b"".join([*FRAMES[:at], GOAWAY, *FRAMES[at:]])
    passed = b"".join(heads.pass_on(stream[n : n + step]) for n in range(0, len(stream), step))
    assert passed == PREFACE + b"".join(FRAMES)
    assert heads.gone_away
    assert heads.longest == 300


@pytest.mark.parametrize("broken", [frame(7, bytes(8), 1), frame(7, bytes(7))])
def test_a_goaway_that_is_none_is_for_h2_to_refuse(broken: bytes) -> None:
    heads = FrameHeads()
    assert heads.pass_on(PREFACE + broken) == PREFACE + broken
    assert not heads.gone_away


def test_a_frame_too_long_is_seen_at_its_head() -> None:
    heads = FrameHeads()
    heads.pass_on(PREFACE + b"\x01\x00\x00" + bytes(6))
    assert heads.longest == 65536


async def late(rig: Rig, upstream: CruelUpstream) -> asyncio.Event:
    """The next reply waits for this."""
    go = asyncio.Event()

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        await go.wait()
        wire.send(OK)
        await wire.gone()

    upstream.runs(script)
    return go


async def test_a_client_that_goes_away_gets_the_replies_it_waits_for(rig: Rig, upstream: CruelUpstream) -> None:
    """Its GOAWAY says that it takes no streams of ours, not that it is gone; then the connection ends."""
    go = await late(rig, upstream)
    async with connected(rig) as client:
        number = client.ask()
        upload = client.ask(b"/written", method=b"PUT", end=False)
        await until(lambda: bool(upstream.requests))
        client.writer.write(GOAWAY)
        client.data(upload, b"some", end=True)
        go.set()
        assert (await client.answer(number)).body == b"ok"
        assert (await client.answer(upload)).status == 200
        assert await client.closes() == ErrorCodes.NO_ERROR
    assert [entry.outcome for entry in await rig.ledger()] == ["ok", "ok"]


async def test_draining_lets_what_is_under_way_and_on_its_way_end(rig: Rig, upstream: CruelUpstream) -> None:
    go = await late(rig, upstream)
    async with connected(rig) as client:
        number = client.ask()
        await until(lambda: bool(upstream.requests))
        for connection in list(rig.lane.connections):
            connection.drain()
        crossing = client.ask()  # the GOAWAY was not there yet
        assert (await client.answer(crossing)).body == b"ok"
        rig.advance(5)
        go.set()
        assert (await client.answer(number)).body == b"ok"
        await until(lambda: len(rig.lane.connections) == 1)
        rig.advance(1)
        assert await client.closes() == ErrorCodes.NO_ERROR


async def test_an_idle_connection_is_told_and_has_a_second(rig: Rig) -> None:
    async with connected(rig) as client:
        assert (await client.answer(client.ask(key=False))).status == 401
        await until(lambda: len(rig.lane.connections) == 1)
        (connection,) = rig.lane.connections
        connection.drain()
        await client.until(lambda: client.gone_away is not None)
        assert (await client.answer(client.ask(key=False))).status == 401
        await until(lambda: len(rig.lane.connections) == 1)
        rig.advance(1)
        assert await client.closes() == ErrorCodes.NO_ERROR


async def test_the_upstream_and_the_log_hear_of_http_2(rig: Rig, upstream: CruelUpstream) -> None:
    """RFC 9110, 7.6.3: Via has the version in which the request came."""
    async with connected(rig) as client:
        await client.answer(client.ask(b"/", (b"via", b"2 before")))
    via = upstream.requests[0].one("via")
    assert via is not None
    assert via.startswith(b"2 before, 2.0 sidecar-")
    await rig.call()
    assert (upstream.requests[1].one("via") or b"").startswith(b"1.1 sidecar-")


class Pipe(asyncio.Transport):
    """A socket whose other end reads as much as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self.aborted = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def write(self, data: Any) -> None:
        self.held += len(data)

    def get_write_buffer_size(self) -> int:
        return self.held

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize("options", [Options(bounds="body_timeout: 10s, body_rate: 1KiB")])
async def test_a_reader_may_be_slow_but_not_slower_than_the_rate(rig: Rig) -> None:
    pipe, connection = Pipe(), Http2Connection(rig.lane)
    connection.connection_made(pipe)
    pipe.held = 100 * 1024
    connection.pause_writing()
    for _ in range(5):
        pipe.held -= 10 * 1024
        rig.advance(10)
        assert not pipe.aborted
    pipe.held -= 10 * 1024 - 1
    rig.advance(10)
    assert pipe.aborted
    connection.connection_lost(None)
