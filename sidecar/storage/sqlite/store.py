"""The adapter: three connections to one file, each on its own thread, behind the ports' methods."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sidecar.core.errors import StoreError
from sidecar.core.ports import EventPage, JournalSink, Position, UsageQuery, UsageReport, UsageRow
from sidecar.core.values import AccessState, ApiKey, Tenant, Terms
from sidecar.storage.sqlite import assigning, entries, events, lock, moves, retention, schema, sums, tables, tenants
from sidecar.storage.sqlite.billing import SqliteBilling
from sidecar.storage.sqlite.connection import ConnectionThread

_WRITER_NICENESS = 5  # on one busy core the lane gets three times the writer's share, which is enough to keep up


class SqliteStore(SqliteBilling):
    """``TenantStore``, ``Ledger`` (core.ports) and ``BillingStore``, whose docstrings hold here.

    One connection writes. One read-only connection answers look-ups by id, one long reports, so that neither waits
    for a batch or for the other; a read-only connection never checkpoints. All see a commit as soon as it is done.
    """

    def __init__(self, path: Path, *, readonly: bool, moving: bool, busy_timeout_ms: int) -> None:
        self._path = path
        self._lock: int | None = None
        self._threads: list[ConnectionThread] = []
        self._busy_timeout_ms = busy_timeout_ms
        self._writer: ConnectionThread | None = None
        schema.check_library()
        try:
            if (readonly or moving) and not path.exists():
                raise StoreError(f"the database {path} does not exist")
            if not readonly:
                self._open_writer(moving=moving)
            self._lookups = self._connect("lookups")
            self._lookups.call(schema.check, path)
            self._reports = self._connect("reports")
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(
        cls, path: Path, *, readonly: bool = False, moving: bool = False, busy_timeout_ms: int = 5000
    ) -> "SqliteStore":
        """Opens the file, which is made with its folder (0600, 0700) and migrated unless ``readonly``. Blocks.

        ``moving``: for taking what is there to another store; it must be there. A file that was moved is refused to
        others that would write, and a move that was begun is given up for them.

        ``busy_timeout_ms``: how long a foreign program's lock is waited for. StoreLocked when another process writes
        here; StoreError, naming the file, for everything else that is wrong with it.
        """
        return cls(path, readonly=readonly, moving=moving, busy_timeout_ms=busy_timeout_ms)

    def close(self) -> None:
        """Waits for what was asked for, closes and lets go of the lock. Blocks."""
        while self._threads:
            self._threads.pop().close()  # the writer last: it is the one that may checkpoint
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open_writer(self, *, moving: bool) -> None:
        path = self._path
        if path.is_dir():
            raise StoreError(f"the database {path} is a directory")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the folder {path.parent} cannot be made: {error.strerror}") from error
        self._lock = lock.take(path)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreError(f"the database {path} cannot be opened for writing: {error.strerror}") from error
        self._writer = self._connect("writer", writable=True)
        self._writer.call(schema.migrate, path)
        self._writer.call(assigning.name_books)
        if not moving:
            self._writer.call(moves.enter, path)

    def _connect(self, name: str, *, writable: bool = False) -> ConnectionThread:
        niceness = _WRITER_NICENESS if writable else 0
        timeout = self._busy_timeout_ms
        thread = ConnectionThread(self._path, name, writable=writable, busy_timeout_ms=timeout, niceness=niceness)
        self._threads.append(thread)
        return thread

    @property
    def _writing(self) -> ConnectionThread:
        if self._writer is None:
            raise StoreError(f"the database {self._path} was opened to be read only")
        return self._writer

    # TenantStore ------------------------------------------------------------------------------------------------------

    async def tenant(self, name: str) -> Tenant | None:
        return await self._lookups.run(tenants.tenant, name)

    async def tenants(self, *, after: str = "", limit: int = 100) -> list[Tenant]:
        return await self._reports.run(tenants.tenants, after, limit)

    async def add_tenant(self, tenant: Tenant, *, actor: str) -> None:
        await self._writing.run(tenants.add_tenant, tenant, actor)

    async def set_tenant(
        self,
        name: str,
        *,
        plan: str | None = None,
        state: AccessState | None = None,
        terms: Terms | None = None,
        actor: str,
        at_ns: int,
    ) -> Tenant:
        return await self._writing.run(tenants.set_tenant, name, plan, state, terms, actor, at_ns)

    async def key(self, key_id: str) -> ApiKey | None:
        return await self._lookups.run(tenants.key, key_id)

    async def keys(self, tenant: str, *, after: str = "", limit: int = 100) -> list[ApiKey]:
        return await self._reports.run(tenants.keys, tenant, after, limit)

    async def add_key(self, key: ApiKey, *, actor: str) -> None:
        await self._writing.run(tenants.add_key, key, actor)

    async def end_key(self, key_id: str, *, at_ns: int, revoked: bool, actor: str) -> ApiKey:
        return await self._writing.run(tenants.end_key, key_id, at_ns, revoked, actor)

    async def keys_version(self) -> int:
        return await self._lookups.run(tenants.keys_version)

    # Ledger -----------------------------------------------------------------------------------------------------------

    async def position(self) -> Position:
        return await self._lookups.run(entries.position)

    async def append(self, records: Sequence[bytes], position: Position) -> int:
        return await self._writing.run(entries.append, records, position)

    async def rejected(self) -> int:
        return await self._lookups.run(entries.rejected)

    async def usage(self, tenant: str, *, since_us: int, until_us: int) -> UsageReport:
        return await self._reports.run(sums.usage, tenant, since_us, until_us)

    async def usage_rows(self, query: UsageQuery) -> list[UsageRow]:
        return await self._reports.run(sums.usage_rows, query)

    async def meter_total(self, tenant: str, meter: str, *, since_us: int, until_us: int, sandbox: bool) -> int:
        return await self._reports.run(sums.meter_total, tenant, meter, since_us, until_us, sandbox)

    async def events(
        self, *, tenant: str | None, since_us: int, until_us: int, after: str | None, limit: int
    ) -> EventPage:
        return await self._reports.run(events.events, tenant, since_us, until_us, after, limit)

    async def forget_events(self, *, before_us: int, at_most: int) -> int:
        return await self._writing.run(retention.forget_events, before_us, at_most)

    async def forget_sums(self, *, minutes_before_us: int, hours_before_us: int, at_most: int) -> int:
        return await self._writing.run(retention.forget_sums, minutes_before_us, hours_before_us, at_most)

    def sink(self, journal: int) -> JournalSink:
        """Where another journal of this installation is shipped to, by its number; 0 is this store's own."""
        return _Sink(self, self._lookups, self._writing, journal)

    # Moving to another store ------------------------------------------------------------------------------------------

    async def copy_rows(self, table: str, after: tuple[Any, ...], limit: int) -> list[tuple[Any, ...]]:
        """At most ``limit`` rows of one of TABLES in the order of its key, those after the key ``after``, () being the
        first ones. A row has the columns of TABLES; fewer rows than ``limit`` are the last ones. KeyError: no table."""
        return await self._reports.run(tables.copy_rows, table, after, limit)

    async def moved_to(self) -> str | None:
        """The other store, when everything was moved there."""
        return await self._lookups.run(moves.moved_to)

    async def begin_move(self, target: str) -> str:
        """The id of the move under way, a new one if there is none. ``target``: the other store, for people."""
        return await self._writing.run(moves.begin, target)

    async def end_move(self) -> None:
        """Everything is in the other store: nobody else may write here from now on."""
        await self._writing.run(moves.end)

    async def totals(self, table: str, columns: tuple[str, ...]) -> tuple[int, ...]:
        """How many rows one of TABLES has, and the sum of each of ``columns``."""
        return await self._reports.run(moves.totals, table, columns)


class _Sink:
    """One journal's JournalSink: its own position, the same ledger."""

    def __init__(self, store: SqliteStore, lookups: ConnectionThread, writing: ConnectionThread, journal: int) -> None:
        self._lookups = lookups
        self._writing = writing
        self._journal = journal
        self.rejected = store.rejected
        self.forget_events = store.forget_events
        self.forget_sums = store.forget_sums

    async def position(self) -> Position:
        return await self._lookups.run(entries.position, self._journal)

    async def append(self, records: Sequence[bytes], position: Position) -> int:
        return await self._writing.run(entries.append, records, position, self._journal)
