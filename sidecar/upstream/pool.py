"""The pool of one upstream: who gets the next request, and who waits.

Bounds: ``max_connections`` per target; ``max_waiting`` requests wait for one per upstream, the next is refused (503).
"""

import asyncio
import ssl
from collections import deque
from random import Random

from sidecar.core.clock import Clock
from sidecar.core.errors import UpstreamError
from sidecar.core.upstreams import Upstream, UpstreamTls
from sidecar.upstream.balancing import Draw, Lots, is_lighter
from sidecar.upstream.budget import RetryBudget
from sidecar.upstream.connection import UpstreamConnection
from sidecar.upstream.target import TargetPool, TargetReading


class UpstreamPool:
    """An upstream: picks among its targets that are up, by the power of two choices (upstream.balancing).

    ``private``: lower-case names of reply fields that are for us and do not cross. ``draw``: chance, for tests.
    """

    __slots__ = (
        "_draw",
        "_lots",
        "_single",
        "_up",
        "_waiters",
        "budget",
        "closing",
        "private",
        "targets",
        "tls",
        "upstream",
    )

    def __init__(
        self, upstream: Upstream, clock: Clock, private: frozenset[bytes] = frozenset(), draw: Draw | None = None
    ) -> None:
        self.upstream = upstream
        self.private = private
        self._draw: Draw = draw or Random().randrange  # noqa: S311 - balances load, guards nothing
        self.budget = RetryBudget(upstream.retries, clock)
        self._waiters: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self.closing = False
        https = any(target.scheme == "https" for target in upstream.targets)
        # One for all targets: reading the system's authorities takes 20 ms.
        self.tls: ssl.SSLContext | None = (upstream.tls or UpstreamTls()).context() if https else None
        self.targets = [TargetPool(self, target, clock) for target in upstream.targets]
        self._single: TargetPool | None = None
        self._up: list[TargetPool] = []
        self._lots: Lots | None = None
        self.regroup()

    def regroup(self) -> None:
        """A target went up or down."""
        self._up = up = [target for target in self.targets if target.up]
        self._single = self.targets[0] if len(self.targets) == len(up) == 1 else None
        self._lots = Lots([target.target.weight for target in up]) if up else None

    def pick(self) -> TargetPool | None:
        """Whose turn it is; None when all are down. A target whose breaker wants a probe comes first, once."""
        if self._single is not None:
            return self._single
        if len(self._up) < len(self.targets):
            for target in self.targets:
                if target.due and target.breaker.allows():
                    return target
        lots = self._lots
        if lots is None:
            return None
        first, second = lots.pair(self._draw)
        one, other = self._up[first], self._up[second]
        weights = lots.weights
        return other if is_lighter(other.outstanding, weights[second], one.outstanding, weights[first]) else one

    async def acquire(
        self, *, fresh: bool = False, picked: TargetPool | None = None
    ) -> tuple[TargetPool, UpstreamConnection]:
        """A connection, opened or waited for when needed; ``picked`` is whose turn it is.

        Where none can be made, other targets are tried, since nothing was sent. UpstreamError: connect,
        connect_timeout, busy or open.
        """
        tried: list[TargetPool] = []
        target = picked
        while True:
            if target is None:
                target = self.pick()
            if target is None:
                self.room_made()  # whoever else waits would wait for nothing
                raise UpstreamError("open", f"upstream {self.upstream.name} is not available")
            probe = not target.up  # nobody else is sent to one that is down
            if not fresh and (connection := target.take()) is not None:
                target.probe = connection if probe else target.probe
                return target, connection
            if not target.full:
                try:
                    connection = await target.open(probe=probe)
                    target.probe = connection if probe else target.probe
                    return target, connection
                except UpstreamError:
                    tried.append(target)
                    target = self._other(tried)
                    if target is None:
                        raise
                    target.retried("connect")
                    continue
            if probe:
                target.breaker.let_go()  # no probe while it waits
            if fresh and target.idle:
                target.idle.pop(0)[0].close()  # makes room for it
                target = None
            elif (target := self._roomy()) is not None:
                continue
            handed = await self._wait()
            if handed is None or handed.closed:
                continue
            for owner in self.targets:
                if handed in owner.connections:
                    return owner, handed

    def may_retry(self) -> bool:
        """Whether the budget has a retry left; takes it."""
        return self.budget.take(self._requests())

    def may_leave_alone(self, target: TargetPool, *, unreached: bool) -> bool:
        """Whether its breaker may open. The last one that gets calls keeps them unless it takes no connections: a bad
        reply now and then is better than none (decision 23)."""
        if not unreached and not any(other.up for other in self.targets if other is not target):
            return False
        most = max(1, len(self.targets) * self.upstream.breaker.share // 100)
        return sum(not one.breaker.closed for one in self.targets) < most

    def sweep(self, now_ns: int) -> None:
        """Called every half second."""
        self.budget.roll(self._requests())
        for target in self.targets:
            target.sweep(now_ns)

    def close(self) -> None:
        """Closes idle connections now and the others as they end."""
        self.closing = True
        for target in self.targets:
            target.close_idle()

    def abort(self) -> None:
        """Closes every connection."""
        self.closing = True
        for target in self.targets:
            target.abort()

    @property
    def available(self) -> bool:
        """Whether any target may be asked, be it by a probe."""
        return bool(self._up) or any(target.due for target in self.targets)

    def readings(self) -> list[TargetReading]:
        """One reading per target."""
        return [
            TargetReading(
                self.upstream.name,
                str(target.target),
                target.up or target.due,
                target.breaker.word,
                target.outstanding,
                len(target.idle),
                len(self._waiters),
                dict(target.failures),
                tuple(target.replies),
                dict(target.retries),
            )
            for target in self.targets
        ]

    def hand_to_waiter(self, connection: UpstreamConnection) -> bool:
        """Gives a connection that became free to the request that has waited longest."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    def room_made(self) -> None:
        """A connection went away: the longest waiting request may open another."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _other(self, tried: list[TargetPool]) -> TargetPool | None:
        """The least loaded target that was not tried, while attempts and the budget last."""
        rest = [target for target in self._up if target not in tried and not target.full]
        if not rest or len(tried) > self.upstream.retries.attempts or not self.may_retry():
            return None
        return min(rest, key=lambda target: target.outstanding / target.target.weight)

    def _roomy(self) -> TargetPool | None:
        """A target that is up and has room, where the one that was picked is full."""
        rest = [target for target in self._up if target.idle or not target.full]
        return min(rest, key=lambda target: target.outstanding / target.target.weight, default=None)

    def _requests(self) -> int:
        return sum(sum(target.replies) for target in self.targets)

    async def _wait(self) -> UpstreamConnection | None:
        if len(self._waiters) >= self.upstream.max_waiting:
            raise UpstreamError("busy", f"upstream {self.upstream.name} is at its capacity")
        waiter: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            wait_ns = self.upstream.queue_timeout_ns or self.upstream.first_byte_timeout_ns
            async with asyncio.timeout(wait_ns / 1e9):
                return await waiter
        except TimeoutError:
            self._pass_on(waiter)
            raise UpstreamError("busy", f"upstream {self.upstream.name} is at its capacity") from None
        except asyncio.CancelledError:
            self._pass_on(waiter)
            raise

    def _pass_on(self, waiter: "asyncio.Future[UpstreamConnection | None]") -> None:
        """What was given to a request that no longer waits."""
        if waiter.done() and not waiter.cancelled():
            handed = waiter.result()
            if handed is None:
                self.room_made()
            else:
                handed.close()  # its end makes room
