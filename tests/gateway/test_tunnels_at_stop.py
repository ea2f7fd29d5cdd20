"""Tunnels that are open when the drain time is over: both sides are told 1001 (RFC 6455, 7.4.1)."""

import pytest

from tests.gateway.cruel import until
from tests.gateway.rig import Rig
from tests.gateway.test_tunnels_barred import close, unmasked
from tests.gateway.test_websockets import tunnel

AWAY = close(b"", b"\x03\xe9")
MASKED = b"\x81\x85\x00\x00\x00\x00hello"


async def test_both_sides_are_told_and_the_call_is_recorded(rig: Rig) -> None:
    ends = await tunnel(rig)
    ends.client.send(MASKED)
    await ends.wire.read(len(MASKED))
    await rig.app.stop()
    assert await ends.client.rest() == AWAY
    assert unmasked(await ends.wire.rest()) == AWAY
    await rig.app.start()
    entry = await rig.only_entry()
    assert (entry.status, entry.outcome, entry.bytes_in) == (101, "ok", len(MASKED))


@pytest.mark.parametrize("cut", [1, 3, 6, 9])
async def test_frames_under_way_are_finished_first(rig: Rig, cut: int) -> None:
    """Both ways; nothing behind them passes."""
    ends = await tunnel(rig)
    down = b"\x81\x7e\x00\x80" + bytes(128)
    ends.client.send(MASKED[:cut])
    ends.wire.send(down[:cut])
    assert (await ends.wire.read(cut), await ends.client.read(cut)) == (MASKED[:cut], down[:cut])
    for one in list(rig.lane.tunnels):
        one.go_away()
    ends.client.send(MASKED[cut:] + MASKED)
    ends.wire.send(down[cut:] + down)
    assert await ends.client.rest() == down[cut:] + AWAY
    up = await ends.wire.rest()
    assert up[: len(MASKED) - cut] == MASKED[cut:]
    assert unmasked(up[len(MASKED) - cut :]) == AWAY
    assert (await rig.only_entry()).outcome == "ok"


async def test_whoever_does_not_end_a_frame_is_not_waited_for(rig: Rig) -> None:
    """A second of the loop's own time."""
    ends = await tunnel(rig)
    ends.wire.send(b"\x81\x05he")
    assert await ends.client.read(4) == b"\x81\x05he"
    await rig.app.stop()
    assert await ends.client.rest() == b""
    await rig.app.start()
    assert (await rig.only_entry()).outcome == "ok"


async def test_a_client_that_has_ended_its_side_is_told_all_the_same(rig: Rig) -> None:
    ends = await tunnel(rig)
    ends.client.half_close()
    assert await ends.wire.rest() == b""
    for one in list(rig.lane.tunnels):
        one.go_away()
    assert await ends.client.rest() == AWAY
    ends.wire.close()
    await until(lambda: not rig.lane.tunnels)
