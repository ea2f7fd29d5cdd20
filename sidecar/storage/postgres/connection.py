"""One connection that is made when it is needed and made again after it was lost, and the transaction on it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from sidecar.core.errors import SidecarError
from sidecar.storage.postgres.address import Address
from sidecar.storage.postgres.errors import FAILURES, AddressError, ends_connection, explained
from sidecar.storage.postgres.texts import stored

if TYPE_CHECKING:
    Connection: TypeAlias = Any  # asyncpg has no types of its own
else:
    Connection = asyncpg.Connection

INGEST, READER, OPERATOR = "sidecar_ingest", "sidecar_reader", "sidecar_operator"
CONNECT_TIMEOUT_S = 5.0
_ROLLBACK_TIMEOUT_S = 2.0
_Prepare = Callable[[Connection], Awaitable[None]]


class Link:
    """At most one connection, used by one task at a time. What it raises is a StoreError that names the server."""

    def __init__(self, address: Address, name: str, *, timeout_s: float, prepare: _Prepare, plans: str) -> None:
        """``timeout_s`` bounds a transaction, on both sides. ``prepare`` is run on each new connection. ``plans``: the
        server's plan_cache_mode."""
        self._address = address
        self._timeout_s = timeout_s
        self._prepare = prepare
        self._settings = _server_settings(name, timeout_s, plans)
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def transaction(
        self, role: str, tenant: str | None = None, *, snapshot: bool = False
    ) -> AsyncIterator[Connection]:
        """A transaction as ``role``, which sees ``tenant`` if it is the reader; committed at the end of the block.

        ``snapshot``: read only, and all statements see the same moment. A connection that turns out to be dead before
        the transaction has begun is replaced once; what fails later is not repeated here, for nobody can know whether
        a commit was done.
        """
        with explained(self._address):
            async with asyncio.timeout(self._timeout_s), self._turn:
                connection = await self._begin(role, tenant, snapshot=snapshot)
                try:
                    yield connection
                    await connection.execute("COMMIT")
                except BaseException as error:
                    await self._after(error)
                    raise

    async def connect(self) -> None:
        """Makes the connection now, to find out whether it can be made."""
        with explained(self._address):
            async with asyncio.timeout(self._timeout_s), self._turn:
                await self._ready()

    async def close(self) -> None:
        """Says good-bye to the server, or hangs up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                await connection.close(timeout=_ROLLBACK_TIMEOUT_S)

    def drop(self) -> None:
        """Hangs up; the next transaction makes a new connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _begin(self, role: str, tenant: str | None, *, snapshot: bool) -> Connection:
        was_open = self._connection is not None
        try:
            return await self._begin_once(role, tenant, snapshot=snapshot)
        except FAILURES as error:
            self.drop()
            if not was_open or not ends_connection(error):
                raise
        return await self._begin_once(role, tenant, snapshot=snapshot)

    async def _begin_once(self, role: str, tenant: str | None, *, snapshot: bool) -> Connection:
        connection = await self._ready()
        try:
            # Whatever the server's default is: who waited for a lock has to see what was committed under it.
            how = "REPEATABLE READ READ ONLY" if snapshot else "READ COMMITTED"
            await connection.execute(f"BEGIN ISOLATION LEVEL {how}; SET LOCAL ROLE {role}")
            if tenant is not None:
                await connection.execute("SELECT set_config('sidecar.tenant', $1, true)", stored(tenant))
        except BaseException:
            self.drop()
            raise
        return connection

    async def _ready(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self.drop()
            connection = await dial(self._address, self._settings)
            try:
                await self._prepare(connection)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection

    async def _after(self, error: BaseException) -> None:
        """Ends the transaction of a connection that is still good; hangs up on any other."""
        answered = isinstance(error, asyncpg.PostgresError | SidecarError | ValueError)
        if (
            self._connection is None
            or not answered
            or (isinstance(error, asyncpg.PostgresError) and ends_connection(error))
        ):
            self.drop()
            return
        try:
            async with asyncio.timeout(_ROLLBACK_TIMEOUT_S):
                await self._connection.execute("ROLLBACK")
        except BaseException:
            self.drop()
            raise


class Links:
    """Some links for one purpose; who comes when all are busy waits, at most as long as a transaction may last."""

    def __init__(self, count: int, make: Callable[[], Link], address: Address, *, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._all = [make() for _ in range(count)]
        self._idle: asyncio.LifoQueue[Link] = asyncio.LifoQueue()
        for link in self._all:
            self._idle.put_nowait(link)

    @asynccontextmanager
    async def transaction(
        self, role: str, tenant: str | None = None, *, snapshot: bool = False
    ) -> AsyncIterator[Connection]:
        """As Link.transaction, on one that is idle."""
        with explained(self._address):
            async with asyncio.timeout(self._timeout_s):
                link = await self._idle.get()
        try:
            async with link.transaction(role, tenant, snapshot=snapshot) as connection:
                yield connection
        finally:
            self._idle.put_nowait(link)

    async def close(self) -> None:
        for link in self._all:
            await link.close()


async def make_durable(connection: Connection) -> None:
    """What is committed here is on the disk when the commit returns, whatever the server's default is."""
    await connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )


async def dial(address: Address, settings: dict[str, str]) -> Connection:
    """A new connection. asyncpg's and the network's exceptions."""
    try:
        return await asyncpg.connect(address.url, timeout=CONNECT_TIMEOUT_S, server_settings=settings)
    except ValueError as error:  # what asyncpg and urllib say about a URL that they cannot read
        raise AddressError(str(error)) from None


def _server_settings(name: str, timeout_s: float, plans: str) -> dict[str, str]:
    """What the server is told about a connection, so that it too gives up on what we have given up on."""
    limit_ms = str(round(timeout_s * 1000))
    return {
        "application_name": name[:63],
        "search_path": "pg_catalog",
        "statement_timeout": limit_ms,
        "lock_timeout": limit_ms,
        "idle_in_transaction_session_timeout": limit_ms,
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "20000",
        "jit": "off",  # compiling a report takes longer than running it
        "plan_cache_mode": plans,
        "timezone": "UTC",
    }
