"""An upstream at its capacity: so many calls wait, and one more is told at once when to come again."""

import asyncio

import pytest

from tests.gateway.cruel import OK, Wire, until
from tests.gateway.rig import Options, Rig


@pytest.mark.parametrize("options", [Options(upstream="max_connections: 1\n    max_waiting: 1")])
async def test_one_more_than_may_wait_is_refused_and_the_others_are_served(rig: Rig) -> None:
    released = asyncio.Event()

    async def script(wire: Wire) -> None:
        await rig.upstream.take(wire)
        await released.wait()
        wire.send(OK)
        await rig.upstream.take(wire)
        wire.send(OK)

    rig.upstream.runs(script)
    first, second = await rig.client(), await rig.client()
    first.ask()
    await until(lambda: len(rig.upstream.requests) == 1)
    second.ask()
    await until(lambda: rig.pool.readings()[0].waiting == 1)
    told = await rig.call()
    assert (told.status, told.one("retry-after")) == (503, b"1")
    assert b'"code":"upstream_busy"' in told.body
    released.set()
    assert (await first.message()).status == (await second.message()).status == 200
    assert len(await rig.ledger()) == 2
