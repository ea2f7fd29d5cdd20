"""One connection on one thread, and the transaction around a change."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import apsw

from sidecar.core.errors import StoreError
from sidecar.storage.sqlite.errors import explained

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ConnectionThread:
    """Runs functions of a connection, one after the other, on the thread that owns it. Callers bound how many wait."""

    def __init__(self, path: Path, name: str, *, writable: bool, busy_timeout_ms: int, niceness: int = 0) -> None:
        """``niceness`` is added to the thread's own, where the platform lets threads differ (Linux)."""
        self._path = path
        self._connection: apsw.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"sidecar-{name}")
        try:
            self._thread.submit(self._connect, writable, busy_timeout_ms, niceness).result()
        except BaseException:
            self._thread.shutdown()
            raise

    def call(self, function: Callable[Concatenate[apsw.Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """``function(connection, ...)``, waiting for it; for start-up, before there is an event loop. StoreError."""
        return self._thread.submit(lambda: self._run(function, *args, **kwargs)).result()

    async def run(
        self, function: Callable[Concatenate[apsw.Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """``function(connection, ...)``. StoreError."""
        try:
            future = self._thread.submit(lambda: self._run(function, *args, **kwargs))
        except RuntimeError as error:
            raise StoreError(f"the database {self._path} is closed") from error
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Waits for what was asked for, then closes."""
        if self._connection is not None:
            self._thread.submit(self._connection.close).result()
            self._connection = None
        self._thread.shutdown()

    def _connect(self, writable: bool, busy_timeout_ms: int, niceness: int) -> None:
        if niceness and hasattr(os, "setpriority"):
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + niceness)
        flags = apsw.SQLITE_OPEN_READWRITE if writable else apsw.SQLITE_OPEN_READONLY
        with explained(self._path):
            connection = apsw.Connection(str(self._path), flags=flags | apsw.SQLITE_OPEN_NOMUTEX)
            try:
                connection.set_busy_timeout(busy_timeout_ms)
                connection.execute("PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF")
            except BaseException:
                connection.close()
                raise
        self._connection = connection

    def _run(self, function: Callable[Concatenate[apsw.Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if self._connection is None:
            raise StoreError(f"the database {self._path} is closed")
        with explained(self._path):
            return function(self._connection, *args, **kwargs)


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """A write transaction that takes its lock at once: all of the block or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def one_moment(connection: apsw.Connection) -> Iterator[None]:
    """All statements of the block see the same commit."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")
