"""One connection to a target: requests go out as bytes, replies come back as calls on a ReplySink.

A reply that arrives whole in one read is given whole in one call, so that the client's side needs one write.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final, Protocol, cast

import httptools

from sidecar.core.clock import NS_PER_MS, Clock
from sidecar.core.errors import UpstreamError
from sidecar.core.turns import Turn
from sidecar.http1 import ReplyHead, ReplyMemory, trailer_lines
from sidecar.upstream.replies import ReplyReader, why

# What is used again sooner than this is not looked at first: a look is a system call and 0.9 us.
_WARM_NS: Final = NS_PER_MS


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
        "_clock",
        "_first_byte_ns",
        "_got_bytes",
        "_head",
        "_head_given",
        "_head_request",
        "_idle_ns",
        "_memory",
        "_on_idle",
        "_on_lost",
        "_on_unasked",
        "_poll",
        "_private",
        "_reader",
        "_sink",
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
        on_unasked: Callable[[bytes], None] = lambda data: None,
        private: frozenset[bytes] = frozenset(),
        address: str = "",
    ) -> None:
        self.address = address
        self._clock = clock
        self._first_byte_ns = first_byte_ns
        self._idle_ns = idle_ns
        self._memory = memory
        self._private = private
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._on_unasked = on_unasked
        self._reader = ReplyReader(
            self._interim, max_head_bytes=max_head_bytes, max_headers=max_headers, private=private
        )
        self._sink: ReplySink | None = None
        self._head: ReplyHead | None = None
        self._head_given = self._head_request = self._got_bytes = False
        self._upload_done = True
        self._poll: select.poll | None = None
        self.closed = self.reused = self.stalled = self.upgrading = False
        self.deadline_ns = self.until_ns = 0

    # The exchange's side

    def send(
        self, sink: ReplySink, head: bytes, now_ns: int, turn: Turn, *, head_request: bool, upload_done: bool
    ) -> None:
        """Sends a request head (and what of its body is in ``head``) when the ``turn`` lets it go; replies go to
        ``sink``. ``now_ns``: monotonic."""
        self._sink = sink
        self._head_request = head_request
        self._upload_done = upload_done
        self._head = None
        self._head_given = self._got_bytes = self.upgrading = False
        self.deadline_ns = now_ns + self._first_byte_ns
        self.until_ns = 0
        turn.write(self.transport, head)

    def send_body(self, data: bytes, turn: Turn, *, done: bool) -> None:
        """Sends more of the request's body, already framed. ``turn`` as in ``send``; ``done``: this was the last."""
        if self.closed or self._sink is None:
            return
        if data:
            turn.write(self.transport, data)
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

    def stirs(self, idle_ns: int) -> bool:
        """Whether there is something to read that the loop has not read yet, on a connection that was idle for so long:
        bytes that nobody asked for, or the end. They would be taken for the reply to what is sent next."""
        head = self._head
        # Behind these a careless target sends the body all the same, a moment later.
        bodiless = self._head_request or (head is not None and head.status in (204, 304))
        if idle_ns < _WARM_NS and not bodiless:
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

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
            if not self.closed:
                self.close()  # bytes that nobody asked for never become a reply (RFC 9112, 9.3)
                self._on_unasked(data)
            return
        reader = self._reader
        fresh = not self._got_bytes
        if fresh:
            self._got_bytes = True
            if not self._head_request:
                known = self._memory.recall(data)
                if known is not None:
                    self._take_known(data, *known)
                    return
            reader.begin(head_request=self._head_request, upgrading=self.upgrading)
        try:
            reader.feed(data)
        except (httptools.HttpParserError, ValueError) as error:
            self._fail(UpstreamError("bad_response", why(error)))
            return
        head = self._head = reader.head
        if fresh and not self._head_request and head is not None:
            self._memory.learn(data, head)
        if head is not None:
            self._switched(head) if head.status == 101 else self._deliver(head)

    def _take_known(self, data: bytes, head: ReplyHead, start: int) -> None:
        """The reply begins with a head that was read before: llhttp is not needed."""
        self._head = head
        if len(data) - start == head.length:
            # The usual case, spelled out: the reply is whole.
            sink = self._sink
            self._finish(head.close)
            assert sink is not None
            sink.reply(head, [data[start:]] if head.length else [], True, b"")
        else:
            self._reader.begin_known(head, data[start:])
            self._deliver(head)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        sink, head = self._sink, self._head
        if sink is not None:
            if exc is None and head is not None and head.to_eof:
                self._reader.complete = True
                self._deliver(head)
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

    # Handing over

    def _interim(self, status: int, lines: bytes) -> None:
        if self._sink is not None:
            self._sink.interim(status, lines)

    def _switched(self, head: ReplyHead) -> None:
        sink = self._sink
        assert sink is not None
        self._sink = None
        self.deadline_ns = 0
        sink.switched(head, self._reader.rest)

    def _deliver(self, head: ReplyHead) -> None:
        sink, reader = self._sink, self._reader
        if sink is None:
            return
        body, done, trailers = reader.body, reader.complete, b""
        if body or done:
            reader.body = []
        if done:
            if reader.trailers:
                trailers = trailer_lines(reader.trailers, self._private)
                reader.trailers = []
            self._finish(head.close or reader.extra)
        else:
            self.deadline_ns = self._clock.monotonic_ns() + self._idle_ns
        if not self._head_given:
            self._head_given = True
            sink.reply(head, body, done, trailers)
        elif body or done:
            sink.body_out(body, done, trailers)

    def _finish(self, close: bool) -> None:
        self._sink = None
        self.deadline_ns = 0
        if close or not self._upload_done or self.closed:
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
