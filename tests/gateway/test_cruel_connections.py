"""Upstreams that cannot be reached, die, stall, close early or take nothing: who is told, and what is tried again."""

import pytest

from tests.gateway.cruel import OK, TORN, CruelUpstream, Wire, until
from tests.gateway.rig import Options, Rig


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "POST", "PATCH", "FOO"])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_kept_connection_that_dies_unread(rig: Rig, upstream: CruelUpstream, method: str, how: str) -> None:
    """9110 9.2.2: idempotent goes once more, as the same event; anything else is 502, never a second hit."""

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(OK)
        await upstream.take(wire)
        wire.reset() if how == "reset" else wire.close()

    upstream.runs(script)
    await rig.call()
    reply = await rig.call(f"{method} /x HTTP/1.1")
    hits = [request.one("x-request-id") for request in upstream.requests[1:]]
    entry = (await rig.ledger())[-1]
    assert len(await rig.ledger()) == 2
    if method in ("GET", "HEAD", "OPTIONS", "DELETE"):
        assert reply.status == 200
        assert hits == [reply.one("x-request-id")] * 2
        assert (entry.outcome, entry.units) == ("ok", 3)
    else:
        assert reply.status == 502
        assert len(hits) == 1
        assert (entry.outcome, entry.units) == ("upstream_failed", 0)


async def test_a_retry_is_not_retried(rig: Rig, upstream: CruelUpstream) -> None:
    async def dies(wire: Wire) -> None:
        await upstream.take(wire)
        wire.close()

    async def dies_later(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(OK)
        await dies(wire)

    upstream.runs(dies_later)
    upstream.runs(dies)
    await rig.call()
    assert (await rig.call()).status == 502
    assert len(upstream.requests) == 3


async def test_a_new_connection_that_dies_is_not_a_race(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(b"", then_close=True)
    assert (await rig.call()).status == 502
    assert len(upstream.requests) == 1


async def test_nobody_listens(rig: Rig, upstream: CruelUpstream) -> None:
    """503 with Retry-After; nothing was forwarded, so there is no record; after five the breaker is open."""
    await upstream.stop()
    for _ in range(7):
        reply = await rig.call()
        assert (reply.status, reply.one("retry-after")) == (503, b"1")
    assert b"not available" in reply.body
    assert await rig.ledger() == []
    await upstream.start(upstream.port)
    rig.advance(0.5)
    await until(lambda: rig.pool.available)
    assert (await rig.call()).status == 200  # at once when it is back, and no call had to find out


async def test_bad_replies_do_not_close_the_only_target(rig: Rig, upstream: CruelUpstream) -> None:
    """Decision 23: 502 for those whose reply is bad, and none of it for the others."""
    for _ in range(12):
        upstream.answers(b"HTTP/9 whatever\r\n\r\n")
        assert (await rig.call()).status == 502
    assert (await rig.call()).status == 200


async def test_an_upstream_that_says_nothing(rig: Rig, upstream: CruelUpstream) -> None:
    """504 at first_byte, however often time is looked at before; no connection stays."""
    upstream.answers(b"")
    client = await rig.client()
    client.ask()
    await until(lambda: bool(upstream.requests))
    rig.advance(29)
    rig.advance(2)
    assert (await client.message()).status == 504
    entry = await rig.only_entry()
    assert (entry.status, entry.outcome, entry.units) == (504, "upstream_failed", 0)
    await upstream.wires[0].gone()


async def test_an_upstream_that_stalls_in_mid_body(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    client = await rig.client()
    client.ask()
    await client.reader.readuntil(b"abc")
    rig.advance(59)
    rig.advance(2)
    with pytest.raises(TORN):
        await client.read(7)
    entry = await rig.only_entry()
    assert (entry.status, entry.outcome, entry.bytes_out) == (200, "upstream_failed", 3)


async def test_an_idle_connection_is_closed_after_keepalive(rig: Rig, upstream: CruelUpstream) -> None:
    await rig.call()
    rig.advance(59)
    assert len(rig.pool.targets[0].idle) == 1
    rig.advance(2)
    await until(lambda: not rig.pool.targets[0].connections)
    assert rig.pool.targets[0].idle == []


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_an_early_reply_while_uploading(rig: Rig, upstream: CruelUpstream, framing: str) -> None:
    """9112 9.3, point 16: relayed, then the client's connection is closed; the upstream's is not used again."""

    async def script(wire: Wire) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        wire.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await wire.gone()

    upstream.runs(script)
    client = await rig.client()
    client.ask("POST / HTTP/1.1", "Content-Length: 100000" if framing == "length" else "Transfer-Encoding: chunked")
    client.send(b"5\r\nhello\r\n")
    reply = await client.message()
    assert (reply.status, reply.body, reply.one("connection")) == (413, b"big", b"close")
    client.send(b"x" * 1000)
    await client.closes()
    assert rig.pool.targets[0].idle == []
    entry = await rig.only_entry()
    assert (entry.status, entry.outcome) == (413, "ok")


@pytest.mark.parametrize("options", [Options(upstream="max_connections: 1, max_waiting: 1".replace(", ", "\n    "))])
async def test_a_full_upstream(rig: Rig, upstream: CruelUpstream) -> None:
    """One is served, one waits, the next gets 503; whoever waited is served when the connection is free."""
    go: list[bool] = []

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        await until(lambda: bool(go))
        wire.send(OK)
        await upstream.take(wire)
        wire.send(OK)

    upstream.runs(script)
    first, second, third = [await rig.client() for _ in range(3)]
    first.ask()
    await until(lambda: bool(upstream.requests))
    second.ask()
    await until(lambda: rig.pool.readings()[0].waiting == 1)
    third.ask()
    assert (await third.message()).status == 503
    go.append(True)
    assert (await first.message()).status == (await second.message()).status == 200
    assert len(await rig.ledger()) == 2
