"""The composition root: starts whole or not at all, stops without losing anything."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.app import App, open_offline
from sidecar.config import Overrides, load
from sidecar.core.errors import StoreLocked
from tests.gateway.cruel import CruelUpstream
from tests.gateway.rig import Options, start_rig


@pytest.fixture
async def upstream() -> AsyncIterator[CruelUpstream]:
    cruel = CruelUpstream()
    await cruel.start()
    yield cruel
    await cruel.stop()


async def test_usage_survives_a_stop_and_a_start(tmp_path: Path, upstream: CruelUpstream) -> None:
    rig = await start_rig(tmp_path, upstream, Options())
    assert (await rig.call()).status == 200
    await rig.stop()
    async with open_offline(rig.app.snapshot) as operations:
        usage = await operations.usage("acme", since="2025-10-01T00:00:00Z", until="2025-11-01T00:00:00Z")
    assert (usage["requests"], usage["units"]) == (1, 3)
    assert {key["id"] for key in (await _keys(rig.app))} == {rig.key_id}


async def _keys(app: App) -> list[dict[str, str]]:
    async with open_offline(app.snapshot) as operations:
        found: list[dict[str, str]] = (await operations.keys_list("acme"))["keys"]
        return found


async def test_a_second_one_on_the_same_data_is_refused(tmp_path: Path, upstream: CruelUpstream) -> None:
    rig = await start_rig(tmp_path, upstream, Options())
    with pytest.raises(StoreLocked):
        await App(rig.app.snapshot).start()
    with pytest.raises(StoreLocked):
        async with open_offline(rig.app.snapshot):
            pass
    assert (await rig.call()).status == 200
    await rig.stop()


async def test_a_port_that_is_taken_leaves_nothing_open(tmp_path: Path, upstream: CruelUpstream) -> None:
    rig = await start_rig(tmp_path, upstream, Options())
    await rig.stop()
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    file = tmp_path / "sidecar.yaml"
    free = file.read_text()
    file.write_text(free.replace("listen: 127.0.0.1:0\n", f"listen: 127.0.0.1:{port}\n", 1))
    with pytest.raises(OSError, match=str(port)):
        await App(load(file, Overrides(), {})).start()
    server.close()
    file.write_text(free)
    again = App(load(file, Overrides(), {}))
    await again.start()
    await again.stop()


async def test_stopping_tells_readiness_and_closes_idle_connections(tmp_path: Path, upstream: CruelUpstream) -> None:
    rig = await start_rig(tmp_path, upstream, Options())
    client = await rig.client()
    client.ask()
    assert (await client.message()).status == 200
    assert rig.app._unready() == []
    stopping = asyncio.create_task(rig.app.stop())
    await client.closes()
    await stopping
    client.close()
    await client.writer.wait_closed()
    assert rig.app._unready() == ["the sidecar is shutting down"]
