"""Accounts in money, read from the store for whoever decides calls."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from sidecar.core.clock import Clock
from sidecar.core.credits import Book, Grant, Share
from sidecar.core.spend import SpendState, SpendTerms
from sidecar.metering import Use, spend_state


class SpendSource(Protocol):
    """What it takes of a store."""

    async def meter_total(self, tenant: str, meter: str, *, since_us: int, until_us: int, sandbox: bool) -> int: ...

    async def credit(self, tenant: str) -> tuple[Book | None, list[Grant]]: ...

    async def settle_credits(
        self, book: Book, burned: Mapping[str, int], *, if_until: int | None, shares: Sequence[Share] = ()
    ) -> bool: ...


class SpendReading:
    """``flush`` waits until the ledger holds every call that has ended."""

    def __init__(self, store: SpendSource, clock: Clock, flush: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._clock = clock
        self._flush = flush

    async def read(self, tenant: str, terms: SpendTerms) -> SpendState:
        """What the ledger says now; burns of periods that are long over are settled on the way. StoreError."""
        await self._flush()
        store = self._store

        async def total(tenant: str, meter: str, since_us: int, until_us: int, sandbox: bool) -> int:
            return await store.meter_total(tenant, meter, since_us=since_us, until_us=until_us, sandbox=sandbox)

        book, grants = await store.credit(tenant) if terms.prepaid else (None, [])
        grants = [grant for grant in grants if grant.currency == terms.tariff.currency]
        state, burns = await spend_state(Use(tenant, terms, total), terms, (book, grants), self._clock.wall_ns())
        if burns.settle is not None:
            settled, burned, shares = burns.settle
            until = None if book is None else book.until
            await store.settle_credits(settled, burned, if_until=until, shares=shares)
        return state
