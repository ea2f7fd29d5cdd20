"""A proxy between the store and PostgreSQL that knows where messages end, and cuts where it is told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

Direction = Literal["to server", "to client"]


@dataclass
class Cut:
    """At the ``number``-th message (0 is the first) in that direction: ``part`` of it is passed on, then nothing more.

    ``linger``: the server is not told, as when a network drops packets. ``instead``: called before the message is
    passed on, and nothing is cut.
    """

    direction: Direction
    number: int
    part: float = 0.0
    linger: bool = False
    instead: Callable[[], Awaitable[None]] | None = None
    done: bool = False


class Wire:
    """``stalled``: connections are taken and nothing is passed on."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self.cut: Cut | None = None
        self.stalled = False
        self._seen: dict[Direction, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.url = ""

    def arm(self, cut: Cut) -> None:
        self.cut = cut
        self._seen = {"to server": 0, "to client": 0}

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._target.hostname is not None
        there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers += [writer, back]
        for work in (
            self._pass(reader, back, writer, "to server", untyped=True),
            self._pass(there, writer, back, "to client", untyped=False),
        ):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        onward: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
        direction: Direction,
        *,
        untyped: bool,
    ) -> None:
        try:
            while True:
                head = await reader.readexactly(4 if untyped else 5)  # the first message of a client has no type
                untyped = False
                message = head + await reader.readexactly(int.from_bytes(head[-4:], "big") - 4)
                while self.stalled:
                    await asyncio.sleep(0.01)
                cut = self._due(direction)
                if cut is not None and cut.instead is None:
                    await self._sever(cut, message, onward, back)
                    return
                if cut is not None and cut.instead is not None:
                    await cut.instead()
                onward.write(message)
        except (asyncio.IncompleteReadError, OSError):
            onward.close()

    def _due(self, direction: Direction) -> Cut | None:
        cut = self.cut
        if cut is None or cut.done or cut.direction != direction:
            return None
        number = self._seen[direction]
        self._seen[direction] = number + 1
        cut.done = number == cut.number
        return cut if cut.done else None

    async def _sever(self, cut: Cut, message: bytes, onward: asyncio.StreamWriter, back: asyncio.StreamWriter) -> None:
        onward.write(message[: int(len(message) * cut.part)])
        with suppress(OSError):
            await onward.drain()
        server, client = (onward, back) if cut.direction == "to server" else (back, onward)
        client.close()
        if not cut.linger:
            server.close()


@asynccontextmanager
async def wire_to(url: str) -> AsyncIterator[Wire]:
    """A wire that listens; its ``url`` is ``url`` through it, without TLS."""
    wire = Wire(url)
    listener = await asyncio.start_server(wire.accept, "127.0.0.1", 0)
    parts = urlsplit(url)
    place = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    wire.url = urlunsplit(parts._replace(netloc=place, query="sslmode=disable"))
    try:
        yield wire
    finally:
        listener.close()
        await wire.close()
