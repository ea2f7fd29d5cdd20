"""One connection to a target: requests go out as bytes, replies come back as calls on a ReplySink.

A reply that arrives whole in one read is given whole in one call, so that the client's side needs one write.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

import httptools

from sidecar.core.clock import Clock
from sidecar.core.errors import UpstreamError
from sidecar.http1 import ReplyHead, ReplyMemory, read_reply, switches_to_websocket, trailer_lines

_Field = tuple[bytes, bytes]
# What framing each byte of a chunked body may bring with it, besides itself: a chunk of one byte has five.
_SHARE: Final = 17


class ReplySink(Protocol):
    """Who receives a reply: ``interim``*, then ``reply``, then ``body_out``*; or ``failed`` at any point, last; or
    ``switched`` instead of ``reply``, last, where ``upgrading`` allowed it.

    ``done`` is True in the last call of a complete reply; the connection may then belong to somebody else.
    """

    def interim(self, status: int, lines: bytes) -> None:
        """A 1xx reply other than 100 and 101."""
        ...

    def reply(self, head: ReplyHead, body: list[bytes], done: bool, trailers: bytes) -> None: ...

    def body_out(self, body: list[bytes], done: bool, trailers: bytes) -> None: ...

    def switched(self, head: ReplyHead, early: bytes) -> None:
        """101: from here on the transport is the sink's, and ``early`` came with the head. Whoever takes the transport
        passes its ``connection_lost`` on."""
        ...

    def failed(self, error: UpstreamError, *, replayable: bool) -> None:
        """``replayable``: a kept-alive connection died before a byte of the reply came (RFC 9110, 9.2.2)."""
        ...

    def pause_body(self) -> None:
        """The target takes no more of the request's body for now."""
        ...

    def resume_body(self) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """One connection. ``deadline_ns`` (monotonic) is when the wait under way becomes a failure, ``until_ns`` when the
    exchange does as a whole, 0 for never; the pool sweeps both.

    ``upgrading``: the request that was sent asks for a WebSocket. ``stalled``: the target takes no more for now.
    """

    __slots__ = (
        "_body",
        "_clock",
        "_complete",
        "_fields",
        "_first_byte_ns",
        "_got_bytes",
        "_head",
        "_head_given",
        "_head_request",
        "_head_size",
        "_idle_ns",
        "_left",
        "_limits",
        "_memory",
        "_on_idle",
        "_on_lost",
        "_parser",
        "_plain",
        "_private",
        "_sink",
        "_spoilt",
        "_trailers",
        "_upload_done",
        "address",
        "closed",
        "deadline_ns",
        "reused",
        "stalled",
        "transport",
        "until_ns",
        "upgrading",
    )

    transport: asyncio.Transport  # from connection_made on

    def __init__(
        self,
        clock: Clock,
        *,
        first_byte_ns: int,
        idle_ns: int,
        max_head_bytes: int,
        max_headers: int,
        memory: ReplyMemory,
        on_idle: "Callable[[UpstreamConnection], None]",
        on_lost: "Callable[[UpstreamConnection], None]",
        private: frozenset[bytes] = frozenset(),
        address: str = "",
    ) -> None:
        self.address = address
        self._clock = clock
        self._first_byte_ns = first_byte_ns
        self._idle_ns = idle_ns
        self._limits = (max_head_bytes, max_headers)
        self._memory = memory
        self._private = private
        self._plain = False
        self._left = 0
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._parser: httptools.HttpResponseParser | None = None
        self._sink: ReplySink | None = None
        self._fields: list[_Field] = []
        self._trailers: list[_Field] = []
        self._body: list[bytes] = []
        self._head: ReplyHead | None = None
        self._head_given = self._complete = self._head_request = self._got_bytes = self._spoilt = False
        self._upload_done = True
        self._head_size = 0
        self.closed = self.reused = self.stalled = self.upgrading = False
        self.deadline_ns = self.until_ns = 0

    # The exchange's side

    def send(self, sink: ReplySink, head: bytes, *, head_request: bool, upload_done: bool) -> None:
        """Sends a request head (and what of its body is in ``head``); replies go to ``sink``."""
        self._sink = sink
        self._head_request = head_request
        self._upload_done = upload_done
        self._head = None
        self._head_size = 0
        self._head_given = self._complete = self._got_bytes = self._spoilt = self._plain = self.upgrading = False
        self.deadline_ns = self._clock.monotonic_ns() + self._first_byte_ns
        self.until_ns = 0
        self.transport.write(head)

    def send_body(self, data: bytes, *, done: bool) -> None:
        """Sends more of the request's body, already framed. ``done``: this was the last of it."""
        if self.closed or self._sink is None:
            return
        if data:
            self.transport.write(data)
        if done:
            self._upload_done = True
        # While the request still goes out, the wait for the reply's first byte has not begun.
        if self._head is None:
            self.deadline_ns = self._clock.monotonic_ns() + self._first_byte_ns

    def pause(self) -> None:
        """Stops reading the reply: the client is slow. The idle limit does not run meanwhile."""
        self.deadline_ns = 0
        if not self.closed:
            self.transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if not self.closed:
            self.deadline_ns = self._clock.monotonic_ns() + self._idle_ns
            self.transport.resume_reading()

    def abandon(self) -> None:
        """Ends the exchange under way, if any, without its reply; the connection cannot be used again."""
        self._sink = None
        self.close()

    def close(self) -> None:
        """Closes at once."""
        if not self.closed:
            self.closed = True
            self.deadline_ns = 0
            self.transport.abort()

    def expire(self, now_ns: int) -> None:
        """Fails the exchange under way when its deadline has passed."""
        if self._sink is None:
            return
        if 0 < self.until_ns <= now_ns:
            self._fail(UpstreamError("total_timeout", "the upstream's reply was not complete in time"))
            return
        if not 0 < self.deadline_ns <= now_ns:
            return
        kind = "first_byte_timeout" if self._head is None else "idle_timeout"
        self._fail(UpstreamError(kind, "the upstream did not answer in time"))

    # The socket's side (asyncio.Protocol)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._sink is None:
            self.close()  # bytes that nobody asked for never become a reply (RFC 9112, 9.3)
            return
        if self._plain:
            self._take_body(data)
            return
        fresh = not self._got_bytes
        self._got_bytes = True
        if fresh and not self._head_request:
            known = self._memory.recall(data)
            if known is not None:
                self._take_known(data, *known)
                return
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        try:
            self._parser.feed_data(data)
            head = self._head
            if head is None or head.chunked:
                self._bound_head(len(data))  # llhttp would gather a field, 103s or a trailer without end
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, ValueError) as error:
            if isinstance(error, httptools.HttpParserUpgrade) and self._complete and self.upgrading:
                self._switched(data[error.args[0] :])
                return
            # A complete reply before the garbage is still the reply; the connection is not used again.
            if not self._complete:
                self._fail(UpstreamError("bad_response", _why(error)))
                return
            self._parser = None
            self._spoilt = True
        if fresh and not self._head_request and self._head is not None:
            self._memory.learn(data, self._head)
        self._deliver()

    def _take_known(self, data: bytes, head: ReplyHead, start: int) -> None:
        """The reply begins with a head that was read before: its length alone frames the body, llhttp is not needed."""
        assert head.length is not None
        self._head = head
        self._left = head.length
        self._plain = True
        if len(data) - start == head.length:
            # The usual case, spelled out: the reply is whole.
            sink = self._sink
            self._plain = False
            self._head_given = True
            self._finish(head.close)
            assert sink is not None
            sink.reply(head, [data[start:]] if head.length else [], True, b"")
        else:
            self._take_body(data[start:])

    def _take_body(self, data: bytes) -> None:
        extra = len(data) > self._left
        if extra:
            data = data[: self._left]
        self._left -= len(data)
        if data:
            self._body.append(data)
        if not self._left:
            self._plain = False
            self._complete = True
            self._spoilt = extra  # what follows a complete reply is nobody's (RFC 9112, 9.3)
        self._deliver()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        sink, head = self._sink, self._head
        if sink is not None:
            if exc is None and head is not None and head.to_eof and not self._complete:
                self._complete = True
                self._deliver()
            else:
                self._fail(UpstreamError("reset", "the upstream closed the connection before its reply was complete"))
        self._on_lost(self)

    def pause_writing(self) -> None:
        self.stalled = True
        if self._sink is not None:
            self._sink.pause_body()

    def resume_writing(self) -> None:
        self.stalled = False
        if self._sink is not None:
            self._sink.resume_body()

    # The parser's side (httptools)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._complete:
            raise ValueError("the upstream sent more than one reply")
        if self._head is None:
            self._fields.append((name, value))
            max_bytes, max_headers = self._limits
            if len(self._fields) > max_headers or len(name) + len(value) > max_bytes:
                raise ValueError("the upstream's reply head is too large")
        elif len(self._trailers) < 64:
            self._trailers.append((name, value))

    def _bound_head(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self._limits[0]:
            raise ValueError("the upstream's reply head is too large, or what frames its body")

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        status, fields = parser.get_status_code(), self._fields
        self._fields = []
        version = parser.get_http_version().encode()
        if status < 100:
            raise ValueError("the upstream's status is not one (RFC 9110, 15)")
        if status < 200:
            self._interim(status, version, fields)
            return
        self._head = read_reply(status, version, fields, head_request=self._head_request, private=self._private)
        if sum(len(name) + len(value) for name, value in fields) > self._limits[0]:
            raise ValueError("the upstream's reply head is too large")
        if self._head_request:
            # llhttp cannot be told that the reply to HEAD has no body, so it is made anew for the next reply.
            self._complete = True
            self._parser = None

    def on_body(self, data: bytes) -> None:
        if self._complete:
            raise ValueError("the upstream sent a body where none is allowed")
        self._head_size = max(0, self._head_size - _SHARE * len(data))
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._head is not None:
            self._complete = True

    def _interim(self, status: int, version: bytes, fields: list[_Field]) -> None:
        if status == 101 and not (self.upgrading and switches_to_websocket(fields)):
            raise ValueError("the upstream switched protocols without being asked")
        head = read_reply(status, version, fields, head_request=True, private=self._private)
        if status == 101:
            self._head = head
        elif status != 100 and self._sink is not None:
            self._sink.interim(status, head.block)

    def _switched(self, early: bytes) -> None:
        sink, head = self._sink, self._head
        assert sink is not None and head is not None
        self._sink = None
        self.deadline_ns = 0
        sink.switched(head, early)

    # Handing over

    def _deliver(self) -> None:
        sink, head, done = self._sink, self._head, self._complete
        if sink is None or head is None:
            return
        body, trailers = self._body, b""
        if body or done:
            self._body = []
        if done:
            if self._trailers:
                trailers = trailer_lines(self._trailers, self._private)
                self._trailers = []
            self._finish(head.close)
        else:
            self.deadline_ns = self._clock.monotonic_ns() + self._idle_ns
        if self._head_given:
            if body or done:
                sink.body_out(body, done, trailers)
        else:
            self._head_given = True
            sink.reply(head, body, done, trailers)

    def _finish(self, close: bool) -> None:
        self._sink = None
        self.deadline_ns = 0
        if close or self._spoilt or not self._upload_done or self.closed:
            # An upload that is not over would be read as the next request's head.
            self.close()
        else:
            self.reused = True
            self._on_idle(self)

    def _fail(self, error: UpstreamError) -> None:
        sink, self._sink = self._sink, None
        replayable = self.reused and not self._got_bytes and error.kind == "reset"
        self.close()
        if sink is not None:
            sink.failed(error, replayable=replayable)


def _why(error: BaseException) -> str:
    cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) and error.__context__ else error
    if isinstance(cause, httptools.HttpParserUpgrade):
        return "the upstream switched protocols without being asked"
    return str(cause) if isinstance(cause, ValueError) else f"the upstream's reply is not HTTP: {cause}"
