"""A store of limits that nodes share, in memory, whose network fails on demand."""

import asyncio

from sidecar.core.clock import ManualClock
from sidecar.core.errors import StoreDown
from sidecar.core.leases import Answer, Ask, Book


async def idle() -> None:
    """Lets everything run that waits for nothing."""
    for _ in range(40):
        await asyncio.sleep(0)


class FlakyStore:
    """The book behind switches: ``down`` answers nothing, ``go`` lets a held call on, so many of the next calls, or of
    their answers, are lost. ``asked``: every call that was made."""

    def __init__(self, clock: ManualClock) -> None:
        self.book = Book()
        self.clock = clock
        self.down = False
        self.lose_calls = self.lose_answers = 0
        self.asked: list[Ask] = []
        self.looks = 0
        self.go = asyncio.Event()
        self.go.set()

    @property
    def calls(self) -> int:
        return len(self.asked)

    async def lease(self, ask: Ask) -> Answer:
        self.asked.append(ask)
        await self.go.wait()
        if self.down:
            raise StoreDown("gone")
        if self.lose_calls:
            self.lose_calls -= 1
            raise StoreDown("the call was lost")
        answer = self.book.lease(ask, 10**15 + self.clock.monotonic_ns() // 1000)
        if self.lose_answers:
            self.lose_answers -= 1
            raise StoreDown("the answer was lost")
        return answer

    async def ready(self) -> None:
        self.looks += 1
        if self.down:
            raise StoreDown("gone")

    async def close(self) -> None:
        """It is the test's."""
