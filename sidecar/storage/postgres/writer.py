"""The one connection that writes the ledger: it holds the journal's lock, and its batches are done one at a time."""

import asyncio
import logging
from collections.abc import Sequence

from sidecar.core.errors import StoreLocked
from sidecar.core.ports import Position
from sidecar.storage.postgres import entries, moves, retention, schema
from sidecar.storage.postgres.address import Address
from sidecar.storage.postgres.connection import INGEST, Connection, Link, make_durable
from sidecar.storage.postgres.texts import stored

_TIMEOUT_S = 60.0
_TAKE_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('sidecar.journal/' || $1::text, 0))"
# A connection that broke may be alive on the server for as long as its network thinks so, and hold the lock.
_END_FORMER = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"
_BACKEND = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_ADD_JOURNAL = "INSERT INTO sidecar.journal_positions VALUES ($1, 0, 0) ON CONFLICT (journal) DO NOTHING"
_LOCK_TRIES = 20
_LOCK_PAUSE_S = 0.1
_log = logging.getLogger("sidecar.storage")


class Writer:
    """Used on one event loop."""

    def __init__(self, address: Address, journal: str) -> None:
        self._address = address
        self._journal = stored(journal)
        self._link = Link(
            address, f"sidecar {journal} writer", timeout_s=_TIMEOUT_S, prepare=self._prepare, plans="auto"
        )
        self._backend: tuple[object, object] | None = None  # process and start of the connection that has the lock
        self._acknowledged: Position | None = None
        self._attempted: Position | None = None

    async def open(self) -> None:
        """Connects and takes the lock. StoreLocked, StoreError."""
        await self._link.connect()

    async def close(self) -> None:
        await self._link.close()

    async def append(self, records: Sequence[bytes], position: Position) -> int:
        """Once a day there is no partition for tomorrow yet: the batch is begun again after making it."""
        try:
            new = await self._append(records, position, any_day=False)
        except entries.MissingPartitions as missing:
            async with self._link.transaction(INGEST) as connection:
                await entries.make_partitions(connection, missing.days)
            new = await self._append(records, position, any_day=True)
        self._acknowledged = position
        return new

    async def _append(self, records: Sequence[bytes], position: Position, *, any_day: bool) -> int:
        async with self._link.transaction(INGEST) as connection:
            self._check_place(await entries.position(connection, self._journal, locked=True))
            self._attempted = position
            return await entries.append(connection, self._journal, records, position, any_day=any_day)

    async def forget_events(self, before_us: int, at_most: int) -> int:
        gone = 0
        while gone < at_most:
            async with self._link.transaction(INGEST) as connection:
                dropped = await retention.drop_oldest(connection, before_us)
            if dropped is None:
                break
            gone += dropped
        if gone < at_most:
            async with self._link.transaction(INGEST) as connection:
                gone += await retention.forget_stragglers(connection, before_us, at_most - gone)
        return gone

    async def forget_sums(self, minutes_before_us: int, hours_before_us: int, at_most: int) -> int:
        async with self._link.transaction(INGEST) as connection:
            return await retention.forget_sums(connection, minutes_before_us, hours_before_us, at_most)

    def _check_place(self, found: Position) -> None:
        """StoreLocked when somebody else moved this journal's position, as the owner of a copied data folder would.

        A commit whose answer was lost has moved it to where it was going. A position further back is a server that was
        restored or failed over without its last commits; those events are gone from it, and going on loses no more.
        """
        known = self._acknowledged
        if known is None or found in (known, self._attempted):
            return
        if found > known:
            raise StoreLocked(
                f"PostgreSQL at {self._address}: another process ships the journal {self._journal!r}; give each "
                "installation a data folder of its own"
            )
        _log.error("the ledger has lost what it had acknowledged: the journal is at %s there, was %s", found, known)

    async def _prepare(self, connection: Connection) -> None:
        await schema.check(connection, self._address)
        await self._take_lock(connection)
        async with connection.transaction():
            await connection.execute(f"SET LOCAL ROLE {INGEST}")
            await moves.refuse_unfinished(connection, self._address)
            await connection.execute(entries.TEMPORARY)
            await connection.execute(_ADD_JOURNAL, self._journal)
        await make_durable(connection)

    async def _take_lock(self, connection: Connection) -> None:
        if self._backend is not None:
            await connection.execute(_END_FORMER, *self._backend)
        for attempt in range(_LOCK_TRIES):
            if await connection.fetchval(_TAKE_LOCK, self._journal):
                backend = await connection.fetchrow(_BACKEND)
                self._backend = backend["pid"], backend["backend_start"]
                return
            if self._backend is None:
                break
            await asyncio.sleep(_LOCK_PAUSE_S * (attempt < _LOCK_TRIES - 1))
        raise StoreLocked(f"PostgreSQL at {self._address}: another process ships the journal {self._journal!r}")
