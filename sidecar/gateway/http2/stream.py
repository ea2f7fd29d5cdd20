"""One stream: to the lane it is the transport of a client connection, to the HTTP/2 connection a queue of frames."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from sidecar.gateway.forwarding import HTTP_VERSION
from sidecar.gateway.http2.reply import ReplyReader
from sidecar.http1 import Field, chunk

_LOW = 4  # the lane may write again once a quarter of its bound is left


class Frames(Protocol):
    """The HTTP/2 connection, as a stream sees it."""

    transport: asyncio.Transport

    def send_head(self, stream: "Stream", status: int, fields: Sequence[Field]) -> None: ...

    def wants_turn(self, stream: "Stream") -> None:
        """The stream has something to send."""
        ...

    def credit(self, stream: "Stream", size: int) -> None:
        """``size`` bytes of the request's body were taken."""
        ...

    def abandon(self, stream: "Stream") -> None:
        """The lane ends the stream before its reply was whole."""
        ...


class Stream(asyncio.Transport):
    """Held at most: the reply's bytes up to the lane's bound plus one write, the request's up to its window.

    ``out``: bytes of the reply that wait for their window; ``ended``: the reply is over once they are out, and
    ``trailers`` follow. ``whole``: the request came to its end.
    """

    def __init__(self, number: int, frames: Frames, method: bytes, *, chunked: bool) -> None:
        super().__init__()
        self.number = number
        self.out = bytearray()
        self.trailers: Sequence[Field] = ()
        self.ended = False
        self.whole = False
        self._frames = frames
        self._chunked = chunked
        self._reader = ReplyReader(self, method)
        self._high = 64 * 1024
        self._full = False
        self._paused = False
        self._waiting: deque[tuple[bytes, int]] = deque()  # of the request's body: data, and what of the window it took
        self._closing = False
        self._protocol: asyncio.Protocol | None = None

    def begin(self, protocol: asyncio.Protocol, head: bytes) -> None:
        """Gives the request's head to the lane's connection."""
        self._protocol = protocol
        protocol.connection_made(self)
        if not self._closing:
            protocol.data_received(head)

    # The frames' side

    def take(self, data: bytes, size: int) -> None:
        """A piece of the request's body; ``size`` is what of the window it took."""
        self._waiting.append((data, size))
        self._pump()

    def finish(self) -> None:
        """The request is complete."""
        self.whole = True
        self._pump()

    def sent(self, size: int) -> None:
        """``size`` bytes of the reply left."""
        del self.out[:size]
        if self._full and len(self.out) * _LOW <= self._high and self._protocol is not None:
            self._full = False
            self._protocol.resume_writing()

    def lost(self) -> None:
        """The stream is over, for whatever reason; the lane's connection ends once."""
        self._closing = True
        protocol, self._protocol = self._protocol, None
        self._waiting.clear()
        if protocol is not None:
            protocol.connection_lost(None)

    def _pump(self) -> None:
        """Gives the lane what it will take. The lane may pause or end us from inside of what it is given."""
        while self._waiting and not self._paused:
            data, size = self._waiting.popleft()
            self._frames.credit(self, size)
            if data:
                self._feed(chunk(data) if self._chunked else data)
        if self.whole and self._chunked and not (self._waiting or self._paused):
            self._chunked = False
            self._feed(b"0\r\n\r\n")

    def _feed(self, data: bytes) -> None:
        if self._protocol is not None and not self._closing:
            self._protocol.data_received(data)

    # The reader's side

    def head(self, status: int, fields: Sequence[Field]) -> None:
        self._frames.send_head(self, status, fields)

    def body(self, data: bytes) -> None:
        self.out += data

    def end(self, trailers: Sequence[Field]) -> None:
        self.trailers = trailers
        self.ended = True

    # The lane's side (asyncio.Transport)

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        if self._closing:
            return
        self._reader.feed(bytes(data))
        if self.out or self.ended:
            self._frames.wants_turn(self)
        if not self._full and len(self.out) > self._high and self._protocol is not None:
            self._full = True
            self._protocol.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high

    def get_write_buffer_size(self) -> int:
        return len(self.out)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        # Not from here: as with a socket, nothing comes while the lane is still at work.
        self._paused = False
        asyncio.get_running_loop().call_soon(self._pump)

    def is_reading(self) -> bool:
        return not self._paused

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing and not self.ended:
            self.abort()

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            self._frames.abandon(self)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As of the socket below, but for the socket itself, whose options are not one stream's to set."""
        if name == HTTP_VERSION:
            return b"2.0"
        return default if name == "socket" else self._frames.transport.get_extra_info(name, default)
