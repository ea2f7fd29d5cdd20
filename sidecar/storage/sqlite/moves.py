"""Whether this file is being moved to another store, or was: plain functions of a connection."""

from pathlib import Path
from uuid import uuid4

import apsw

from sidecar.core.errors import StoreError
from sidecar.storage.sqlite.connection import transaction

# Sums without overflow, however many rows: a number is its upper part * 2^24 + its lower 24 bits.
_BITS = 24
_MOVE = "SELECT move, target, moved FROM moves"


def moved_to(connection: apsw.Connection) -> str | None:
    """Where everything was moved to; None: it was not, or not to the end."""
    row = connection.execute(_MOVE).fetchone()
    return str(row[1]) if row is not None and row[2] else None


def enter(connection: apsw.Connection, path: Path) -> None:
    """For a process that goes on using this file: StoreError when it was moved. A move that was begun is given up, for
    what was copied so far is no longer what stands here."""
    target = moved_to(connection)
    if target is not None:
        raise StoreError(
            f"the database {path} was moved to {target} and is left as it was; say storage: postgresql://... (if "
            "sidecar migrate was interrupted, run it again)"
        )
    if connection.execute("SELECT EXISTS (SELECT 1 FROM moves)").get:
        with transaction(connection):
            connection.execute("DELETE FROM moves")


def begin(connection: apsw.Connection, target: str) -> str:
    """The id of the move under way, a new one if there is none."""
    with transaction(connection):
        connection.execute(
            "INSERT INTO moves VALUES (1, ?, ?, 0)"
            " ON CONFLICT (one) DO UPDATE SET target = excluded.target WHERE NOT moved",
            (str(uuid4()), target),
        )
    return str(connection.execute("SELECT move FROM moves").get)


def end(connection: apsw.Connection) -> None:
    with transaction(connection):
        connection.execute("UPDATE moves SET moved = 1")


def totals(connection: apsw.Connection, table: str, columns: tuple[str, ...]) -> tuple[int, ...]:
    """How many rows ``table`` has, and the sum of each of ``columns``. The names are never values from outside."""
    low = (1 << _BITS) - 1
    parts = "".join(f", sum({column} >> {_BITS}), sum({column} & {low})" for column in columns)
    count, *sums = next(connection.execute(f"SELECT count(*){parts} FROM {table}"))  # noqa: S608 - fixed names
    return count, *((high or 0) * (1 << _BITS) + (rest or 0) for high, rest in zip(sums[::2], sums[1::2], strict=True))
