"""What a client may take its time for (http.md 1.17): minimum rates both ways, and requests that wait."""

import pytest

from tests.gateway.cruel import OK, CruelUpstream, Wire, until
from tests.gateway.rig import Client, Options, Rig

R = b"HTTP/1.1 200 OK\r\n"


async def sent(rig: Rig, client: Client, data: bytes) -> None:
    """Sends a piece of a body, and returns when the sidecar has it."""
    (connection,) = rig.lane.connections
    before = connection.current.bytes_in if connection.current is not None else 0
    client.send(data)
    await until(lambda: connection.current is not None and connection.current.bytes_in > before)


@pytest.mark.parametrize("options", [Options(bounds="body_rate: 10B, body_timeout: 30s")])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_that_dribbles_is_cut_off(rig: Rig, upstream: CruelUpstream, framing: str) -> None:
    """A byte every 20 s is never silent for 30: 300 bytes must come in them."""
    client = await rig.client()
    client.ask("POST / HTTP/1.1", "Content-Length: 100000" if framing == "length" else "Transfer-Encoding: chunked")
    await until(lambda: rig.journal.readings().open_calls == 1)
    await sent(rig, client, b"a" if framing == "length" else b"1\r\na\r\n")
    rig.advance(20)
    await sent(rig, client, b"a" if framing == "length" else b"1\r\na\r\n")
    rig.advance(11)
    assert (await client.message()).status == 408
    await client.closes()
    await until(lambda: upstream.wires[0].ended)
    entry = await rig.only_entry()
    assert (entry.status, entry.outcome, entry.units, entry.bytes_in) == (408, "client_gone", 0, 2)


@pytest.mark.parametrize("options", [Options(bounds="body_rate: 10B, body_timeout: 30s")])
async def test_a_slow_body_that_keeps_the_rate_passes(rig: Rig, upstream: CruelUpstream) -> None:
    client = await rig.client()
    client.ask("POST / HTTP/1.1", "Content-Length: 1500")
    await until(lambda: rig.journal.readings().open_calls == 1)
    for _ in range(4):
        await sent(rig, client, b"x" * 300)
        rig.advance(29)
    client.send(b"x" * 300)
    assert (await client.message()).status == 200


@pytest.mark.parametrize("options", [Options(bounds="body_rate: 0B")])
async def test_without_a_rate_only_silence_ends_a_body(rig: Rig, upstream: CruelUpstream) -> None:
    client = await rig.client()
    client.ask("POST / HTTP/1.1", "Content-Length: 5")
    await until(lambda: rig.journal.readings().open_calls == 1)
    for _ in range(4):
        await sent(rig, client, b"x")
        rig.advance(29)
    client.send(b"x")
    assert (await client.message()).status == 200


@pytest.mark.parametrize("options", [Options(bounds="body_rate: 1KiB, buffer: 64KiB")])
@pytest.mark.parametrize("ending", ["kept", "closed"])
async def test_a_reader_that_keeps_the_rate_is_waited_for(rig: Rig, upstream: CruelUpstream, ending: str) -> None:
    """Less than the buffer goes out in each 30 s, and more than 30 KiB; then nothing does, and the connection ends."""
    upstream.answers(R + b"Content-Length: 67108864\r\n\r\n" + bytes(67108864))
    client = await rig.client()
    client.writer.transport.pause_reading()
    client.ask("GET / HTTP/1.1", *(["Connection: close"] if ending == "closed" else []))
    await until(lambda: any(c.stalled for c in rig.lane.connections))
    (connection,) = rig.lane.connections
    waiting = connection.transport.get_write_buffer_size()
    rig.advance(29)
    connection._mark = waiting + 40 * 1024  # as if that much had been read since the wait began
    rig.advance(2)
    assert connection in rig.lane.connections
    rig.advance(29)
    assert connection in rig.lane.connections
    rig.advance(2)
    await until(lambda: not rig.lane.connections)
    assert (await rig.only_entry()).outcome == "client_gone"


@pytest.mark.parametrize("options", [Options(bounds="max_drain: 1MiB, drain_timeout: 7s")])
@pytest.mark.parametrize("why", ["bytes", "time"])
async def test_drains_are_capped(rig: Rig, upstream: CruelUpstream, why: str) -> None:
    """field-bugs 19 (BerriAI/litellm#17364): by bytes since the client left, and by time; charged either way."""
    gone: list[bool] = []

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(R + b"Content-Length: 10000000\r\n\r\nabc")
        await until(lambda: bool(gone))
        wire.send(bytes(5_000_000 if why == "bytes" else 500_000))
        await wire.gone()

    upstream.runs(script)
    client = await rig.client()
    client.ask("GET /drain HTTP/1.1")
    await client.reader.readuntil(b"abc")
    client.reset()
    await until(lambda: bool(rig.lane.abandoned))
    gone.append(True)
    if why == "time":
        (call,) = rig.lane.abandoned
        await until(lambda: call.bytes_out == 500_003)
        rig.advance(6)
        assert rig.lane.abandoned
        rig.advance(2)
    await until(lambda: not rig.lane.abandoned and upstream.wires[0].ended)
    entry = await rig.only_entry()
    assert (entry.outcome, entry.units) == ("client_gone", 3)
    assert entry.bytes_out < 2_000_000


@pytest.mark.parametrize("options", [Options(bounds="max_pipelined: 3")])
@pytest.mark.parametrize("half_closed", [False, True])
async def test_no_more_requests_wait_than_may(rig: Rig, upstream: CruelUpstream, half_closed: bool) -> None:
    """However many come in one read, and also when the client has nothing more to send: all are answered, in order."""
    go: list[bool] = []

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        await until(lambda: bool(go))
        wire.send(OK)
        while True:
            await upstream.take(wire)
            wire.send(OK)

    upstream.runs(script)
    client = await rig.client()
    client.send(b"".join(client.request(f"GET /{n} HTTP/1.1") for n in range(500)))
    if half_closed:
        client.half_close()
    await until(lambda: bool(upstream.requests))
    (connection,) = rig.lane.connections
    await until(lambda: connection._paused)
    assert len(connection._queue) == 3
    go.append(True)
    assert [(await client.message()).status for _ in range(500)] == [200] * 500
    assert [request.start.split()[1] for request in upstream.requests] == [b"/%d" % n for n in range(500)]
    if half_closed:
        await client.closes()
    else:
        client.ask("GET /last HTTP/1.1")
        assert (await client.message()).status == 200


@pytest.mark.parametrize("piece", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n"], ids=["requests", "empty-lines"])
async def test_a_read_full_of_requests_is_looked_at_once(rig: Rig, piece: bytes) -> None:
    """What waits is neither parsed ahead nor copied for each request: 16 heads of 10,000 are held as requests."""
    client = await rig.client()
    await until(lambda: bool(rig.lane.connections))
    (connection,) = rig.lane.connections
    connection.data_received(piece * 10_000)
    assert len(connection._queue) <= rig.lane.rules.bounds.max_pipelined
    client.close()


@pytest.mark.parametrize("piece", [b"8\r\n\r\n\r\n\r\n\r\n\r\n", b"1\r\na\r\n", b"3;a=b\r\nabc\r\n"])
async def test_a_body_of_tiny_chunks_goes_up_in_large_ones(rig: Rig, upstream: CruelUpstream, piece: bytes) -> None:
    """What came in one read goes on in one piece, whatever it is made of."""
    client = await rig.client()
    client.ask("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=piece * 20_000 + b"0\r\n\r\n")
    assert (await client.message()).status == 200
    request = upstream.requests[0]
    assert len(request.body) == 20_000 * (8 if piece[:1] == b"8" else 1 if piece[:1] == b"1" else 3)
    assert len(request.raw_body) - len(request.body) < 5_000
