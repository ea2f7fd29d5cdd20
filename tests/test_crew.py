"""The crew of a parent: a worker that hangs is not waited for."""

import asyncio
import signal
from pathlib import Path

from sidecar.app.crew import Crew, Member
from sidecar.app.wires import WIRE
from sidecar.core.clock import ManualClock
from sidecar.storage import Channel


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
