"""PostgreSQL as a run's store: a server of its own, and a wire to it that can be cut in the middle of a message."""

import asyncio
import os
import signal
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil

from sidecar.storage import PostgresStore
from tests.chaos.books import LedgerBook
from tests.chaos.fault import Fault
from tests.chaos.process import Broken
from tests.chaos.reading import read_book
from tests.chaos.stage import Stage
from tests.storage.postgres.server import Process, Server

_VARIABLE = "SIDECAR_CHAOS_STORAGE"  # the URL holds a password, which a configuration file may not
_CUT_BYTES = 300_000  # a busy node sends this much in about a second
_PATIENCE_S = 60.0


class Wire:
    """Passes bytes on between one port and the server's. ``cut_after``: so many bytes more to the server, then every
    connection is torn."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._left: int | None = None
        self.cuts = 0

    async def start(self) -> int:
        """The port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def cut_after(self, count: int | None) -> None:
        self._left = count

    def tear(self) -> None:
        """Both ends of every connection get a reset."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        self._server.close()
        self.tear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        self._spawn(self._pass(reader, back, counted=True))
        self._spawn(self._pass(there, writer, counted=False))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, onward: asyncio.StreamWriter, *, counted: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if counted and self._left is not None:
                    if len(data) >= self._left:
                        onward.write(data[: self._left])
                        self._left, self.cuts = None, self.cuts + 1
                        await asyncio.sleep(0)
                        self.tear()
                        return
                    self._left -= len(data)
                onward.write(data)
                await onward.drain()
        onward.transport.abort()
        self._writers.discard(onward)


async def kill_backend(stage: Stage) -> dict[str, int]:
    """kill -9 of one of the server's processes that work for us; the server then restarts all of them by itself."""
    store = stage.store
    assert isinstance(store, Postgres)
    backends = store.backends()
    if not backends:
        return {}
    os.kill(stage.rng.choice(backends), signal.SIGKILL)
    await asyncio.sleep(stage.rng.uniform(0.0, 1.0))
    return {"postgresql backend kill": 1}


async def kill_server(stage: Stage) -> dict[str, int]:
    """kill -9 of the whole server; in half of the cases of the sidecar too, before it is back."""
    return await _without_server(stage, signal.SIGKILL, "postgresql kill")


async def restart_immediate(stage: Stage) -> dict[str, int]:
    """An immediate shutdown and a new start."""
    return await _without_server(stage, signal.SIGQUIT, "postgresql immediate restart")


async def cut_wire(stage: Stage) -> dict[str, int]:
    """The connection is torn after a random number of bytes: in the middle of a COPY as often as not."""
    store = stage.store
    assert isinstance(store, Postgres)
    before = store.wire.cuts
    store.wire.cut_after(stage.rng.randint(1, _CUT_BYTES))
    deadline = time.monotonic() + 2.0
    while store.wire.cuts == before and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    if store.wire.cuts == before:
        store.wire.cut_after(None)
        store.wire.tear()
    return {"postgresql connection cut": 1}


async def _without_server(stage: Stage, how: signal.Signals, name: str) -> dict[str, int]:
    store = stage.store
    assert isinstance(store, Postgres)
    store.end(how)
    faults = {name: 1}
    await asyncio.sleep(stage.rng.uniform(0.0, 1.0))
    if stage.rng.random() < 0.5:
        await stage.kill()
        faults["kill"] = 1
    store.begin()
    if stage.sidecar.pid is None:
        await stage.start()
    return faults


class Postgres:
    """A fresh server per book. Its own fsync is off: what is killed here are processes, and the kernel lives on."""

    name = "postgresql"
    faults: tuple[Fault, ...] = (
        Fault("postgresql_backend", 4, kill_backend),
        Fault("postgresql_kill", 3, kill_server),
        Fault("postgresql_immediate", 3, restart_immediate),
        Fault("postgresql_cut", 6, cut_wire),
    )
    setting = f"storage: ${{{_VARIABLE}}}"

    async def start(self, folder: Path) -> None:
        self._process = Process()
        self._database = Server(self._process.url).migrated()
        self.wire = Wire(self._process.port)
        port = await self.wire.start()
        parts = urlsplit(self._database.url)
        place = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}"
        os.environ[_VARIABLE] = urlunsplit(parts._replace(netloc=place))

    def backends(self) -> list[int]:
        """The server's processes that hold a client's connection."""
        try:
            children = psutil.Process(self._postmaster()).children()
            return [child.pid for child in children if "127.0.0.1" in " ".join(child.cmdline())]
        except psutil.Error:
            return []

    def _postmaster(self) -> int:
        assert self._process._process is not None
        return self._process._process.pid

    def end(self, how: signal.Signals) -> None:
        """Ends it like that."""
        self._process.stop(how)

    def begin(self) -> None:
        """Starts it; what a killed server left in shared memory may keep it from that for a moment."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._process.start()
                return
            except AssertionError:
                if time.monotonic() > deadline:
                    raise Broken("PostgreSQL does not start again") from None
                time.sleep(0.1)

    async def heal(self) -> None:
        self.wire.cut_after(None)

    async def read(self, data: Path) -> LedgerBook:
        store = await PostgresStore.open(self._database.url, journal="0" * 32)
        try:
            return await read_book(store, await store.rejected())
        finally:
            await store.close()

    async def close(self) -> None:
        if hasattr(self, "wire"):
            await self.wire.close()
        if hasattr(self, "_process"):
            self._process.remove()
