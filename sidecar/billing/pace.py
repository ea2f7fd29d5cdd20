"""At most so many calls per second, and so many at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import TypeVar

from sidecar.core.clock import NS_PER_S, Clock

AT_ONCE = 8  # readings under way: an answer takes a fifth of a second, and 15 a second may be asked for
_T = TypeVar("_T")


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


async def together(calls: Iterable[Awaitable[_T]]) -> list[_T]:
    """What they return, AT_ONCE of them under way at a time. One that fails ends this with its error, after those that
    were under way with it."""
    waiting, found = iter(calls), list[_T]()
    while some := list(islice(waiting, AT_ONCE)):
        ended = await asyncio.gather(*some, return_exceptions=True)
        for one in ended:
            if isinstance(one, BaseException):
                raise one
            found.append(one)
    return found
