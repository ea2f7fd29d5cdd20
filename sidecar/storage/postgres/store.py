"""The adapter: a connection that writes the ledger, two for look-ups and changes, two for reports, one for billing."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from sidecar.core.ports import EventPage, Position, UsageQuery, UsageReport, UsageRow
from sidecar.core.values import AccessState, ApiKey, Tenant, Terms
from sidecar.storage.postgres import entries, events, sums, tenants
from sidecar.storage.postgres.address import Address
from sidecar.storage.postgres.billing import PostgresBilling
from sidecar.storage.postgres.connection import INGEST, OPERATOR, READER, Connection, Link, Links, make_durable
from sidecar.storage.postgres.loop_thread import LoopThread
from sidecar.storage.postgres.writer import Writer

LOOKUPS = 2  # connections; together with the writer's a node takes six
REPORTS = 2
BILLING = 1
_LOOKUP_TIMEOUT_S = 5.0
_REPORT_TIMEOUT_S = 60.0
_WRITER_NICENESS = 5  # as the SQLite writer's: on one busy core the lane comes first
_P = ParamSpec("_P")
_T = TypeVar("_T")


class PostgresStore(PostgresBilling):
    """``TenantStore``, ``Ledger`` (core.ports) and ``BillingStore``, whose docstrings hold here.

    Questions about one tenant are asked as ``sidecar_reader``, under row-level security; those across tenants as
    ``sidecar_operator``; all changes are made as ``sidecar_ingest``. So is the look-up of a key, whose tenant is not
    known before it is found: it asks for one id, whose secret the caller has to match afterwards.

    The writer has a thread of its own, so that the bytes of a batch never hold the caller's loop; the other connections
    share a second one. Every method ends within its time: 5 s for look-ups and changes, 60 s for batches and reports.
    """

    def __init__(self, address: Address, journal: str) -> None:
        self._address = address
        self._journal = journal
        self._writer = Writer(address, journal)
        self._lookups = self._links(LOOKUPS, "look-ups", _LOOKUP_TIMEOUT_S)
        self._reports = self._links(REPORTS, "reports", _REPORT_TIMEOUT_S)
        self._billing = self._links(BILLING, "billing", _LOOKUP_TIMEOUT_S)
        self._writing = LoopThread("postgres-writer", niceness=_WRITER_NICENESS)
        self._reading = LoopThread("postgres-reader")

    @classmethod
    async def open(cls, url: str, *, journal: str) -> "PostgresStore":
        """Connects, looks at server, login and schema, and takes the lock of this ``journal`` (a node's id).

        StoreLocked when another process ships the same journal; StoreError, naming the server but no password, for
        everything else that is wrong, with what to do about it.
        """
        store = cls(Address.parse(url), journal)
        try:
            await store._writing.run(store._writer.open())
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Closes the connections and lets go of the lock; what is under way fails. More than once is once."""
        for thread, closed in ((self._reading, self._close_readers()), (self._writing, self._writer.close())):
            if thread.open:
                await thread.run(closed)
                await thread.close()
            else:
                closed.close()

    async def sink(self, journal: str) -> "PostgresSink":
        """Where another journal is shipped to, with a connection and a lock of its own. StoreLocked, StoreError."""
        sink = PostgresSink(self, Writer(self._address, journal), journal)
        await sink.open()
        return sink

    def _links(self, count: int, what: str, timeout_s: float) -> Links:
        name = f"sidecar {self._journal} {what}"
        # Reports differ too much in what they ask for to share a plan.
        make = partial(Link, self._address, name, timeout_s=timeout_s, prepare=make_durable, plans="force_custom_plan")
        return Links(count, make, self._address, timeout_s=timeout_s)

    async def _close_readers(self) -> None:
        for links in (self._lookups, self._reports, self._billing):
            await links.close()

    async def _read(
        self,
        links: Links,
        role: str,
        tenant: str | None,
        ask: Callable[Concatenate[Connection, _P], Awaitable[_T]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        async def work() -> _T:
            async with links.transaction(role, tenant, snapshot=True) as connection:
                return await ask(connection, *args, **kwargs)

        return await self._reading.run(work())

    async def _change(
        self,
        links: Links,
        make: Callable[Concatenate[Connection, _P], Awaitable[_T]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        async def work() -> _T:
            async with links.transaction(INGEST) as connection:
                return await make(connection, *args, **kwargs)

        return await self._reading.run(work())

    # TenantStore ------------------------------------------------------------------------------------------------------

    async def tenant(self, name: str) -> Tenant | None:
        return await self._read(self._lookups, READER, name, tenants.tenant, name)

    async def tenants(self, *, after: str = "", limit: int = 100) -> list[Tenant]:
        return await self._read(self._reports, OPERATOR, None, tenants.tenants, after, limit)

    async def add_tenant(self, tenant: Tenant, *, actor: str) -> None:
        await self._change(self._lookups, tenants.add_tenant, tenant, actor)

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
        return await self._change(self._lookups, tenants.set_tenant, name, plan, state, terms, actor, at_ns)

    async def key(self, key_id: str) -> ApiKey | None:
        return await self._read(self._lookups, INGEST, None, tenants.key, key_id)

    async def keys(self, tenant: str, *, after: str = "", limit: int = 100) -> list[ApiKey]:
        return await self._read(self._reports, READER, tenant, tenants.keys, tenant, after, limit)

    async def add_key(self, key: ApiKey, *, actor: str) -> None:
        await self._change(self._lookups, tenants.add_key, key, actor)

    async def end_key(self, key_id: str, *, at_ns: int, revoked: bool, actor: str) -> ApiKey:
        return await self._change(self._lookups, tenants.end_key, key_id, at_ns, revoked, actor)

    async def keys_version(self) -> int:
        return await self._read(self._lookups, INGEST, None, tenants.keys_version)

    # Ledger -----------------------------------------------------------------------------------------------------------

    async def position(self) -> Position:
        return await self._read(self._lookups, INGEST, None, entries.position, self._journal)

    async def append(self, records: Sequence[bytes], position: Position) -> int:
        return await self._writing.run(self._writer.append(records, position))

    async def rejected(self) -> int:
        return await self._read(self._lookups, INGEST, None, entries.rejected, self._journal)

    async def usage(self, tenant: str, *, since_us: int, until_us: int) -> UsageReport:
        return await self._read(self._reports, READER, tenant, sums.usage, tenant, since_us, until_us)

    async def usage_rows(self, query: UsageQuery) -> list[UsageRow]:
        sums.check(query)
        role = OPERATOR if query.tenant is None else READER
        return await self._read(self._reports, role, query.tenant, sums.usage_rows, query)

    async def meter_total(self, tenant: str, meter: str, *, since_us: int, until_us: int, sandbox: bool) -> int:
        asked = (tenant, meter, since_us, until_us, sandbox)
        return await self._read(self._reports, READER, tenant, sums.meter_total, *asked)

    async def events(
        self, *, tenant: str | None, since_us: int, until_us: int, after: str | None, limit: int
    ) -> EventPage:
        start = events.place(after, tenant, limit)
        role = OPERATOR if tenant is None else READER
        return await self._read(self._reports, role, tenant, events.page, tenant, since_us, until_us, start, limit)

    async def forget_events(self, *, before_us: int, at_most: int) -> int:
        return await self._writing.run(self._writer.forget_events(before_us, at_most))

    async def forget_sums(self, *, minutes_before_us: int, hours_before_us: int, at_most: int) -> int:
        return await self._writing.run(self._writer.forget_sums(minutes_before_us, hours_before_us, at_most))


class PostgresSink:
    """JournalSink (core.ports) of one more journal; ``close`` lets go of its lock."""

    def __init__(self, store: PostgresStore, writer: Writer, journal: str) -> None:
        self._store = store
        self._writer = writer
        self._journal = journal

    async def open(self) -> None:
        await self._store._writing.run(self._writer.open())

    async def close(self) -> None:
        if self._store._writing.open:
            await self._store._writing.run(self._writer.close())

    async def position(self) -> Position:
        store = self._store
        return await store._read(store._lookups, INGEST, None, entries.position, self._journal)

    async def append(self, records: Sequence[bytes], position: Position) -> int:
        return await self._store._writing.run(self._writer.append(records, position))

    async def rejected(self) -> int:
        store = self._store
        return await store._read(store._lookups, INGEST, None, entries.rejected, self._journal)

    async def forget_events(self, *, before_us: int, at_most: int) -> int:
        return await self._store.forget_events(before_us=before_us, at_most=at_most)

    async def forget_sums(self, *, minutes_before_us: int, hours_before_us: int, at_most: int) -> int:
        return await self._store.forget_sums(
            minutes_before_us=minutes_before_us, hours_before_us=hours_before_us, at_most=at_most
        )
