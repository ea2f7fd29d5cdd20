"""The crew of a parent: who is started, replaced, not waited for, and at whose sockets they accept."""

import asyncio
import signal
from pathlib import Path

import pytest

from sidecar.app.crew import Crew, Member
from sidecar.app.wires import WIRE
from sidecar.core.clock import ManualClock
from sidecar.core.errors import SidecarError, StoreDown
from sidecar.storage import Channel
from tests.gateway.cruel import until


async def _bury(_: Member) -> None:
    return


async def test_a_worker_that_hangs_is_killed_and_one_that_was_late_is_not() -> None:
    """A stopped worker kept its sockets, so a part of all connections hung, and whoever summed usage with them."""
    clock = ManualClock()
    crew = Crew([], Path("link"), [[]], clock, _bury, 1)
    member = crew.members[0]
    process = member.process = await asyncio.create_subprocess_exec("sleep", "60")
    process.send_signal(signal.SIGSTOP)
    member.channel = Channel(WIRE, {})  # nobody answers at its other end
    await crew.serves(member)
    try:
        clock.advance(60)
        for _ in range(9):
            await crew.refresh()
        assert process.returncode is None  # the parent may have stood still
        await crew.serves(member)
        for _ in range(9):
            clock.advance(2)
            await crew.refresh()
        assert process.returncode is None
        for _ in range(3):
            clock.advance(2)
            await crew.refresh()
        async with asyncio.timeout(10):
            # 255 is asyncio's word for a code that another waiter took; a stopped process ends by SIGKILL alone.
            assert await process.wait() in (-signal.SIGKILL, 255)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_worker_that_cannot_start_fails_the_start_and_is_buried_once(tmp_path: Path) -> None:
    buried: list[int] = []

    async def bury(member: Member) -> None:
        buried.append(member.slot)

    crew = Crew(["sh", "-c", "exit 3"], tmp_path / "link", [[]], ManualClock(), bury, 1)
    async with asyncio.timeout(60):
        with pytest.raises(SidecarError, match="ended while it was starting"):
            await crew.start()
    assert (buried, crew.replaced, crew.serving) == ([0], 0, 0)
    await crew.stop(0)


async def test_one_that_served_and_ended_is_replaced_and_what_it_counted_stays(tmp_path: Path) -> None:
    buried: list[int] = []

    async def bury(member: Member) -> None:
        buried.append(member.process is None)

    crew = Crew(["sh", "-c", "exec sleep 60"], tmp_path / "link", [[]], ManualClock(), bury, 1)
    member = crew.members[0]
    crew.begin()
    try:
        await until(lambda: member.process is not None)
        await crew.serves(member)
        first = member.process
        member.kill()
        await until(lambda: member.process is not None and member.process is not first)
        assert (buried, crew.replaced, crew.serving) == ([True], 1, 0)
        assert member.settled.is_set()
        with pytest.raises(StoreDown):
            await member.ask("flush")
        await crew.flush()  # nothing is there to wait for
    finally:
        await crew.stop(0)
    assert crew.stopping


def test_sockets_that_are_left_over_are_shared_out() -> None:
    """After a takeover from more workers than there are now."""
    crew = Crew([], Path("link"), [[], [], [], [], []], ManualClock(), _bury, 2)
    assert [crew.slots_of(member) for member in crew.members] == [[0, 2, 4], [1, 3]]
