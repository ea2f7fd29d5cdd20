"""Bytes to requests: llhttp, fed one message at a time, and the bounds on what a client may make us read of a head."""

import re
from typing import Protocol

import httptools

from sidecar.core.policy import ClientBounds
from sidecar.gateway.refusals import malformed
from sidecar.http1 import Field, Malformed, RequestHead, RequestReader

# A method that llhttp may not know (RFC 9110, 9.1): a token, then the one space of a request line.
_METHOD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) (?=/|\*|http)")
_END = b"\r\n\r\n"


class Requests(Protocol):
    """Who gets what was read. Each request is ``head_read``, then ``body_read``*, then ``request_read``."""

    def head_read(self, head: RequestHead) -> None: ...
    def body_read(self, data: bytes) -> None: ...
    def request_read(self) -> None: ...


class Intake:
    """The reading half of a client connection.

    A read is cut where a message may end (an empty line, or the length of a body), so that llhttp never begins a
    message in the middle of what it is fed: each one is judged the same however the network split or joined it.
    ``begun`` says that part of a head is here. Held: at most ``max_request_line`` bytes of a first line.
    """

    __slots__ = (
        "_field_bytes",
        "_fields",
        "_head_bytes",
        "_in_head",
        "_left",
        "_method",
        "_owner",
        "_parser",
        "_partial",
        "_reading",
        "_tail",
        "_url",
        "_whole",
        "bounds",
        "reader",
    )

    def __init__(self, owner: Requests, reader: RequestReader, bounds: ClientBounds) -> None:
        self._owner = owner
        self.reader = reader
        self.bounds = bounds
        self._parser = httptools.HttpRequestParser(self)
        self._fields: list[Field] = []
        self._url = b""
        self._method = b""
        self._partial = b""
        self._tail = b""
        self._head_bytes = 0
        self._field_bytes = 0
        self._left = 0
        self._in_head = False
        self._reading: RequestHead | None = None
        self._whole: RequestHead | None = None

    @property
    def begun(self) -> bool:
        """Whether a head has begun and is not complete."""
        return self._in_head or bool(self._partial)

    def take(self, data: bytes) -> bytes:
        """Reads at most one message of ``data``; returns what is left. Malformed: the connection is beyond use."""
        fresh = not self._in_head and self._reading is None
        if fresh:
            if not self._partial and len(data) <= self.bounds.max_request_line:
                known = self.reader.recall(data)
                if known is not None:
                    self._owner.head_read(known)
                    self._owner.request_read()
                    return b""
            data = self._first_line(data)
            if not data:
                return b""
        end = self._cut(data)
        piece, rest = (data, b"") if end >= len(data) else (data[:end], data[end:])
        self._tail = piece[-3:] if len(piece) > 2 else (self._tail + piece)[-3:]
        try:
            self._feed(piece, fresh)
        except httptools.HttpParserUpgrade as upgrade:
            # The Upgrade is not forwarded, so what follows is the next request.
            self._parser = httptools.HttpRequestParser(self)
            rest = piece[upgrade.args[0] :] + rest
        except httptools.HttpParserError as error:
            raise malformed(error) from None
        return rest

    def _first_line(self, data: bytes) -> bytes:
        """Holds what comes until the request line is whole."""
        data = (self._partial + data).lstrip(b"\r\n")  # RFC 9112, 2.2: empty lines before a request are ignored
        self._partial = self._tail = b""
        end, bound = data.find(b"\r\n"), self.bounds.max_request_line
        if end > bound or (end < 0 and len(data) > bound):
            raise Malformed("uri_too_long", "the request's address is longer than this server reads")
        if end < 0:
            self._partial = data
            return b""
        if data.count(b" ", 0, end) > 2:
            raise Malformed("bad_request", "the request line has more than two spaces (RFC 9112, 3)")
        return data

    def _cut(self, data: bytes) -> int:
        """Where the message that is being read may end; the end of ``data`` when it cannot end before."""
        if self._left:
            return self._left
        found = (self._tail + data).find(_END) if self._tail else data.find(_END)
        end = len(data) if found < 0 else found + 4 - len(self._tail)
        if self._in_head or self._reading is None:
            # llhttp has no bound of its own: the bytes of a head are counted here.
            self._head_bytes += end
            bound = self.bounds.max_header_bytes + self.bounds.max_request_line
            if self._head_bytes > bound:
                raise Malformed("headers_too_large", f"the request's head is larger than {bound} bytes")
        return end

    def _feed(self, data: bytes, fresh: bool) -> None:
        """llhttp knows the registered methods only; another well-formed one passes under a borrowed name."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserInvalidMethodError:
            match = _METHOD.match(data)
            if not fresh or match is None:
                raise
            self._parser = httptools.HttpRequestParser(self)
            self._method = match[1]
            self._parser.feed_data(b"POST" + data[match.end(1) :])
        if fresh and self._whole is not None:
            self.reader.learn(data, self._whole)  # the piece was one message, from its first byte to its last

    # The parser's side (httptools)

    def on_message_begin(self) -> None:
        self._in_head = True
        self._whole = None

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: dropped (RFC 9110, 6.5.1)
        self._fields.append((name, value))
        self._field_bytes += len(name) + len(value) + 4
        if self._field_bytes > self.bounds.max_header_bytes or len(self._fields) > self.bounds.max_headers:
            raise Malformed("headers_too_large", "the header fields are larger or more than this server reads")

    def on_headers_complete(self) -> None:
        parser, fields, url = self._parser, self._fields, self._url
        method = self._method or parser.get_method()
        self._fields = []
        self._url = self._method = b""
        self._head_bytes = self._field_bytes = 0
        self._in_head = False
        head = self.reader.read(method, url, parser.get_http_version().encode(), fields)
        self._reading = head
        self._left = head.length or 0
        self._owner.head_read(head)

    def on_body(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        self._owner.body_read(data)

    def on_message_complete(self) -> None:
        self._whole, self._reading = self._reading, None
        self._tail = b""
        self._owner.request_read()
