"""What goes wrong. A new kind is one function and one line in FAULTS; those of a store stand with the store."""

import asyncio
import signal
from contextlib import suppress

import psutil

from tests.chaos.fault import Fault
from tests.chaos.stage import Stage


async def kill(stage: Stage) -> dict[str, int]:
    """kill -9 at a random instant."""
    await stage.kill()
    await stage.start()
    return {"kill": 1}


async def kill_at_start(stage: Stage) -> dict[str, int]:
    """kill -9, and again at random instants of the next starts: imports, recovery, first calls."""
    faults = {"kill": 1, "kill at start": stage.rng.randint(1, 3)}
    await stage.kill()
    for _ in range(faults["kill at start"]):
        stage.sidecar.launch()
        if stage.rng.random() < 0.5:
            await asyncio.sleep(stage.rng.uniform(0.0, 0.9))
        else:  # around the moment at which it is ready, whatever the machine's speed
            await stage.sidecar.ready()
            await asyncio.sleep(stage.rng.uniform(0.0, 0.02))
        await stage.kill()
    await stage.start()
    return faults


async def kill_worker(stage: Stage) -> dict[str, int]:
    """kill -9 of one of several workers; the parent ships its journal and starts another."""
    crew = stage.sidecar.workers()
    if not crew:
        return {}
    stage.load.book.killed()
    with suppress(psutil.NoSuchProcess):  # the parent saw it end in this moment
        stage.rng.choice(crew).kill()
    return {"worker kill": 1}


async def term(stage: Stage) -> dict[str, int]:
    """SIGTERM; calls under way have a second to end."""
    code = await stage.stop()
    if code:
        stage.violations.append(f"the sidecar ended with {code} after SIGTERM")
    await stage.start()
    return {"term": 1}


async def term_and_kill(stage: Stage) -> dict[str, int]:
    """SIGTERM, and kill -9 while it drains."""
    stage.load.book.killed()
    stage.sidecar.signal(signal.SIGTERM)
    await asyncio.sleep(stage.rng.uniform(0.0, 1.2))
    await stage.kill()
    await stage.start()
    return {"term": 1, "kill": 1}


async def stop(stage: Stage) -> dict[str, int]:
    """SIGSTOP for a moment."""
    stage.sidecar.signal(signal.SIGSTOP)
    await asyncio.sleep(stage.rng.uniform(0.005, 0.4))
    stage.sidecar.signal(signal.SIGCONT)
    return {"stop": 1}


async def stop_and_kill(stage: Stage) -> dict[str, int]:
    """kill -9 while it is stopped: clients have sent what it never read."""
    stage.sidecar.signal(signal.SIGSTOP)
    await asyncio.sleep(stage.rng.uniform(0.005, 0.4))
    await stage.kill()
    await stage.start()
    return {"stop": 1, "kill": 1}


async def disk_full(stage: Stage) -> dict[str, int]:
    """No room for a while."""
    await stage.fill()
    await asyncio.sleep(stage.rng.uniform(0.2, 1.5))
    stage.watch()
    await stage.empty()
    return {"disk full": 1}


async def disk_full_and_kill(stage: Stage) -> dict[str, int]:
    """kill -9 on a full disk. A start must get on with what the journal holds, at the latest when there is room."""
    await stage.fill()
    await asyncio.sleep(stage.rng.uniform(0.0, 0.8))
    await stage.kill()
    await stage.start(must=False)
    await stage.empty()
    await stage.start()
    return {"disk full": 1, "kill": 1}


def _has_workers(stage: Stage) -> bool:
    return stage.plan.workers > 1


def _has_disk(stage: Stage) -> bool:
    return stage.disk is not None


FAULTS = (
    Fault("kill", 10, kill),
    Fault("kill_at_start", 4, kill_at_start),
    Fault("kill_worker", 10, kill_worker, _has_workers),
    Fault("term", 1, term),
    Fault("term_and_kill", 2, term_and_kill),
    Fault("stop", 2, stop),
    Fault("stop_and_kill", 3, stop_and_kill),
    Fault("disk_full", 2, disk_full, _has_disk),
    Fault("disk_full_and_kill", 2, disk_full_and_kill, _has_disk),
)
