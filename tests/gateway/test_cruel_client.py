"""Clients that pipeline, dribble, stall, read slowly or leave (http.md 1, points 7, 13, 16, 17)."""

import pytest

from tests.gateway.cruel import OK, CruelUpstream, Wire, until
from tests.gateway.rig import Options, Rig

R = b"HTTP/1.1 200 OK\r\n"


async def test_pipelining(rig: Rig, upstream: CruelUpstream) -> None:
    """9112 9.3.2: answers in order, one at a time, bodies and all; more than may wait in the queue too."""
    client = await rig.client()
    data = b"".join(client.request(f"POST /{n} HTTP/1.1", "Content-Length: 2", body=b"%02d" % n) for n in range(40))
    client.send(data)
    replies = [await client.message() for _ in range(40)]
    assert [reply.status for reply in replies] == [200] * 40
    assert [request.body for request in upstream.requests] == [b"%02d" % n for n in range(40)]
    ids = [reply.one("x-request-id") for reply in replies]
    assert ids == [request.one("x-request-id") for request in upstream.requests]
    assert len({entry.event_id for entry in await rig.ledger()}) == 40


async def test_pipelining_onto_our_own_paths(rig: Rig, upstream: CruelUpstream) -> None:
    """The hand-over to aiohttp comes after the replies before it, and ends the connection."""
    client = await rig.client()
    client.send(client.request("GET /1 HTTP/1.1") + client.request("GET /2 HTTP/1.1"))
    client.send(client.request("GET /_sidecar/livez HTTP/1.1") + client.request("GET /3 HTTP/1.1"))
    assert (await client.message()).body == (await client.message()).body == b"ok"
    live = await client.message()
    assert (live.status, live.one("connection")) == (200, b"close")
    await client.closes()
    assert len(upstream.requests) == len(await rig.ledger()) == 2


async def test_our_own_paths_take_bodies_and_know_what_they_do_not_have(rig: Rig) -> None:
    for line, fields, body in (
        ("POST /_sidecar/nothing HTTP/1.1", ("Content-Length: 3",), b"abc"),
        ("POST /_sidecar/nothing HTTP/1.1", ("Transfer-Encoding: chunked",), b"3\r\nabc\r\n0\r\n\r\n"),
        ("GET /_sidecar/livez HTTP/1.0", (), b""),
    ):
        reply = await rig.call(line, *fields, body=body)
        assert reply.status == (200 if "livez" in line else 404)
    assert await rig.ledger() == []


@pytest.mark.parametrize(
    "path", ["/_sidecar%2Flivez", "//_sidecar/livez", "/_sideca%72/livez", "/x/../_sidecar/livez", "/_SIDECAR/livez"]
)
async def test_spellings_of_our_own_paths_go_nowhere_unpaid(rig: Rig, path: str) -> None:
    client = await rig.client()
    client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
    assert (await client.message()).status in (400, 401, 404)


async def test_byte_by_byte(rig: Rig, upstream: CruelUpstream) -> None:
    client = await rig.client()
    await client.dribble(client.request("POST /x HTTP/1.1", "Transfer-Encoding: chunked"))
    await client.dribble(b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n")
    assert (await client.message()).status == 200
    assert upstream.requests[0].body == b"abcde"
    assert (await rig.only_entry()).bytes_in == 5


async def test_an_unknown_method_byte_by_byte(rig: Rig, upstream: CruelUpstream) -> None:
    """llhttp refuses at the first byte that begins no method it knows; the rest of the word may still be on its way."""
    for method in (b"FOO", b"GOT", b"!"):
        client = await rig.client()
        await client.dribble(client.request(f"{method.decode()} / HTTP/1.1"))
        assert (await client.message()).status == 200
        assert upstream.requests[-1].start == method + b" / HTTP/1.1"


async def test_a_half_closed_client_gets_its_replies(rig: Rig) -> None:
    client = await rig.client()
    client.ask()
    client.ask()
    client.half_close()
    assert (await client.message()).body == (await client.message()).body == b"ok"
    await client.closes()
    assert len(await rig.ledger()) == 2


async def test_half_closed_in_mid_body(rig: Rig, upstream: CruelUpstream) -> None:
    """9112 8: incomplete; the upstream never sees a whole request, nothing is charged."""
    client = await rig.client()
    client.ask("POST / HTTP/1.1", "Content-Length: 10", body=b"abc")
    client.half_close()
    assert (await client.message()).status == 400
    await client.closes()
    assert upstream.requests == []
    assert all(entry.units == 0 for entry in await rig.ledger())


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_persistence(rig: Rig, version: str) -> None:
    """9112 9.3: none with HTTP/1.0 (kept alive or not) or after Connection: close."""
    client = await rig.client()
    client.ask(f"GET / HTTP/{version}", "Connection: close" if version == "1.1" else "Connection: keep-alive")
    reply = await client.message()
    assert (reply.start[:8], reply.one("connection"), reply.body) == (b"HTTP/1.1", b"close", b"ok")
    await client.closes()


async def test_expect_passes(rig: Rig, upstream: CruelUpstream) -> None:
    """9110 10.1.1: decided first, then 100; the upstream is not asked to repeat it."""
    client = await rig.client()
    client.ask("POST / HTTP/1.1", "Expect: 100-continue", "Content-Length: 3")
    assert (await client.message(bodiless=True)).start == b"HTTP/1.1 100 Continue"
    client.send(b"abc")
    assert (await client.message()).body == b"ok"
    assert upstream.requests[0].body == b"abc"


@pytest.mark.parametrize("why", ["no-key", "too-large"])
async def test_expect_is_refused_without_the_body(rig: Rig, upstream: CruelUpstream, why: str) -> None:
    client = await rig.client()
    if why == "no-key":
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    else:
        client.ask("POST /small HTTP/1.1", "Expect: 100-continue", "Content-Length: 300")
    reply = await client.message()
    assert reply.status == (401 if why == "no-key" else 413)
    assert reply.one("connection") == b"close"
    client.send(client.request("GET /smuggled HTTP/1.1"))
    await client.closes()
    assert upstream.requests == []
    assert await rig.ledger() == []


async def test_a_head_that_does_not_end(rig: Rig) -> None:
    client = await rig.client()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
    await until(lambda: any(c._intake.begun for c in rig.lane.connections))
    rig.advance(14)
    client.send(b"X-A: b\r\n")
    rig.advance(2)
    assert (await client.message()).status == 408
    await client.closes()


async def test_a_connection_without_a_byte(rig: Rig) -> None:
    client = await rig.client()
    await until(lambda: len(rig.lane.connections) == 1)
    rig.advance(16)
    await client.gone()
    await until(lambda: not rig.lane.connections)


async def test_an_idle_connection_ends_after_keepalive(rig: Rig) -> None:
    client = await rig.client()
    client.ask()
    await client.message()
    rig.advance(74)
    client.ask()
    assert (await client.message()).status == 200
    rig.advance(76)
    await client.closes()


async def test_a_body_that_stalls(rig: Rig, upstream: CruelUpstream) -> None:
    client = await rig.client()
    client.ask("POST / HTTP/1.1", "Content-Length: 10", body=b"abc")
    await until(lambda: bool(upstream.wires) and not rig.lane.tasks)
    rig.advance(31)
    assert (await client.message()).status == 408
    await client.closes()
    await until(lambda: upstream.wires[0].ended)
    entry = await rig.only_entry()
    assert (entry.status, entry.outcome, entry.units) == (408, "client_gone", 0)


async def test_a_slow_reader_pauses_the_upstream(rig: Rig, upstream: CruelUpstream) -> None:
    """64 MiB for a client that reads nothing: only what the sockets and the buffers hold leaves the upstream."""
    total = 64 * 1024**2
    sent: list[int] = [0]

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(R + b"Content-Length: %d\r\n\r\n" % total)
        piece = bytes(256 * 1024)
        while sent[0] < total:
            wire.send(piece)
            await wire.writer.drain()
            sent[0] += len(piece)

    upstream.runs(script)
    client = await rig.client()
    client.writer.transport.pause_reading()
    client.ask()
    await until(lambda: any(c.stalled for c in rig.lane.connections))
    connection = next(iter(rig.lane.connections))
    for _ in range(200):
        await until(lambda: True)
        assert connection.transport.get_write_buffer_size() < 2 * 1024**2
    assert sent[0] < total
    client.writer.transport.resume_reading()
    await client.reader.readuntil(b"\r\n\r\n")
    left = total
    while left:
        left -= len(await client.reader.read(min(left, 1 << 20)))
    assert (await rig.only_entry()).bytes_out == total


async def test_a_reader_that_never_reads_is_cut_off(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(R + b"Content-Length: 67108864\r\n\r\n" + bytes(67108864))
    client = await rig.client()
    client.writer.transport.pause_reading()
    client.ask()
    await until(lambda: any(c.stalled for c in rig.lane.connections))
    rig.advance(31)
    await until(lambda: not rig.lane.connections)
    entry = await rig.only_entry()
    assert (entry.outcome, entry.units) == ("client_gone", 3)


async def test_a_slow_upstream_pauses_the_client(rig: Rig, upstream: CruelUpstream) -> None:
    go: list[bool] = []

    async def script(wire: Wire) -> None:
        wire.writer.transport.pause_reading()
        await until(lambda: bool(go))
        wire.writer.transport.resume_reading()
        await upstream.take(wire)
        wire.send(OK)

    upstream.runs(script)
    total = 32 * 1024**2
    client = await rig.client()
    client.ask("POST / HTTP/1.1", f"Content-Length: {total}", body=bytes(total))
    await until(lambda: any(c._paused for c in rig.lane.connections) and bool(rig.pool.targets[0].connections))
    up = next(iter(rig.pool.targets[0].connections))
    await until(lambda: up.transport.get_write_buffer_size() > 0)
    assert up.transport.get_write_buffer_size() < 2 * 1024**2
    go.append(True)
    assert (await client.message()).status == 200
    assert (await rig.only_entry()).bytes_in == total


LEAVES = {"drain": ("client_gone", 3, 10), "partial": ("client_gone", 3, 3), "cancel": ("client_gone", 0, 3)}


@pytest.mark.parametrize("route", LEAVES)
async def test_a_client_that_leaves_in_mid_download(rig: Rig, upstream: CruelUpstream, route: str) -> None:
    """field-bugs 19 (BerriAI/litellm#14457, #36008): billed as on_disconnect says."""
    outcome, units, size = LEAVES[route]
    gone: list[bool] = []

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(R + b"Content-Length: 10\r\n\r\nabc")
        await until(lambda: bool(gone))
        wire.send(b"defghij")
        await wire.gone()

    upstream.runs(script)
    client = await rig.client()
    client.ask(f"GET /{route} HTTP/1.1")
    await client.reader.readuntil(b"abc")
    client.reset()
    await until(lambda: not rig.lane.connections)
    gone.append(True)
    entry = await rig.only_entry()
    assert (entry.status, entry.outcome, entry.units, entry.bytes_out) == (200, outcome, units, size)
    assert entry.meters == ({"requests": 1} if units else {})
    assert not rig.lane.abandoned


async def test_draining_for_nobody_has_an_end(rig: Rig, upstream: CruelUpstream) -> None:
    """field-bugs 19 (BerriAI/litellm#17364): drains are capped."""
    upstream.answers(R + b"Content-Length: 10\r\n\r\nabc")
    client = await rig.client()
    client.ask("GET /drain HTTP/1.1")
    await client.reader.readuntil(b"abc")
    client.reset()
    await until(lambda: bool(rig.lane.abandoned))
    rig.clock.advance(61)
    rig.lane.sweep()
    assert not rig.lane.abandoned
    await until(lambda: upstream.wires[0].ended)
    assert ((await rig.only_entry()).outcome, (await rig.only_entry()).units) == ("client_gone", 3)


@pytest.mark.parametrize("route", LEAVES)
async def test_a_client_that_leaves_in_mid_upload(rig: Rig, upstream: CruelUpstream, route: str) -> None:
    client = await rig.client()
    client.ask(f"POST /{route} HTTP/1.1", "Content-Length: 10", body=b"abc")
    await until(lambda: rig.journal.readings().open_calls == 1)
    client.reset()
    await until(lambda: bool(upstream.wires) and upstream.wires[0].ended)
    entry = await rig.only_entry()
    assert (entry.status, entry.outcome, entry.bytes_in) == (0, "client_gone", 3)
    assert upstream.requests == []


@pytest.mark.parametrize("options", [Options(bounds="max_connections: 2"), Options(bounds="max_connections_per_ip: 2")])
async def test_connections_have_a_bound(rig: Rig) -> None:
    """One too many is closed at once; when one leaves there is room again."""
    kept = [await rig.client() for _ in range(2)]
    await until(lambda: len(rig.lane.connections) == 2)
    third = await rig.client()
    await third.gone()
    kept[0].close()
    await until(lambda: len(rig.lane.connections) == 1)
    assert (await rig.call()).status == 200
    await until(lambda: len(rig.lane.connections) == 1)
    kept[1].close()
    await until(lambda: not rig.lane.per_ip)


async def test_announcements(rig: Rig) -> None:
    reply = await rig.call("GET /told HTTP/1.1")
    assert reply.one("x-request-latency") == b"0.000ms"
    assert reply.one("x-compute-cost") == b"0.000000 USD"


@pytest.mark.parametrize("options", [Options(plan="limits: [{name: l, limit: 6, window: 1m}]")])
async def test_what_is_over_the_limit_is_not_recorded(rig: Rig, upstream: CruelUpstream) -> None:
    """Each call weighs 3. field-bugs 18 (Kong/developer.konghq.com#6691)."""
    statuses = [(await rig.call()).status for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    assert len(upstream.requests) == len(await rig.ledger()) == 2


async def test_a_torn_upload_is_not_a_whole_one(rig: Rig, upstream: CruelUpstream) -> None:
    """The upstream's connection is cut when the client's body broke off: it must not be used again."""
    client = await rig.client()
    client.ask("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n")
    await until(lambda: rig.journal.readings().open_calls == 1)
    client.reset()
    await until(lambda: not rig.pool.targets[0].connections)
    await until(lambda: upstream.wires[0].ended)
    assert upstream.requests == []
