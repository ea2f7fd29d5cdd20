"""The parent's side of LimitStore: one book for all workers, by one clock that never goes back."""

from sidecar.core.clock import NS_PER_US, Clock
from sidecar.core.leases import Answer, Ask, Book


class BookStore:
    """LimitStore (core.ports) in this process. A call is decided at once, so it needs no task."""

    def __init__(self, clock: Clock) -> None:
        self._book = Book()
        self._clock = clock

    def decide(self, ask: Ask) -> Answer:
        """As ``lease``. StoreFull."""
        return self._book.lease(ask, self._clock.monotonic_ns() // NS_PER_US)

    async def lease(self, ask: Ask) -> Answer:
        return self.decide(ask)

    async def ready(self) -> None:
        """It always is."""

    async def close(self) -> None:
        """It holds nothing but memory."""
