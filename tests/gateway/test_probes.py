"""Half-open: one request probes a target at a time, whatever becomes of those that were under way before."""

from collections.abc import Callable

import pytest

from tests.gateway.cruel import OK, CruelUpstream, Wire, until
from tests.gateway.rig import Client, Options, Rig

LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
BREAKER = Options(upstream="breaker: {failures: 1, open_for: 10s}")


async def hung(rig: Rig, upstream: CruelUpstream) -> tuple[Client, Wire]:
    """A request whose reply does not come."""

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        wires.append(wire)

    wires: list[Wire] = []
    upstream.runs(script)
    client = await rig.client()
    client.ask("GET /cancel HTTP/1.1")
    await until(lambda: bool(wires))
    return client, wires[0]


def client_leaves(client: Client, wire: Wire) -> None:
    client.reset()


def reply_breaks(client: Client, wire: Wire) -> None:
    wire.reset()


@pytest.mark.parametrize("options", [BREAKER])
@pytest.mark.parametrize("ends", [client_leaves, reply_breaks])
async def test_a_call_from_before_is_no_probe(
    rig: Rig, upstream: CruelUpstream, ends: Callable[[Client, Wire], None]
) -> None:
    early = await hung(rig, upstream)
    target = rig.pool.targets[0]
    target.failed("reset")
    rig.advance(10)
    probe, wire = await hung(rig, upstream)
    ends(*early)
    await until(lambda: len(target.connections) == 1)
    assert target.breaker.word == "half_open"
    assert (await rig.call()).status == 503
    wire.send(LAST)
    assert (await probe.message()).status == 200
    assert (await rig.call()).status == 200


@pytest.mark.parametrize("options", [BREAKER])
@pytest.mark.parametrize("kept", [True, False])
async def test_a_probe_whose_client_leaves_makes_place_for_the_next(
    rig: Rig, upstream: CruelUpstream, kept: bool
) -> None:
    """On a kept connection and on a new one."""
    if kept:
        replies: list[Wire] = []

        async def script(wire: Wire) -> None:
            await upstream.take(wire)
            wire.send(OK)
            await upstream.take(wire)
            replies.append(wire)

        upstream.runs(script)
        assert (await rig.call()).status == 200
    target = rig.pool.targets[0]
    target.failed("reset")
    rig.advance(10)
    if kept:
        probe = await rig.client()
        probe.ask("GET /cancel HTTP/1.1")
        await until(lambda: bool(replies))
    else:
        probe, _ = await hung(rig, upstream)
    assert (await rig.call()).status == 503
    probe.reset()
    await until(lambda: not target.connections)
    assert (await rig.call()).status == 200
    assert target.breaker.word == "closed"


@pytest.mark.parametrize("options", [BREAKER])
async def test_a_probe_that_breaks_doubles_the_time(rig: Rig, upstream: CruelUpstream) -> None:
    target = rig.pool.targets[0]
    target.failed("reset")
    rig.advance(10)
    client, wire = await hung(rig, upstream)
    wire.reset()
    assert (await client.message()).status == 502
    rig.advance(19)
    assert (await rig.call()).status == 503
    rig.advance(1)
    assert (await rig.call()).status == 200
