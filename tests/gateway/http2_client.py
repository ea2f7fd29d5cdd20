"""A client of HTTP/2 that can say what no honest one says: real sockets, without TLS around them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from sidecar.gateway.http2 import Http2Connection
from tests.gateway.cruel import PATIENCE_S
from tests.gateway.rig import Rig

_GOAWAY = 7
Fields = list[tuple[bytes, bytes]]


@dataclass
class Answer:
    """What came on one stream. ``reset``: the code of its reset."""

    interim: list[int] = field(default_factory=list)
    fields: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.fields[b":status"])


class Http2Client:
    """``takes``: whether received data is acknowledged, so that the sidecar may go on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        config = H2Configuration(
            client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.frames = H2Connection(config)
        self.answers: dict[int, Answer] = {}
        self.gone_away: int | None = None
        self.closed = False
        self.takes = True
        self.writer = writer
        self._reader = reader
        self._unread = b""
        self._key = key.encode()

    def ask(
        self, path: bytes = b"/", *more: tuple[bytes, bytes], method: bytes = b"GET", end: bool = True, key: bool = True
    ) -> int:
        """Begins a request; the number of its stream."""
        number = self.frames.get_next_available_stream_id()
        self.answers[number] = Answer()
        head = [(b":method", method), (b":scheme", b"https"), (b":authority", b"a.example"), (b":path", path)]
        own = [(b"x-api-key", self._key)] if key else []
        self.frames.send_headers(number, [*head, *own, *more], end_stream=end)
        self.flush()
        return number

    def data(self, number: int, data: bytes, *, end: bool = False) -> None:
        self.frames.send_data(number, data, end_stream=end)
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.frames.data_to_send())

    async def answer(self, number: int) -> Answer:
        """The whole reply, or how its stream ended."""
        answer = self.answers[number]
        await self.until(lambda: answer.ended or answer.reset is not None)
        return answer

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                assert not self.closed, "the connection ended"
                await self.read()

    async def read(self) -> None:
        """What is there by now, at least something."""
        data = await self._reader.read(65536)
        self.closed = not data
        self._unread += data
        while (frame := self._whole_frame()) is not None:
            for event in self.frames.receive_data(frame):
                self._take(event)
        self.flush()

    def _whole_frame(self) -> bytes | None:
        """The next frame. h2 takes none after a GOAWAY, though what is under way goes on (RFC 9113, 6.8)."""
        while len(self._unread) >= 9:
            size = 9 + int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < size:
                break
            frame, self._unread = self._unread[:size], self._unread[size:]
            if frame[3] != _GOAWAY:
                return frame
            self.gone_away = int.from_bytes(frame[13:17], "big")
        return None

    async def closes(self) -> int | None:
        """Reads on until the sidecar closes; the code of its GOAWAY."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.closed:
                await self.read()
        return self.gone_away

    def _take(self, event: Event) -> None:
        answer = self.answers.get(getattr(event, "stream_id", 0) or 0, Answer())
        if isinstance(event, InformationalResponseReceived):
            answer.interim.append(int(dict(event.headers)[b":status"]))
        elif isinstance(event, ResponseReceived):
            answer.fields = dict(event.headers)
        elif isinstance(event, DataReceived):
            answer.body += event.data
            if self.takes:
                self.frames.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            answer.trailers = list(event.headers)
        elif isinstance(event, StreamEnded):
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.reset = event.error_code


@asynccontextmanager
async def connected(rig: Rig) -> AsyncIterator[Http2Client]:
    """A client of the rig's lane, its preface sent."""
    server = await asyncio.get_running_loop().create_server(lambda: Http2Connection(rig.lane), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    client = Http2Client(reader, writer, rig.key)
    client.frames.initiate_connection()
    client.flush()
    try:
        yield client
    finally:
        writer.transport.abort()
        server.close()
