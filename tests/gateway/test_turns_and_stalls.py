"""One exchange at a time, whatever the client does: turns, stalls, half-closed connections, deadlines."""

import asyncio

import pytest

from sidecar.core.records import event_id_of, is_done
from sidecar.core.turns import Turn
from sidecar.upstream import UpstreamPool
from tests.gateway.cruel import OK, CruelUpstream, Wire, until
from tests.gateway.rig import Options, Rig
from tests.gateway.test_probes import BREAKER, hung, left_alone
from tests.journals import records_on_disk

R = b"HTTP/1.1 200 OK\r\n"
REFUSED = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"


async def test_a_refused_body_that_never_comes_has_an_end(rig: Rig) -> None:
    client = await rig.client()
    client.send(REFUSED)
    assert (await client.message()).status == 401
    rig.advance(31)
    await client.gone()
    rig.advance(3)
    await until(lambda: not rig.lane.connections)


async def test_a_refused_body_that_breaks_off_ends_the_connection(rig: Rig) -> None:
    client = await rig.client()
    client.send(REFUSED)
    client.half_close()
    assert (await client.message()).status == 401
    await client.closes()


async def test_a_client_that_ends_in_the_turn_of_its_reply_still_gets_it(rig: Rig, upstream: CruelUpstream) -> None:
    """What is held back to the turn's end is sent before the connection is left to be closed."""
    client, _ = await hung(rig, upstream)
    connection = next(iter(rig.lane.connections))
    assert connection.current.connection is not None
    connection.current.connection.data_received(OK)
    if not connection.eof_received():
        connection.transport.close()  # as the loop does
    assert (await client.message()).status == 200
    await client.closes()


async def test_nothing_leaves_before_the_journal_has_it(rig: Rig, upstream: CruelUpstream) -> None:
    """At either end: what came with the request's first byte, and with the reply's last, is on the disk."""
    seen: list[list[bytes]] = []

    async def script(wire: Wire) -> None:
        while True:
            request = await upstream.take(wire)
            seen.append([event_id_of(r) for r in records_on_disk(rig.journal) if not is_done(r)])
            assert request.one("X-Request-ID") in seen[-1]
            wire.send(OK)

    for _ in range(8):
        upstream.runs(script)
    clients = [await rig.client() for _ in range(8)]
    for _ in range(3):
        for client in clients:
            client.ask()
        for client in clients:
            reply = await client.message()
            assert reply.status == 200
            assert reply.one("X-Request-ID") in [event_id_of(r) for r in records_on_disk(rig.journal) if is_done(r)]
    assert len(seen) == 24


@pytest.mark.parametrize("kept_alive", [False, True], ids=["new connection", "kept-alive connection"])
async def test_an_intent_that_is_not_written_down_is_not_sent(
    rig: Rig, upstream: CruelUpstream, kept_alive: bool
) -> None:
    """A kept-alive connection that ends unread makes the call be sent again, but not past the journal."""
    if kept_alive:
        await rig.call()
    before = len(upstream.requests)

    def fails() -> None:
        raise OSError("the disk is full")

    rig.lane.turn = Turn(fails)
    client = await rig.client()
    client.ask()
    assert await client.rest() == b""
    assert len(upstream.requests) == before


async def test_a_reply_that_is_not_written_down_is_not_sent(rig: Rig, upstream: CruelUpstream) -> None:
    failing: list[bool] = []

    def keep() -> None:
        if failing:
            raise OSError("the disk is full")
        rig.journal.flush()

    rig.lane.turn = Turn(keep)
    client, wire = await hung(rig, upstream)
    failing.append(True)
    wire.send(OK)
    assert await client.rest() == b""
    failing.clear()
    await rig.pool_is_idle()
    assert (await rig.call()).status == 200


async def test_a_half_closed_upload_waits_for_its_turn(rig: Rig, upstream: CruelUpstream) -> None:
    """9112 9.3.2: the broken second request is never answered in the first one's place, nor forwarded."""
    go: list[bool] = []

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        await until(lambda: bool(go))
        wire.send(OK)
        await wire.gone()

    upstream.runs(script)
    client = await rig.client()
    client.ask()
    await until(lambda: bool(upstream.requests))
    client.ask("POST /second HTTP/1.1", "Content-Length: 10", body=b"abc")
    client.half_close()
    await until(lambda: any(c._closing for c in rig.lane.connections))
    go.append(True)
    assert (await client.message()).status == 200
    await client.closes()
    assert len(upstream.wires) == len(await rig.ledger()) == 1


async def test_nothing_after_a_refusal_that_closes_is_served(rig: Rig, upstream: CruelUpstream) -> None:
    """9112 9.6: what follows a request with Connection: close in the same packet is no request."""
    client = await rig.client()
    client.send(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + client.request("POST /b HTTP/1.1"))
    assert (await client.message()).status == 401
    await client.gone()
    assert await rig.ledger() == []
    assert upstream.wires == []


async def test_a_pipelined_request_is_not_cut_by_keepalive(rig: Rig, upstream: CruelUpstream) -> None:
    wires: list[Wire] = []

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(OK)
        await upstream.take(wire)
        wire.send(R + b"Content-Length: 3\r\n\r\na")
        wires.append(wire)
        await wire.gone()

    upstream.runs(script)
    client = await rig.client()
    client.send(client.request("GET /1 HTTP/1.1") + client.request("GET /2 HTTP/1.1"))
    assert (await client.message()).body == b"ok"
    await client.reader.readuntil(b"\r\n\r\na")
    rig.advance(50)
    wires[0].send(b"b")
    assert await client.read(1) == b"b"
    rig.advance(50)
    wires[0].send(b"c")
    assert await client.read(1) == b"c"


def _large(size: int) -> bytes:
    return R + b"Content-Length: %d\r\n\r\n" % size + bytes(size)


@pytest.mark.parametrize("options", [Options(bounds="buffer: 64KiB")])
async def test_a_stalled_client_waits_with_its_next_request(rig: Rig, upstream: CruelUpstream) -> None:
    """The second reply is not begun while the first one is not read, and the stall keeps its deadline."""
    upstream.answers(_large(16 * 1024**2))
    client = await rig.client()
    client.writer.transport.pause_reading()
    client.ask()
    await until(lambda: any(c.stalled for c in rig.lane.connections))
    client.ask("GET /second HTTP/1.1")
    connection = next(iter(rig.lane.connections))
    await until(lambda: bool(connection._queue))
    rig.advance(31)
    await until(lambda: not rig.lane.connections)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("options", [Options(bounds="buffer: 4KiB")])
async def test_the_last_piece_pauses_nobody_else(rig: Rig, upstream: CruelUpstream) -> None:
    """The upstream's connection is back in the pool when the reply's last bytes fill the client's buffer."""
    client = await rig.client()
    await until(lambda: bool(rig.lane.connections))
    connection = next(iter(rig.lane.connections))
    client.writer.transport.pause_reading()
    while connection.transport.get_write_buffer_size() == 0:
        connection.transport.write(bytes(1 << 20))
        await until(lambda: True)
    connection._stalled = False  # as with a buffer that is just under its bound
    connection.transport._protocol_paused = False
    client.ask()
    await until(lambda: bool(rig.pool.targets[0].idle) and connection.stalled)
    assert rig.pool.targets[0].idle[0][0].transport.is_reading()


@pytest.mark.parametrize("options", [Options(bounds="buffer: 64KiB")])
async def test_a_client_that_reads_on_late_is_idle_afterwards(rig: Rig, upstream: CruelUpstream) -> None:
    client = await rig.client()
    client.ask()
    await client.message()
    connection = next(iter(rig.lane.connections))
    connection.pause_writing()
    connection.resume_writing()
    rig.advance(76)
    await client.closes()


async def test_a_reply_that_is_not_read_after_close_has_an_end(rig: Rig, upstream: CruelUpstream) -> None:
    """Less than the buffer's bound is left to send, so that nothing says that the client is stalled."""
    client = await rig.client()
    await until(lambda: bool(rig.lane.connections))
    connection = next(iter(rig.lane.connections))
    connection.transport.set_write_buffer_limits(high=1 << 30)
    upstream.answers(_large(16 * 1024**2))
    client.writer.transport.pause_reading()
    client.ask("GET / HTTP/1.1", "Connection: close")
    await until(lambda: connection._closing)
    assert connection.transport.get_write_buffer_size() > 0
    rig.advance(31)
    await until(lambda: not rig.lane.connections)


@pytest.mark.parametrize("options", [Options(bounds="buffer: 16MiB")])
async def test_a_held_body_that_fills_the_upstream_pauses_the_client(rig: Rig, upstream: CruelUpstream) -> None:
    async def script(wire: Wire) -> None:
        wire.writer.transport.pause_reading()
        await until(lambda: False)

    upstream.runs(script)
    acquire = type(rig.pool).acquire
    held: list[bool] = []

    async def late(**how: object):  # type: ignore[no-untyped-def]
        await until(lambda: any(c._paused for c in rig.lane.connections))
        held.append(True)
        return await acquire(rig.pool, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UpstreamPool, "acquire", lambda self, **how: late(**how))
        client = await rig.client()
        client.ask("POST / HTTP/1.1", "Content-Length: 67108864", body=bytes(67108864))
        await until(lambda: rig.journal.readings().open_calls == 1)
    connection = next(iter(rig.lane.connections))
    assert held
    await until(lambda: connection._paused)


@pytest.mark.parametrize("options", [BREAKER])
async def test_a_probe_that_meets_a_dead_kept_connection(rig: Rig, upstream: CruelUpstream) -> None:
    """The retry is the same probe; the breaker closes again."""

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(OK)
        await upstream.take(wire)
        wire.reset()

    upstream.runs(script)
    rig.pool.targets[1].mark(healthy=False)
    await rig.call()
    left_alone(rig)
    rig.advance(11)
    assert (await rig.call()).status == 200
    assert rig.pool.targets[0].breaker.closed


@pytest.mark.parametrize("options", [BREAKER])
async def test_a_probe_whose_client_left_and_that_failed(rig: Rig, upstream: CruelUpstream) -> None:
    """``drain`` reads on for nobody: when that fails, the breaker hears of it and may probe again."""
    gone: list[bool] = []

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        await until(lambda: bool(gone))
        wire.close()

    upstream.runs(script)
    left_alone(rig)
    rig.advance(11)
    client = await rig.client()
    client.ask("GET /drain HTTP/1.1")
    await until(lambda: bool(upstream.requests))
    client.reset()
    await until(lambda: bool(rig.lane.abandoned))
    gone.append(True)
    await until(lambda: not rig.lane.abandoned)
    rig.advance(21)  # a probe that failed doubles the time
    assert (await rig.call()).status == 200


async def test_an_interim_reply_is_not_remembered_as_the_reply(rig: Rig, upstream: CruelUpstream) -> None:
    """15.2: 100 and the reply in one read, twice on one connection."""
    upstream.answers(*[b"HTTP/1.1 100 Continue\r\n\r\n" + OK] * 3)
    client = await rig.client()
    for _ in range(3):
        client.ask()
        assert (await client.message()).body == b"ok"


@pytest.mark.parametrize("options", [Options(bounds="max_request_line: 1KiB")])
async def test_a_long_line_over_a_remembered_block(rig: Rig) -> None:
    client = await rig.client()
    for size, status in ((10, 200), (2000, 414)):
        client.ask(f"GET /{'a' * size} HTTP/1.1")
        assert (await client.message()).status == status


async def test_a_sweep_that_fails_does_not_end_the_other_timeouts(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The upstreams' timeouts are swept behind the clients': a fault in one must not silence the other for ever."""
    seen: list[int] = []
    rig.lane.abandoned.add(object())  # no exchange: sweeping it is a fault
    task = asyncio.get_running_loop().create_task(rig.lane.sweeping(seen.append))
    await until(lambda: bool(seen))
    task.cancel()
    rig.lane.abandoned.clear()
    assert "a sweep failed" in caplog.text
