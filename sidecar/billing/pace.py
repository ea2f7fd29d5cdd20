"""At most so many calls per second."""

import asyncio
from collections.abc import Awaitable, Callable

from sidecar.core.clock import NS_PER_S, Clock


class Pace:
    """A bucket of one token: calls are ``1 / rate`` seconds apart, in the order in which they were asked for."""

    def __init__(self, rate: int, clock: Clock, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        if rate < 1:
            raise ValueError("a rate is at least 1 per second")
        self._apart_ns = -(-NS_PER_S // rate)
        self._clock = clock
        self._sleep = sleep
        self._next_ns: int | None = None

    async def wait(self) -> None:
        """Returns when the next call may go out."""
        now = self._clock.monotonic_ns()
        at = now if self._next_ns is None else max(now, self._next_ns)
        self._next_ns = at + self._apart_ns
        if at > now:
            await self._sleep((at - now) / NS_PER_S)
