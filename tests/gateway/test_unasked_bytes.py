"""Bytes of an upstream that wait in the kernel when its connection is taken for the next request (RFC 9112, 9.3).

The loop reads idle connections, so here the request comes in the same turn of the loop, before it can.
"""

import pytest

from tests.gateway.cruel import OK, CruelUpstream, Wire, until
from tests.gateway.rig import Client, Rig

POISON = OK.replace(b"ok", b"no")


def reaches_lane_at_once(rig: Rig, client: Client, request: bytes) -> None:
    """As if the loop had read this first."""
    port = client.writer.get_extra_info("sockname")[1]
    (connection,) = (c for c in rig.lane.connections if c.transport.get_extra_info("peername")[1] == port)
    connection.data_received(request)


async def idle(rig: Rig, client: Client, line: str) -> None:
    client.ask(line)
    await client.message(bodiless=True)
    await until(lambda: len(rig.pool.targets[0].idle) == 1)


@pytest.mark.parametrize("came", [POISON, b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", b"\r\n", b""])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_came_while_it_was_idle_is_no_reply(
    rig: Rig, upstream: CruelUpstream, came: bytes, method: str
) -> None:
    """Also the end of a connection (the empty one): a POST that goes into it could not be sent again."""
    upstream.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    client = await rig.client()
    await idle(rig, client, "GET / HTTP/1.1")
    rig.clock.advance(0.001)
    wire = upstream.wires[0]
    wire.send(came) if came else wire.half_close()
    reaches_lane_at_once(rig, client, client.request(f"{method} /second HTTP/1.1"))
    reply = await client.message()
    assert (reply.status, reply.body) == (200, b"ok")
    assert [request.start for request in upstream.requests[1:]] == [b"%b /second HTTP/1.1" % method.encode()]
    assert len(upstream.wires) == 2
    await wire.gone()


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 40\r\n\r\n"),
    ],
)
async def test_a_body_where_none_may_be_is_looked_for_at_once(
    rig: Rig, upstream: CruelUpstream, method: str, reply: bytes
) -> None:
    """It comes in a second packet; what is asked meanwhile gets an answer of its own."""
    upstream.answers(reply)
    client = await rig.client()
    await idle(rig, client, f"{method} / HTTP/1.1")
    upstream.wires[0].send(POISON)
    reaches_lane_at_once(rig, client, client.request("GET /second HTTP/1.1"))
    assert (await client.message()).body == b"ok"
    assert len(upstream.wires) == 2


async def test_connections_that_are_quiet_are_used_again(rig: Rig, upstream: CruelUpstream) -> None:
    async def counts(wire: Wire) -> None:
        while True:
            await upstream.take(wire)
            wire.send(OK)

    upstream.runs(counts)
    client = await rig.client()
    for _ in range(5):
        rig.clock.advance(0.5)
        client.ask()
        assert (await client.message()).body == b"ok"
    assert len(upstream.wires) == 1


@pytest.mark.parametrize(("said", "wary"), [(POISON, True), (b"HTTP/1.1 408 Late\r\n\r\n", False), (b"\r\n", False)])
async def test_a_target_that_speaks_unasked_gets_its_connections_used_once_for_a_minute(
    rig: Rig, upstream: CruelUpstream, said: bytes, wary: bool
) -> None:
    """What it says a moment later would be the reply to somebody else's call."""
    client = await rig.client()

    async def ask() -> None:
        client.ask()
        assert (await client.message()).body == b"ok"

    target = rig.pool.targets[0]
    await ask()
    upstream.wires[0].send(said)
    await until(lambda: not target.connections)
    assert target.failures == {"unasked": 1}
    await ask()
    await ask()
    assert len(upstream.wires) == (3 if wary else 2)
    rig.advance(60)
    await ask()
    await ask()
    assert len(upstream.wires) == (4 if wary else 3)  # what was idle for so long is closed


async def test_other_idle_connections_of_such_a_target_are_not_used_either(rig: Rig, upstream: CruelUpstream) -> None:
    clients = [await rig.client() for _ in range(2)]
    for client in clients:
        client.ask()
    for client in clients:
        await client.message()
    assert len(rig.pool.targets[0].idle) == 2
    upstream.wires[0].send(POISON)
    await until(lambda: not rig.pool.targets[0].connections)
    assert (await rig.call()).body == b"ok"
    assert len(upstream.wires) == 3
