"""A new configuration in the place of the one in force: whole or not at all, one after the other."""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from hashlib import sha256

from sidecar.admin import ReloadReading
from sidecar.config import Configuration
from sidecar.core.clock import NS_PER_S
from sidecar.core.errors import Conflict, SidecarError
from sidecar.core.policy import Snapshot

_LOOK_S = 1.0  # while the files are not watched: how soon a reload that says so is noticed
_log = logging.getLogger("sidecar")


class Reloads:
    """Reads ``configuration`` again and gives it to ``take``, which raises SidecarError or brings it into force."""

    def __init__(
        self,
        configuration: Configuration | None,
        take: Callable[[Snapshot], Awaitable[None]],
        current: Callable[[], Snapshot],
    ) -> None:
        self._configuration = configuration
        self._take = take
        self._current = current
        self._turn = asyncio.Lock()
        self._reading = ReloadReading()
        self._digest: tuple[Snapshot, str] | None = None

    async def now(self) -> str:
        """Reloads; the digest of what is in force then. SidecarError: nothing has changed, and why."""
        configuration = self._configuration
        if configuration is None:
            raise Conflict("this process was started without a configuration that could be read again")
        async with self._turn:
            try:
                snapshot = await asyncio.to_thread(configuration.load, self._current())
                await self._take(snapshot)
            except Exception as error:
                self._reading = self._reading.refused_once()
                _log.error("the configuration was refused, the last good one stays in force:\n%s", error)
                if isinstance(error, SidecarError):
                    raise
                _log.exception("a reload failed")
                raise SidecarError("the reload failed; the log says why") from error
            finally:
                # Rules and pools hold one another. The process lets the collector look rarely (see serve), so what a
                # reload leaves behind, 12 KiB and more, would pile up: 12 MiB in 1,000 reloads.
                gc.collect()
            self._reading = self._reading.taken_once()
            digest = self.digest()
        _log.info("the configuration was reloaded: policy %s", digest)
        return digest

    async def attempt(self) -> None:
        """As ``now``, for whoever waits for no answer: the log and the metrics have it."""
        try:
            await self.now()
        except SidecarError:
            return

    async def watch(self) -> None:
        """Reloads when the files have changed, until cancelled."""
        configuration = self._configuration
        if configuration is None:
            return
        while True:
            watch_ns = self._current().settings.watch_ns
            await asyncio.sleep(watch_ns / NS_PER_S or _LOOK_S)
            if watch_ns and not self._turn.locked() and await asyncio.to_thread(configuration.settled):
                await self.attempt()

    def reading(self) -> ReloadReading:
        """For the metrics."""
        return self._reading

    def digest(self) -> str:
        """Tells the policies in force from others: of routes and plans, 12 characters."""
        snapshot = self._current()
        if self._digest is None or self._digest[0] is not snapshot:
            self._digest = snapshot, sha256(repr((snapshot.routes, snapshot.plans)).encode()).hexdigest()[:12]
        return self._digest[1]


def same_callers(old: Snapshot, new: Snapshot) -> bool:
    """Whether every caller remains who it is and keeps its quotas, so that what is known of it may stay."""
    return old.tenants == new.tenants and _quotas(old) == _quotas(new)


def _quotas(snapshot: Snapshot) -> list[object]:
    plans = snapshot.plans.items()
    return [(name, p.quotas, p.test_keys, p.price, p.spend_cap, p.prepaid) for name, p in plans]
