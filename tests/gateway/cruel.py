"""Real loopback sockets on both sides of the lane that do what no honest peer does: every byte is scripted."""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

PATIENCE_S = 10  # a bound on waiting for what must come, never an expectation of speed
TORN = (ConnectionError, asyncio.IncompleteReadError)  # how a client sees a reply that is not whole
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop run until ``condition`` holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


@dataclass
class Message:
    """A request or a reply as it was on the wire. ``body`` is without its framing."""

    start: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    raw_body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.start.split()[1])

    def all(self, name: str) -> list[bytes]:
        """Every value of the field, in order."""
        return [value for raw, value in self.fields if raw.lower() == name.lower().encode()]

    def one(self, name: str) -> bytes | None:
        """The only value of the field; None without one."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0] if values else None


class Wire:
    """One end of a connection, with a reader of heads and bodies that forgives nothing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.ended = False  # its script is over, because it was done or because the sidecar hung up

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def drained(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.writer.drain()

    async def dribble(self, data: bytes) -> None:
        """Sends each byte in a packet of its own."""
        for at in range(len(data)):
            self.writer.write(data[at : at + 1])
            await asyncio.sleep(0)

    async def message(self, *, bodiless: bool = False, to_eof: bool = False) -> Message:
        """The next head with its body."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            start, *lines = head[:-4].split(b"\r\n")
            message = Message(start, [_field(line) for line in lines])
            if not bodiless:
                await self._body(message, to_eof=to_eof)
            return message

    async def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """Everything until the other side closes."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read()

    async def gone(self) -> None:
        """Returns when the other side has closed or reset, whatever it sends before."""
        try:
            await self.rest()
        except ConnectionError:
            pass

    def close(self) -> None:
        self.writer.close()

    def half_close(self) -> None:
        self.writer.write_eof()

    def reset(self) -> None:
        """RST, not FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def _body(self, message: Message, *, to_eof: bool) -> None:
        length, coding = message.one("content-length"), message.one("transfer-encoding")
        assert length is None or coding is None, "a length with a transfer coding"
        if coding is not None:
            assert coding == b"chunked"
            while await self._chunk(message):
                pass
            while line := await self._line(message):
                message.trailers.append(_field(line))
        elif length is not None:
            message.body = message.raw_body = await self.reader.readexactly(int(length))
        elif to_eof:
            message.body = message.raw_body = await self.reader.read()

    async def _chunk(self, message: Message) -> bool:
        size = int(await self._line(message), 16)
        if size:
            data = await self.reader.readexactly(size + 2)
            assert data.endswith(b"\r\n")
            message.raw_body += data
            message.body += data[:-2]
        return size > 0

    async def _line(self, message: Message) -> bytes:
        line = await self.reader.readuntil(b"\r\n")
        message.raw_body += line
        return line[:-2]


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b": ")
    assert colon, line
    return name, value


Script = Callable[[Wire], Awaitable[None]]


class CruelUpstream:
    """An upstream whose n-th connection runs the n-th script; beyond them, an honest one that always says ``ok``.

    ``requests`` holds every request that a script read with ``take``, in order.
    """

    def __init__(self) -> None:
        self.scripts: deque[Script] = deque()
        self.wires: list[Wire] = []
        self.requests: list[Message] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._met, "127.0.0.1", port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for wire in self.wires:
            wire.writer.transport.abort()

    async def take(self, wire: Wire) -> Message:
        """Reads a whole request."""
        request = await wire.message()
        self.requests.append(request)
        return request

    def answers(self, *replies: bytes, then_close: bool = False) -> None:
        """The next connection gives these replies, one per request."""

        async def script(wire: Wire) -> None:
            for reply in replies:
                await self.take(wire)
                wire.send(reply)
            if then_close:
                wire.close()
            else:
                await self._honest(wire)

        self.scripts.append(script)

    def runs(self, script: Script) -> None:
        """The next connection runs this."""
        self.scripts.append(script)

    async def _honest(self, wire: Wire) -> None:
        while True:
            request = await self.take(wire)
            wire.send(OK if not request.start.startswith(b"HEAD ") else OK[:-2])

    def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        self.wires.append(wire)
        script = self.scripts.popleft() if self.scripts else self._honest
        task = asyncio.get_running_loop().create_task(self._play(script, wire))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, script: Script, wire: Wire) -> None:
        try:
            await script(wire)
        except (*TORN, TimeoutError):
            pass  # the sidecar hung up, which the test judges from its own side
        finally:
            wire.ended = True
