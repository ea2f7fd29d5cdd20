"""The pools of the upstreams in force, and those that a reload has taken out of force and whose calls still end."""

import asyncio
import contextlib

from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.policy import Snapshot
from sidecar.metering import CostModel
from sidecar.upstream import HealthChecks, UpstreamPool

# A pool that has left is kept, so that its calls time out, for so long after its last connection: a call that began
# before the reload may still wait for its turn. Beyond so many idle ones the oldest go first.
_LINGER_NS = 300 * NS_PER_S
_MAX_IDLE = 64  # 2 MiB


class Pools:
    """Pools by upstream. An upstream that a reload leaves as it is keeps its pool: connections, breaker and health."""

    def __init__(self, clock: Clock) -> None:
        self.current: dict[str, UpstreamPool] = {}
        self._clock = clock
        self._leaving: dict[UpstreamPool, int] = {}  # to the monotonic time of its last connection
        self._checks: asyncio.Task[None] | None = None

    def planned(self, snapshot: Snapshot) -> dict[str, UpstreamPool]:
        """The pools that ``snapshot`` needs; new ones have no connection yet."""
        private = CostModel(snapshot.costs).private
        planned = {}
        for name, upstream in snapshot.upstreams.items():
            old = self.current.get(name)
            keep = old is not None and old.upstream == upstream and old.private == private
            planned[name] = old if keep and old is not None else UpstreamPool(upstream, self._clock, private)
        return planned

    def use(self, planned: dict[str, UpstreamPool]) -> None:
        """Brings ``planned`` into force. The others close their idle connections now and the rest as calls end."""
        old, self.current = self.current, planned
        for pool in old.values():
            if pool is not planned.get(pool.upstream.name):
                pool.close()
                self._leaving[pool] = self._clock.monotonic_ns()
        if old.keys() != planned.keys() or any(pool is not planned[name] for name, pool in old.items()):
            if self._checks is not None:
                self._checks.cancel()
            self._checks = asyncio.ensure_future(HealthChecks(list(planned.values())).run())

    def sweep(self, now_ns: int) -> None:
        """Ends what is overdue; called every half second."""
        for pool in self.current.values():
            pool.sweep(now_ns)
        for pool in list(self._leaving):
            pool.sweep(now_ns)
            if any(target.outstanding for target in pool.targets):
                self._leaving[pool] = now_ns
        idle = [pool for pool, last_ns in self._leaving.items() if last_ns != now_ns]
        for pool in idle:
            if now_ns - self._leaving[pool] >= _LINGER_NS or len(idle) > _MAX_IDLE:
                del self._leaving[pool]
                idle = idle[1:]

    async def close(self) -> None:
        """Closes every connection."""
        if self._checks is not None:
            self._checks.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._checks
        for pool in (*self.current.values(), *self._leaving):
            pool.abort()
