"""One client connection: bytes to exchanges, one after the other, and the bounds on what a client may make us hold."""

import asyncio
from collections import deque
from typing import cast

from sidecar.core.clock import NS_PER_S
from sidecar.core.problems import problem
from sidecar.gateway.exchange import Exchange, Tail
from sidecar.gateway.forwarding import Peer, is_trusted, meet
from sidecar.gateway.handover import Handover
from sidecar.gateway.intake import Intake
from sidecar.gateway.lane import LAST_NS, Lane
from sidecar.gateway.refusals import malformed_problem
from sidecar.gateway.relay import Relay
from sidecar.http1 import Malformed, RequestHead, problem_reply

_LINGER_NS = 2_000_000_000  # how long we read and forget after the last reply, so that it is not lost to a reset


class ClientConnection(asyncio.Protocol):
    """Parses requests with llhttp and lets them run one at a time, in order (RFC 9112, 9.3.2).

    Held per connection at most: one read (256 KiB), ``max_pipelined`` heads, and ``buffer`` bytes each way.
    ``deadline_ns`` (monotonic, 0 is none) ends whatever is being waited for from the client. ``current`` is the
    exchange that has its turn; ``half_closed``: the client will send no more.
    """

    __slots__ = (
        "_ahead",
        "_closing",
        "_error",
        "_handover",
        "_intake",
        "_lane",
        "_lingering",
        "_mark",
        "_paused",
        "_queue",
        "_receiving",
        "_rules",
        "_said",
        "_stalled",
        "_started",
        "current",
        "deadline_ns",
        "half_closed",
        "last_tail",
        "peer",
        "transport",
    )

    transport: asyncio.Transport  # from connection_made on
    peer: Peer

    def __init__(self, lane: Lane, said: str | None = None) -> None:
        """``said``: the client's address as a trusted proxy told it; None: the peer's own."""
        self._lane = lane
        self._said = said
        self._rules = lane.rules
        self._intake = Intake(self, lane.rules.reader, lane.rules.bounds)
        self.current: Exchange | None = None
        self._receiving: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        self._handover: Handover | None = None
        self._error: Malformed | None = None
        self._closing = self._lingering = self._paused = self._stalled = self._started = self.half_closed = False
        self._ahead: bytes | None = None  # what came behind a request for a WebSocket, or behind too many requests
        self.deadline_ns = 0
        self._mark = 0  # bytes of the body that had come when the wait under way began, or were still to be read
        self.last_tail: Tail = (None, None, None, None, b"")

    # The socket's side (asyncio.Protocol)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        lane = self._lane
        self.transport = cast(asyncio.Transport, transport)
        self.peer = meet(transport, self._said, lane.rules.trusted, lane.rules.tls)
        bounds = lane.rules.bounds
        if not lane.entered(self, self.peer.ip):
            self.transport.abort()
            return
        self.transport.set_write_buffer_limits(high=bounds.buffer)
        self.deadline_ns = lane.monotonic_ns() + (LAST_NS if lane.closing else bounds.header_timeout_ns)

    def data_received(self, data: bytes) -> None:
        if self._rules is not self._lane.rules:
            self._use_rules()
        intake = self._intake
        begun = intake.begun
        at, end = 0, len(data)
        while at < end and not (self._lingering or self._error is not None or self.transport.is_closing()):
            if self._ahead is not None or self._full:
                self._hold(data[at:])
                return
            try:
                at = intake.take(data, at)
            except Malformed as error:
                self._broken(error)
            self._advance()
        if intake.begun and not begun:
            self._started = True
            if not self._stalled:
                self.deadline_ns = self._lane.monotonic_ns() + self._rules.bounds.header_timeout_ns

    @property
    def _full(self) -> bool:  # a body that has begun is read on
        return self._receiving is None and len(self._queue) >= self._rules.bounds.max_pipelined

    def _hold(self, data: bytes) -> None:
        self._ahead = (self._ahead or b"") + data
        if self._full or len(self._ahead) > self._rules.bounds.buffer:
            self._pause_reading()

    def _use_rules(self) -> None:
        # A request keeps the rules that it began with; the next one is read by the new ones.
        if not self._intake.begun and self._receiving is None:
            self._rules = rules = self._lane.rules
            self._intake.renew(rules.reader, rules.bounds)
            self.peer.trusted = is_trusted(self.peer.ip, rules.trusted)

    def eof_received(self) -> bool:
        # A half-closed client still reads: its requests are answered, then the connection ends.
        self._closing = self.half_closed = True
        self._lane.turn.settle()  # False closes the transport
        if self._handover is not None:
            return bool(self._handover.eof_received())
        if self._receiving is not None:
            broken, self._receiving = self._receiving, None
            if broken is self.current:
                broken.stop(problem("bad_request", "the request ended before its body was complete"))
            elif broken in self._queue:
                self._queue.remove(broken)  # not answered out of turn: the connection ends after those before it
        return self.current is not None or bool(self._queue) or bool(self._ahead)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lane.left(self, self.peer.ip)
        self.deadline_ns = 0
        self._closing = True
        self._queue.clear()
        if self._handover is not None:
            self._handover.connection_lost(exc)
        if self.current is not None:
            self.current.client_gone()
            self.current = None

    def pause_writing(self) -> None:
        self._stalled = True
        self._wait_for_reader()
        if self._handover is not None:
            self._handover.pause_writing()
        elif self.current is not None:
            self.current.pause_reply()

    def resume_writing(self) -> None:
        self._stalled = False
        self._after_stall()
        if self._handover is not None:
            self._handover.resume_writing()
        elif self.current is not None:
            self.current.resume_reply()

    def _after_stall(self) -> None:
        self.deadline_ns = 0
        if self._lingering or self.transport.is_closing():
            self.deadline_ns = self._lane.monotonic_ns() + _LINGER_NS
        elif self.current is None and self._handover is None:
            self._wait_for_request()
            asyncio.get_running_loop().call_soon(self._advance)
        elif self._receiving is not None and self._receiving is self.current:
            self.wait_for_body()

    def _wait_for_request(self) -> None:
        if not self._stalled:
            bounds = self._rules.bounds
            wait = bounds.header_timeout_ns if self._intake.begun else bounds.keepalive_ns
            self.deadline_ns = self._lane.monotonic_ns() + wait

    # The intake's side

    def head_read(self, head: RequestHead) -> None:
        """A request begins."""
        self._started = True
        self.waiting_over()
        exchange = Exchange(self._lane, self._rules, self, head)
        self._receiving = exchange
        if head.websocket:
            self._ahead = b""
        self._queue.append(exchange)

    def body_read(self, data: bytes) -> None:
        """A piece of the body of the request that was begun last."""
        assert self._receiving is not None
        self._receiving.body(data)

    def request_read(self) -> None:
        """The request that was begun last is complete."""
        receiving, self._receiving = self._receiving, None
        assert receiving is not None
        receiving.body_end()

    # The exchange's side

    def finished(self, exchange: Relay, *, close: bool) -> None:
        """The exchange has written its last byte."""
        if self.current is not exchange:
            return
        self.current = None
        if close or self._lane.closing or (self._closing and not self._queue and not self._ahead):
            self._end(unread=self._receiving is exchange)
            return
        self._wait_for_request()
        if self._paused:
            self.resume_body()
        if self._ahead is not None:
            # There is room again, or the WebSocket stayed HTTP: what came behind is the next request.
            asyncio.get_running_loop().call_soon(self._take_ahead)
        if self._queue or self._error is not None:
            # Not from here: the caller may be inside the upstream's read.
            asyncio.get_running_loop().call_soon(self._advance)

    def _take_ahead(self) -> None:
        if any(e.head.websocket for e in (self.current, *self._queue) if e is not None):
            return  # it is not decided yet
        ahead, self._ahead = self._ahead, None
        if ahead:
            self.data_received(ahead)
        idle = self.current is None and not self._queue and self._ahead is None
        if self.half_closed and idle and not (self._lingering or self.transport.is_closing()):
            self._end(unread=False)

    def begin_tunnel(self) -> bytes:
        """The connection is the tunnel's from now on; returns what came early."""
        early, self._ahead = self._ahead or b"", b""
        self._paused = False
        self.deadline_ns = 0
        return early

    def end_tunnel(self, *, stalled: bool) -> bool:
        """The tunnel is over: what was written goes out, what still comes is read and forgotten. False when the
        connection is closing already, and stays the tunnel's."""
        self.current = None
        self._stalled = stalled
        if self.transport.is_closing():
            return False
        self.transport.set_protocol(self)
        self._paused = True
        self._end(unread=False)
        self._wait_for_reader()
        return True

    def hand_over(self, exchange: Exchange) -> None:
        """Gives this request, and the rest of the connection, to aiohttp."""
        self.deadline_ns = 0
        self._handover = Handover(self._lane.own_paths(), self.transport, exchange.head)

    def handed(self, data: bytes, *, done: bool) -> None:
        """More of the body of the request that was handed over."""
        if self._handover is not None:
            self._handover.body(data, done=done)

    def pause_body(self) -> None:
        """The upstream is slower than the client."""
        self._pause_reading()

    def resume_body(self) -> None:
        """Reads on."""
        if self._paused:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
            if self._receiving is not None:
                self.wait_for_body()

    def wait_for_body(self) -> None:
        """The client owes us more of a body. A wait ends when enough of it came, and the next one begins."""
        receiving = self._receiving
        if receiving is None or self._paused or self._stalled:
            return
        if not self.deadline_ns or receiving.bytes_in - self._mark >= self._share:
            self._mark = receiving.bytes_in
            self.deadline_ns = self._lane.monotonic_ns() + self._rules.bounds.body_timeout_ns

    @property
    def _share(self) -> int:
        """Bytes that must come, or be read, in each ``body_timeout``."""
        bounds = self._rules.bounds
        return bounds.body_rate * bounds.body_timeout_ns // NS_PER_S

    def _wait_for_reader(self) -> None:
        """The client has to read what was written."""
        self._mark = self.transport.get_write_buffer_size()
        self.deadline_ns = self._lane.monotonic_ns() + self._rules.bounds.body_timeout_ns

    def waiting_over(self) -> None:
        """The client owes us nothing now."""
        if not self._stalled:
            self.deadline_ns = 0

    @property
    def stalled(self) -> bool:
        """Whether the client reads slower than we write."""
        return self._stalled

    # The lane's side

    def drain(self) -> None:
        """The process ends: a busy connection closes after its reply, an idle one after a moment or a last reply."""
        if self.current is None and not self._queue and self._handover is None and not self._intake.begun:
            soon = self._lane.monotonic_ns() + LAST_NS
            self.deadline_ns = min(self.deadline_ns or soon, soon)

    def expire(self) -> None:
        """The client took too long."""
        self.deadline_ns = 0
        left = self.transport.get_write_buffer_size()
        unread = left > 0  # by a client that was given its time to do it
        if 0 < left <= self._mark - max(1, self._share) and (self._stalled or self.current is None):
            self._wait_for_reader()  # it reads, if slowly
        elif (
            self._lingering
            or self._stalled
            or self.transport.is_closing()
            or (unread and self.current is None)
            or (self.current is None and not self._started)
        ):
            self.transport.abort()
        elif self._intake.begun:
            self._error = Malformed("request_timeout", "the request's head did not arrive in time")
            self._advance()
        elif self._receiving is not None and self.current is self._receiving:
            self._receiving.stop(problem("request_timeout", "the body did not arrive in time"))
        else:
            self.transport.close()

    def _advance(self) -> None:
        # A client that does not read gets no further reply begun: it would be buffered without a bound.
        while self.current is None and self._handover is None and self._queue and not self._stalled:
            self.waiting_over()
            exchange = self.current = self._queue.popleft()
            exchange.start()
        if (
            self.current is None
            and self._handover is None
            and self._error is not None
            and not (self._closing or self._queue)
        ):
            self._answer_error(self._error)
        elif self._receiving is not None and self._receiving is self.current:
            self.wait_for_body()

    def _broken(self, error: Malformed) -> None:
        self._error = error
        broken = self._receiving
        if broken is not None:
            # The body's framing broke: the request that it belongs to must not look complete to anybody.
            if broken is self.current:
                broken.stop(malformed_problem(error))
            else:
                self._queue.remove(broken)  # it never had its turn: the error is its answer
            self._receiving = None

    def _answer_error(self, error: Malformed) -> None:
        lane = self._lane
        lane.tallies.refuse(None, error.code)
        refusal = malformed_problem(error)
        event_id = lane.unread(self.peer.ip, refusal)
        head_request = self._intake.method == b"HEAD"
        answer = problem_reply(refusal, event_id=event_id, date=lane.date_line(), head_request=head_request, close=True)
        lane.turn.write(self.transport, answer)
        self._end(unread=True)

    def _end(self, *, unread: bool) -> None:
        """Ends the connection; a client that may still send (``unread``: it surely does) is first read and forgotten
        for a moment: a reset would destroy what it has not read (RFC 9112, 9.6). TLS cannot close one half."""
        self._lane.turn.settle()
        self._closing = True
        self._queue.clear()
        unread = unread or (not self.half_closed and self.transport.can_write_eof())
        if not unread or self.transport.is_closing():
            if not self._stalled:
                self._wait_for_reader()
            self.transport.close()
            return
        self._lingering = True
        if self.transport.get_write_buffer_size():
            self._wait_for_reader()
        else:
            self.deadline_ns = self._lane.monotonic_ns() + _LINGER_NS
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    def _pause_reading(self) -> None:
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.waiting_over()
            self.transport.pause_reading()
