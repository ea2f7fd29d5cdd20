"""Taking over another store's rows: page by page, with the place in the source moved in the page's own transaction."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from sidecar.core.errors import StoreError
from sidecar.core.ports import Position
from sidecar.storage.postgres import schema
from sidecar.storage.postgres.address import Address
from sidecar.storage.postgres.connection import INGEST, Connection, Link, make_durable
from sidecar.storage.postgres.texts import stored

LAST = "journal_positions"  # done when everything is
_TIMEOUT_S = 600.0  # adding up a hundred million entries takes its time
_US_PER_DAY = 86_400_000_000
_TURN = "SELECT pg_advisory_xact_lock(hashtextextended('sidecar.move', 0))"
_RUNNING = """
    SELECT journal FROM sidecar.journal_positions
    WHERE NOT pg_try_advisory_xact_lock(hashtextextended('sidecar.journal/' || journal, 0))
"""
_USED = "SELECT EXISTS (SELECT FROM sidecar.{table})"
_HOLDERS = (
    *("tenants", "api_keys", "audit_log", "entries", "calls_by_minute", "calls_by_hour", "rejected_records"),
    *("accounts", "marks", "assigned_minutes", "excused_minutes", "outbox", "parities"),
    *("arrivals", "cursors", "claims", "notices"),
    *("credit_grants", "credit_burns", "credit_books", "crossings"),
)
# Tables whose one row is there from the beginning. The books' name goes with the rows whose identifiers begin with it;
# the one that was made with this database was never used, for it is empty.
_SET_ONE = {
    "keys_version": "UPDATE sidecar.keys_version SET value = $2 WHERE one = $1",
    "books": "UPDATE sidecar.books SET name = $2, floor = $3 WHERE one = $1",
}
# Ids go on behind the moved ones. No part of the transaction, and harmless without it.
_GO_ON = "SELECT setval('sidecar.outbox_id_seq', $1)"
_UNFINISHED = "SELECT EXISTS (SELECT FROM sidecar.moves WHERE NOT done)"
_BEGIN = "INSERT INTO sidecar.moves VALUES ($1, $2, NULL, 0, false)"
_PLACE = "SELECT last_key, done FROM sidecar.moves WHERE move = $1 AND name = $2"
_STEP = """
    UPDATE sidecar.moves SET last_key = coalesce($3, last_key), rows = rows + $4, done = $5
    WHERE move = $1 AND name = $2 AND NOT done AND last_key IS NOT DISTINCT FROM $6
"""
_POSITION = """
    INSERT INTO sidecar.journal_positions VALUES ($1, $2, $3, $4)
    ON CONFLICT (journal) DO UPDATE
    SET segment = excluded.segment, byte = excluded.byte, rejected = excluded.rejected
"""
Rows = Sequence[tuple[Any, ...]]
Key = tuple[Any, ...]


async def refuse_unfinished(connection: Connection, address: Address) -> None:
    """For a process that is to write here. StoreError while only a part of an installation is here."""
    if await connection.fetchval(_UNFINISHED):
        raise StoreError(
            f"PostgreSQL at {address} holds a part of an installation that is being moved there; run sidecar migrate "
            "again to move the rest"
        )


class MoveTarget:
    """One move's view of the database that it goes to, on one connection, which is made again after it was lost.

    ``move``: its id. ``journal``: the identity of the journal that the source took and this database will take.
    """

    def __init__(self, url: str, move: str, journal: str) -> None:
        self._address = Address.parse(url)
        self._move = UUID(move)
        self._journal = stored(journal)
        name = f"sidecar {journal} move"
        self._link = Link(self._address, name, timeout_s=_TIMEOUT_S, prepare=self._prepare, plans="auto")

    async def close(self) -> None:
        await self._link.close()

    async def begin(self, tables: Sequence[str], *, new: bool) -> bool:
        """Whether this move was done to its end already; if it is not known here, it is begun, when it may be ``new``.

        StoreError when the database is in use, holds anything that is not of this move, or a sidecar runs on it.
        """
        async with self._link.transaction(INGEST) as connection:
            await connection.execute(_TURN)
            left = await connection.fetch("SELECT done FROM sidecar.moves WHERE move = $1", self._move)
            if left and all(row["done"] for row in left):
                return True
            running = await connection.fetchval(_RUNNING)
            if running is not None:
                raise self._error(f"is used by a running sidecar (its journal is {running}); stop it")
            if not left:
                if not new:
                    raise self._error("is not where this installation was moved to")
                await self._check_unused(connection)
                await connection.executemany(_BEGIN, [(self._move, name) for name in (*tables, LAST)])
        return False

    async def place(self, table: str) -> tuple[Key, bool]:
        """The key of the last row that was copied, () for none, and whether the table is done."""
        async with self._link.transaction(INGEST) as connection:
            row = await connection.fetchrow(_PLACE, self._move, table)
        if row is None:
            raise self._error(f"was being moved to by another version, which knew no table {table}")
        return tuple(json.loads(row["last_key"] or "[]")), row["done"]

    async def add(self, table: str, columns: Sequence[str], rows: Rows, after: Key, last: Key, *, done: bool) -> None:
        """The rows behind the key ``after``, up to ``last``, as the source has them; ``done``: there are no more."""
        names, values = converted(table, columns, rows, self._journal)
        if table == "entries" and rows:
            days = sorted({row[names.index("started_us")] // _US_PER_DAY for row in values})
            async with self._link.transaction(INGEST) as connection:  # its own: it takes locks on all partitions
                await connection.execute("SELECT sidecar.make_partitions($1::bigint[])", days)
        try:
            async with self._link.transaction(INGEST) as connection:
                # First: it waits for the commit that a killed process may have left under way, and then finds it.
                await self._step(connection, table, len(rows), after, last, done=done)
                if rows and table in _SET_ONE:
                    await connection.execute(_SET_ONE[table], *values[0])
                elif rows:
                    await _insert(connection, table, names, values)
                if rows and table == "outbox":
                    await connection.execute(_GO_ON, rows[-1][0])
        except _Meanwhile as found:
            raise self._error(f"was written to while it was being moved to ({found}); move to an empty one") from None

    async def totals(self, table: str, columns: Sequence[str]) -> tuple[int, ...]:
        """How many rows the table has, and the sum of each of the columns."""
        sums = "".join(f", coalesce(sum({column}), 0)" for column in columns)
        async with self._link.transaction(INGEST, snapshot=True) as connection:
            row = await connection.fetchrow(f"SELECT count(*){sums} FROM sidecar.{table}")  # noqa: S608 - fixed names
        return tuple(map(int, row))

    async def finish(self, position: Position, rejected: int) -> None:
        """The last step: from here on the journal goes on into this database."""
        async with self._link.transaction(INGEST) as connection:
            await connection.execute(_POSITION, self._journal, position.segment, position.offset, rejected)
            await self._step(connection, LAST, 1, (), (), done=True)

    async def _step(self, connection: Connection, table: str, count: int, after: Key, last: Key, *, done: bool) -> None:
        texts = [json.dumps(key) if key else None for key in (last, after)]
        status = await connection.execute(_STEP, self._move, table, texts[0], count, done, texts[1])
        if status != "UPDATE 1":
            raise self._error("was moved to by somebody else at the same time; run sidecar migrate again")

    async def _check_unused(self, connection: Connection) -> None:
        if await connection.fetchval(_UNFINISHED):
            raise self._error("holds a part of another move; make an empty database and move there")
        for table in _HOLDERS:
            if await connection.fetchval(_USED.format(table=table)):
                raise self._error(f"is in use: {table} is not empty; make an empty database and move there")

    async def _prepare(self, connection: Connection) -> None:
        await schema.check(connection, self._address)
        # The source is marked as moved because of what is committed here, so that must be on the disk.
        await make_durable(connection)

    def _error(self, text: str) -> StoreError:
        return StoreError(f"PostgreSQL at {self._address} {text}")


class _Meanwhile(StoreError):
    """A row of the page is there already."""


async def _insert(connection: Connection, table: str, names: Sequence[str], values: Rows) -> None:
    """By way of a table of this connection's own, for COPY is refused under row-level security. Numbers that the
    database gives itself (``seq``) are given anew, in the same order; nothing refers to them."""
    listed = ", ".join(name for name in names if name != "seq")
    order = "ORDER BY seq" if "seq" in names else ""
    await connection.execute(f"CREATE TEMP TABLE moving (LIKE sidecar.{table}) ON COMMIT DROP")
    await connection.copy_records_to_table("moving", schema_name="pg_temp", records=values, columns=names)
    try:
        await connection.execute(
            f"INSERT INTO sidecar.{table} ({listed}) SELECT {listed} FROM pg_temp.moving {order}"  # noqa: S608
        )
    except asyncpg.UniqueViolationError as error:
        raise _Meanwhile(f"{table}: {error}") from None


def converted(table: str, columns: Sequence[str], rows: Rows, journal: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Names and values of SQLite's rows as PostgreSQL has them. ValueError for a text that it cannot hold."""
    names = ["tenant" if (table, column) == ("tenants", "name") else column for column in columns]
    left_out = names.index("seq") if table == "entries" else None
    found: list[Callable[[Any], Any]] = [_KINDS.get((table, column), _plain) for column in columns]
    values = [
        tuple(kind(value) for index, (kind, value) in enumerate(zip(found, row, strict=True)) if index != left_out)
        for row in rows
    ]
    if left_out is not None:
        del names[left_out]
    if table == "rejected_records":
        return [*names, "journal"], [(*row, journal) for row in values]
    return names, values


def _plain(value: Any) -> Any:
    return stored(value) if isinstance(value, str) else value


def _scopes(text: str | None) -> list[str] | None:
    return None if text is None else [stored(scope) for scope in json.loads(text)]


def _meters(text: str) -> str:
    """The JSON as it stands, unless a name in it may hold what PostgreSQL cannot."""
    if "\\" not in text and "\x00" not in text and "\x01" not in text:
        return text
    meters = json.loads(text, strict=False)
    return json.dumps({stored(name): value for name, value in meters.items()}, separators=(",", ":"))


def _event_id(value: bytes) -> UUID:
    return UUID(bytes=value)


_KINDS: Mapping[tuple[str, str], Callable[[Any], Any]] = {
    ("entries", "event_id"): _event_id,
    ("entries", "meters"): _meters,
    ("api_keys", "sandbox"): bool,
    ("keys_version", "one"): bool,
    ("books", "one"): bool,
    ("parities", "final"): bool,
    ("api_keys", "scopes"): _scopes,
}
