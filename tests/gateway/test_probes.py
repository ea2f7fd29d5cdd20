"""Half-open: one request probes a target at a time, whatever becomes of those that were under way before.

The upstream has a second target, without which the first would not be left alone, and which gets no calls meanwhile.
"""

from collections.abc import Callable

import pytest

from sidecar.upstream import TargetPool
from tests.gateway.cruel import OK, CruelUpstream, Wire, until
from tests.gateway.rig import Client, Options, Rig

LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
TWO = '"http://127.0.0.1:{port}", "http://localhost:{port}"'
BREAKER = Options(targets=TWO, upstream="breaker: {failures: 1, open_for: 10s}")


def left_alone(rig: Rig) -> TargetPool:
    """The first target, with its breaker open; the second is down for its checks."""
    target, other = rig.pool.targets
    other.mark(healthy=True)
    target.failed("reset")
    other.mark(healthy=False)
    assert target.breaker.word == "open"
    return target


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
    rig.pool.targets[1].mark(healthy=False)
    early = await hung(rig, upstream)
    target = left_alone(rig)
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
    rig.pool.targets[1].mark(healthy=False)
    if kept:
        replies: list[Wire] = []

        async def script(wire: Wire) -> None:
            await upstream.take(wire)
            wire.send(OK)
            await upstream.take(wire)
            replies.append(wire)

        upstream.runs(script)
        assert (await rig.call()).status == 200
    target = left_alone(rig)
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
    left_alone(rig)
    rig.advance(10)
    client, wire = await hung(rig, upstream)
    wire.reset()
    assert (await client.message()).status == 502
    rig.advance(19)
    assert (await rig.call()).status == 503
    rig.advance(1)
    assert (await rig.call()).status == 200
