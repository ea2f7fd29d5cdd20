"""The ports that a worker has of its parent: the adapters at the worker's end of the link."""

from collections.abc import Mapping, Sequence

from sidecar.core.accounts import Account
from sidecar.core.batches import Batch
from sidecar.core.credits import Book, Grant, Share
from sidecar.core.leases import Answer, Ask
from sidecar.core.ports import Position
from sidecar.core.values import ApiKey, Tenant
from sidecar.storage.link.channel import Channel

LEASE_S = 0.25  # the parent decides in microseconds; it may be busy writing the ledger
_PIECE = 4 * 1024 * 1024  # bytes of records in one frame


class LinkLimitStore:
    """LimitStore (core.ports): the parent counts."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def lease(self, ask: Ask) -> Answer:
        answer: Answer = await self._channel.call("lease", ask, timeout_s=LEASE_S)
        return answer

    async def ready(self) -> None:
        await self._channel.call("ping", timeout_s=LEASE_S)

    async def close(self) -> None:
        """The channel is closed by whoever opened it."""


class LinkStore:
    """Lookups, JournalSink (core.ports) and AccountSource (core.accounts): the parent reads and writes."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._acknowledged = Position()

    async def tenant(self, name: str) -> Tenant | None:
        found: Tenant | None = await self._channel.call("tenant", name)
        return found

    async def key(self, key_id: str) -> ApiKey | None:
        found: ApiKey | None = await self._channel.call("key", key_id)
        return found

    async def keys_version(self) -> int:
        return int(await self._channel.call("keys_version"))

    async def account(self, tenant: str) -> Account | None:
        found: Account | None = await self._channel.call("account", tenant)
        return found

    async def meter_total(self, tenant: str, meter: str, *, since_us: int, until_us: int, sandbox: bool) -> int:
        """With what every worker has in its journal."""
        return int(await self._channel.call("meter_total", tenant, meter, since_us, until_us, sandbox, timeout_s=30.0))

    async def credit(self, tenant: str) -> tuple[Book | None, list[Grant]]:
        """As of CreditStore (core.credit_store)."""
        book, grants = await self._channel.call("credit", tenant)
        return book, list(grants)

    async def settle_credits(
        self, book: Book, burned: Mapping[str, int], *, if_until: int | None, shares: Sequence[Share] = ()
    ) -> bool:
        """As of CreditStore."""
        return bool(await self._channel.call("settle_credits", book, dict(burned), if_until, list(shares)))

    async def position(self) -> Position:
        found: Position = await self._channel.call("position")
        self._acknowledged = found
        return found

    async def append(self, records: Sequence[bytes], position: Position) -> int:
        """As of JournalSink. In pieces: the position moves with the last one, and what the ledger has already when that
        fails is ignored the next time."""
        new, piece, size = 0, Batch(), 0
        for text, count in Batch.of(records).gathered():
            if size + len(text) > _PIECE and piece:
                new += await self._append(piece, self._acknowledged)
                piece, size = Batch(), 0
            piece.add(text, count)
            size += len(text)
        new += await self._append(piece, position)
        self._acknowledged = position
        return new

    async def _append(self, records: Batch, position: Position) -> int:
        return int(await self._channel.call("append", records, position, timeout_s=None))

    async def rejected(self) -> int:
        return int(await self._channel.call("rejected"))

    async def forget_events(self, *, before_us: int, at_most: int) -> int:
        return int(await self._channel.call("forget_events", before_us, at_most, timeout_s=None))

    async def forget_sums(self, *, minutes_before_us: int, hours_before_us: int, at_most: int) -> int:
        """As of JournalSink."""
        asked = minutes_before_us, hours_before_us, at_most
        return int(await self._channel.call("forget_sums", *asked, timeout_s=None))
