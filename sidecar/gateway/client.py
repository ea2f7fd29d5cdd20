"""One client connection: bytes to exchanges, one after the other, and the bounds on what a client may make us hold."""

import asyncio
import re
from collections import deque
from typing import cast

import httptools

from sidecar.core.problems import problem
from sidecar.gateway.accounts import Account
from sidecar.gateway.exchange import Exchange
from sidecar.gateway.forwarding import Peer, is_trusted
from sidecar.gateway.handover import Handover
from sidecar.gateway.lane import Lane
from sidecar.gateway.relay import Relay
from sidecar.http1 import Malformed, RequestHead, problem_reply
from sidecar.upstream import TargetPool

_LINGER_NS = 2_000_000_000  # how long we read and forget after a refusal, so that it is not lost to a reset
# A method that llhttp may not know (RFC 9110, 9.1): a token, then the one space of a request line.
_METHOD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) (?=/|\*|http)")


class ClientConnection(asyncio.Protocol):
    """Parses requests with llhttp and lets them run one at a time, in order (RFC 9112, 9.3.2).

    Held per connection at most: one read (256 KiB), ``max_pipelined`` heads, and ``buffer`` bytes each way.
    ``deadline_ns`` (monotonic, 0 is none) ends whatever is being waited for from the client.
    """

    __slots__ = (
        "_closing",
        "_current",
        "_error",
        "_field_bytes",
        "_fields",
        "_handover",
        "_head_bytes",
        "_in_head",
        "_lane",
        "_lingering",
        "_method",
        "_parser",
        "_paused",
        "_queue",
        "_receiving",
        "_stalled",
        "_started",
        "_url",
        "deadline_ns",
        "last_tail",
        "peer",
        "transport",
    )

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._parser = httptools.HttpRequestParser(self)
        self._fields: list[tuple[bytes, bytes]] = []
        self._url = self._method = b""
        self._head_bytes = self._field_bytes = 0
        self._current: Exchange | None = None
        self._receiving: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        self._handover: Handover | None = None
        self._error: Malformed | None = None
        self._closing = self._lingering = self._in_head = self._paused = self._stalled = self._started = False
        self.deadline_ns = 0
        self.last_tail: tuple[bytes, Account | None, TargetPool | None, bytes] = (b"?", None, None, b"")
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.peer: Peer = cast(Peer, None)

    # The socket's side (asyncio.Protocol)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        lane = self._lane
        self.transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        ip = name[0] if isinstance(name, tuple) else "unix"
        tls = transport.get_extra_info("sslcontext") is not None
        self.peer = Peer(ip, trusted=is_trusted(ip, lane.trusted), tls=tls)
        bounds = lane.rules.bounds
        held = lane.per_ip.get(ip, 0)
        lane.per_ip[ip] = held + 1
        if len(lane.connections) >= bounds.max_connections or held >= bounds.max_connections_per_ip:
            self.transport.abort()
            return
        lane.connections.add(self)
        self.transport.set_write_buffer_limits(high=bounds.buffer)
        self.deadline_ns = lane.monotonic_ns() + bounds.header_timeout_ns

    def data_received(self, data: bytes) -> None:
        if self._lingering or self._error is not None:
            return
        fresh = not self._in_head and self._receiving is None
        if fresh and self._current is None and self._handover is None:
            head = self._lane.rules.reader.recall(data)
            if head is not None:
                self._take_known(head)
                return
        if self._in_head or fresh:
            if self._head_too_large(data):
                return
            if fresh and data.count(b" ", 0, data.find(b"\r\n")) > 2:
                self._error = Malformed("bad_request", "the request line has more than two spaces (RFC 9112, 3)")
                self._advance()
                return
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade as upgrade:
            # The request was not one to us (the Upgrade is not forwarded): what follows is the next request.
            self._parser = httptools.HttpRequestParser(self)
            self._advance()
            rest = data[upgrade.args[0] :]
            if rest:
                self.data_received(rest)
            return
        except (httptools.HttpParserError, Malformed) as error:
            self._refuse_bytes(error)
        else:
            if fresh and len(self._queue) == 1 and self._receiving is None and not self._in_head:
                self._lane.rules.reader.learn(data, self._queue[0].head)
        self._advance()

    def _take_known(self, head: RequestHead) -> None:
        """One whole request whose header block was read before: no parser is needed."""
        self._started = True
        self.deadline_ns = 0
        exchange = self._current = Exchange(self._lane, self._lane.rules, self, head)
        exchange.upload_done = True
        exchange.start()

    def eof_received(self) -> bool:
        # A half-closed client still reads: its requests are answered, then the connection ends.
        self._closing = True
        if self._handover is not None:
            return bool(self._handover.eof_received())
        if self._receiving is not None:
            broken, self._receiving = self._receiving, None
            broken.stop(problem("bad_request", "the request ended before its body was complete"))
        return self._current is not None or bool(self._queue)

    def connection_lost(self, exc: Exception | None) -> None:
        lane, ip = self._lane, self.peer.ip
        lane.left(self)
        if lane.per_ip[ip] <= 1:
            del lane.per_ip[ip]
        else:
            lane.per_ip[ip] -= 1
        self.deadline_ns = 0
        self._closing = True
        self._queue.clear()
        if self._handover is not None:
            self._handover.connection_lost(exc)
        if self._current is not None:
            self._current.client_gone()
            self._current = None

    def pause_writing(self) -> None:
        self._stalled = True
        self.deadline_ns = self._lane.monotonic_ns() + self._lane.rules.bounds.body_timeout_ns
        if self._handover is not None:
            self._handover.pause_writing()
        elif self._current is not None:
            self._current.pause_reply()

    def resume_writing(self) -> None:
        self._stalled = False
        self.deadline_ns = 0
        if self._handover is not None:
            self._handover.resume_writing()
        elif self._current is not None:
            self._current.resume_reply()

    def _feed(self, data: bytes) -> None:
        """llhttp knows the registered methods only; another well-formed one passes under a borrowed name."""
        fresh = not self._in_head and self._receiving is None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserInvalidMethodError:
            match = _METHOD.match(data)
            if not fresh or match is None or self._queue:
                raise
            self._parser = httptools.HttpRequestParser(self)
            self._method = match[1]
            self._parser.feed_data(b"POST" + data[match.end(1) :])

    # The parser's side (httptools)

    def on_message_begin(self) -> None:
        self._in_head = True
        self._started = True
        self.deadline_ns = self._lane.monotonic_ns() + self._lane.rules.bounds.header_timeout_ns

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > self._lane.rules.bounds.max_request_line:
            raise Malformed("uri_too_long", "the request's address is longer than this server reads")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._fields.append((name, value))
            self._field_bytes += len(name) + len(value) + 4
            if self._field_bytes > self._lane.rules.bounds.max_header_bytes:
                raise Malformed("headers_too_large", "the header fields are larger than this server reads")
        # Otherwise it is a trailer: dropped (RFC 9110, 6.5.1).

    def on_headers_complete(self) -> None:
        bounds = self._lane.rules.bounds
        parser, fields, url = self._parser, self._fields, self._url
        self._in_head = False
        self._head_bytes = self._field_bytes = 0
        self._fields = []
        self._url = b""
        self.deadline_ns = 0
        if len(fields) > bounds.max_headers:
            raise Malformed("headers_too_large", f"there are more than {bounds.max_headers} header fields")
        rules = self._lane.rules
        method, self._method = self._method or parser.get_method(), b""
        head = rules.reader.read(method, url, parser.get_http_version().encode(), fields)
        exchange = Exchange(self._lane, rules, self, head)
        self._receiving = exchange
        self._queue.append(exchange)
        if len(self._queue) > bounds.max_pipelined:
            self._pause_reading()

    def on_body(self, data: bytes) -> None:
        receiving = self._receiving
        assert receiving is not None
        receiving.body(data)

    def on_message_complete(self) -> None:
        receiving = self._receiving
        assert receiving is not None
        self._receiving = None
        receiving.body_end()

    # The exchange's side

    def finished(self, exchange: Relay, *, close: bool) -> None:
        """The exchange has written its last byte."""
        if self._current is not exchange:
            return
        self._current = None
        if close or self._lane.closing or (self._closing and not self._queue):
            self._end(unread=self._receiving is exchange)
            return
        self.deadline_ns = self._lane.monotonic_ns() + self._lane.rules.bounds.keepalive_ns
        if self._paused:
            self.resume_body()
        if self._queue or self._error is not None:
            # Not from here: the caller may be inside the upstream's read.
            asyncio.get_running_loop().call_soon(self._advance)

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
        """The client owes us more of a body: from now, silence has a bound."""
        if not self._paused and not self._stalled:
            self.deadline_ns = self._lane.monotonic_ns() + self._lane.rules.bounds.body_timeout_ns

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
        """The process ends: an idle connection closes now, a busy one after its reply."""
        self._closing = True
        if self._current is None and not self._queue and self._handover is None:
            self.transport.close()

    def expire(self) -> None:
        """The client took too long."""
        self.deadline_ns = 0
        if self._lingering or self._stalled or (self._current is None and not self._started):
            self.transport.abort()
        elif self._in_head:
            self._error = Malformed("request_timeout", "the request's head did not arrive in time")
            self._advance()
        elif self._receiving is not None and self._current is self._receiving:
            self._receiving.stop(problem("request_timeout", "the body did not arrive in time"))
        else:
            self.transport.close()

    def _advance(self) -> None:
        while self._current is None and self._handover is None and self._queue:
            exchange = self._current = self._queue.popleft()
            exchange.start()
        if self._current is None and self._handover is None and self._error is not None and not self._closing:
            self._answer_error(self._error)
        elif self._receiving is not None and self._receiving is self._current:
            self.wait_for_body()

    def _head_too_large(self, data: bytes) -> bool:
        # llhttp has no bound of its own: bytes that come before a head is complete are counted here, and the fields of
        # each head as they are read.
        bounds = self._lane.rules.bounds
        end = data.find(b"\r\n\r\n")
        self._head_bytes += len(data) if end < 0 else end
        bound = bounds.max_header_bytes + bounds.max_request_line
        if self._head_bytes > bound:
            self._error = Malformed("headers_too_large", f"the request's head is larger than {bound} bytes")
            self._advance()
            return True
        return False

    def _refuse_bytes(self, error: Exception) -> None:
        if isinstance(error, httptools.HttpParserCallbackError) and isinstance(error.__context__, Malformed):
            error = error.__context__
        if isinstance(error, Malformed):
            self._error = error
        else:
            self._error = _named(error)
        broken = self._receiving
        if broken is not None and not self._in_head:
            # The body's framing broke: the request that it belongs to must not look complete to anybody.
            self._receiving = None
            if broken is self._current:
                broken.stop(problem(self._error.code, self._error.detail))
            else:
                self._queue.remove(broken)  # it never had its turn: the error is its answer

    def _answer_error(self, error: Malformed) -> None:
        lane = self._lane
        lane.tallies.refuse(None, error.code)
        extra = (
            (("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),) if error.code == "method_not_allowed" else ()
        )
        refusal = problem(error.code, error.detail, headers=extra)
        event_id = lane.ids.next(lane.wall_ns())
        self.transport.write(
            problem_reply(refusal, event_id=event_id, date=lane.date_line(), head_request=False, close=True)
        )
        self._end(unread=True)

    def _end(self, *, unread: bool) -> None:
        """Ends the connection; with unread bytes under way, after reading and forgetting them for a moment."""
        self._closing = True
        self._queue.clear()
        if not unread or self.transport.is_closing():
            self.transport.close()
            return
        self._lingering = True
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


def _named(error: Exception) -> Malformed:
    text = str(error)
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return Malformed("bad_request", "the request does not begin with a method")
    if "version" in text.lower():
        return Malformed("version_not_supported", "the version of HTTP spoken here is 1.1, and 1.0 is understood")
    if "transfer-encoding" in text.lower() and "content-length" not in text.lower():
        return Malformed("not_implemented", "the only transfer coding is chunked (RFC 9112, 6.1)")
    return Malformed("bad_request", f"the request is not HTTP/1.1: {text}")
