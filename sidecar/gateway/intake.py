"""Bytes to requests: llhttp reads heads, each in one piece; bodies are framed here, to the byte."""

import re
from typing import Final, Protocol

import httptools

from sidecar.core.policy import ClientBounds
from sidecar.gateway.refusals import malformed
from sidecar.http1 import BadChunks, ChunkReader, Field, Malformed, RequestHead, RequestReader

_END: Final = b"\r\n\r\n"
# RFC 9112, 3: a method (a token), one space, a target, one space, a version.
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/([0-9])\.([0-9])")
_BEGIN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]|\r\Z")
# RFC 9110, 5.5: what stands behind a value is no part of it. Only behind something: a line of nothing else is no end.
_BEHIND = re.compile(rb"(?<=[!-~\x80-\xff])[ \t]+\r\n")
# llhttp knows the registered methods only, and takes some of them for other protocols (SOURCE, DESCRIBE, PRI). All but
# these pass under a borrowed name (RFC 9110, 9.1).
_KNOWN: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE"})
_LONGEST_METHOD: Final = 64


class Requests(Protocol):
    """Who gets what was read. Each request is ``head_read``, then ``body_read``*, then ``request_read``."""

    def head_read(self, head: RequestHead) -> None: ...
    def body_read(self, data: bytes) -> None: ...
    def request_read(self) -> None: ...


class Intake:
    """The reading half of a client connection.

    A head is held until it is whole and judged in one piece, so that each is judged the same however the network split
    or joined it; what is wrong with its first line, or with how its lines end, is said at once. ``begun`` says that
    part of a head is here; ``method`` is of the head that was judged last, empty where it has none. Held:
    ``max_request_line`` and ``max_header_bytes`` of a head, and the read that went over.
    """

    __slots__ = (
        "_chunks",
        "_field_bytes",
        "_fields",
        "_head",
        "_last",
        "_last_head",
        "_left",
        "_owner",
        "_parser",
        "_partial",
        "_url",
        "bounds",
        "method",
        "reader",
    )

    def __init__(self, owner: Requests, reader: RequestReader, bounds: ClientBounds) -> None:
        self._owner = owner
        self.reader = reader
        self.bounds = bounds
        self._parser = httptools.HttpRequestParser(self)
        self._fields: list[Field] = []
        self._url = b""
        self.method = b""
        self._partial = bytearray()
        self._field_bytes = 0
        self._left = 0  # bytes of a body that are still to come
        self._chunks: ChunkReader | None = None
        self._head: RequestHead | None = None
        self._last = b""  # the request before, where it was a head alone and a remembered one: many clients repeat it
        self._last_head: RequestHead | None = None

    def renew(self, reader: RequestReader, bounds: ClientBounds) -> None:
        """What holds from the next request on."""
        self.reader, self.bounds = reader, bounds
        self._last, self._last_head = b"", None

    @property
    def begun(self) -> bool:
        """Whether a head has begun and is not complete."""
        return bool(self._partial)

    def take(self, data: bytes, at: int) -> int:
        """Reads on from ``at``, at most to the end of one message; returns how far it went. Malformed: the connection
        is beyond use."""
        if self._left:
            return self._take_length(data, at)
        if self._chunks is not None:
            return self._take_chunks(self._chunks, data, at)
        if not self._partial:
            while data.startswith(b"\r\n", at):
                at += 2  # RFC 9112, 2.2: empty lines before a request are ignored
            end = data.find(_END, at)
            if end >= 0:
                end += 4
                self._take_head(data[at:end])
                return end
        return self._take_more(data, at)

    # The body

    def _take_length(self, data: bytes, at: int) -> int:
        end = min(at + self._left, len(data))
        self._left -= end - at
        self._owner.body_read(data[at:end])
        if not self._left:
            self._owner.request_read()
        return end

    def _take_chunks(self, chunks: ChunkReader, data: bytes, at: int) -> int:
        try:
            at = chunks.feed(data, at)
        except BadChunks as error:
            code = "headers_too_large" if error.large else "bad_request"
            raise Malformed(code, f"{error} (RFC 9112, 7.1)") from None
        if chunks.body:
            self._owner.body_read(chunks.body[0] if len(chunks.body) == 1 else b"".join(chunks.body))
        if chunks.done:
            self._chunks = None
            self._owner.request_read()
        return at

    # The head

    def _take_more(self, data: bytes, at: int) -> int:
        """A piece of a head."""
        partial = self._partial
        start = at - len(partial)  # where in ``data`` the head would begin, if all of it were there
        judged = len(partial)
        if not judged:
            self.method = b""
        partial += data[at:]
        while partial.startswith(b"\r\n"):
            del partial[:2]
            start += 2
            judged = 0
        end = partial.find(_END, max(0, judged - 3))
        if end < 0:
            if partial:
                self._judge_partial(judged)
            return len(data)
        end += 4
        self._partial = bytearray()
        self._take_head(bytes(partial[:end]))
        return start + end

    def _judge_partial(self, judged: int) -> None:
        """Refuses at once what no further bytes can mend; ``judged``: of how many bytes that is known already."""
        partial, bounds = self._partial, self.bounds
        if _BEGIN.match(partial) is None:
            raise Malformed("bad_request", "the request does not begin with a method")
        end = partial.find(b"\r\n")
        if end >= 0:
            if judged <= end + 1:
                self._judge_line(bytes(partial), end)
        elif len(partial) > bounds.max_request_line:
            raise Malformed("uri_too_long", "the request's address is longer than this server reads")
        at = judged - 1 if judged and partial[judged - 1] == 13 else judged
        if partial.count(b"\n", at) != partial.count(b"\r\n", at):
            raise Malformed("bad_request", "a line ends without CRLF (RFC 9112, 2.2)")
        self._bound_head(len(partial))

    def _judge_line(self, head: bytes, end: int) -> bytes:
        """The method of the request line, which ends at ``end``."""
        if end > self.bounds.max_request_line:
            raise Malformed("uri_too_long", "the request's address is longer than this server reads")
        match = _LINE.fullmatch(head, 0, end)
        if match is None:
            raise Malformed("bad_request", "the request line is not a method, a target and a version (RFC 9112, 3)")
        method, _, major, minor = match.groups()
        self.method = method
        if major != b"1" or minor > b"1":
            raise Malformed("version_not_supported", "the version of HTTP spoken here is 1.1, and 1.0 is understood")
        if method == b"CONNECT":
            raise Malformed("method_not_allowed", "CONNECT is not offered here; this is not a forward proxy")
        if len(method) > _LONGEST_METHOD:
            raise Malformed("not_implemented", f"a method has at most {_LONGEST_METHOD} characters")
        return method

    def _bound_head(self, size: int) -> None:
        bound = self.bounds.max_header_bytes + self.bounds.max_request_line
        if size > bound:
            raise Malformed("headers_too_large", f"the request's head is larger than {bound} bytes")

    def _take_head(self, piece: bytes) -> None:
        """A whole head: what it says decides what is read after it."""
        if len(piece) <= self.bounds.max_request_line:
            known = self._last_head if piece == self._last else self.reader.recall(piece)
            if known is not None:
                self._last, self._last_head = piece, known
                self._owner.head_read(known)
                self._owner.request_read()
                return
        self.method = b""
        method = self._judge_line(piece, piece.find(b"\r\n"))
        self._bound_head(len(piece))
        lent = method not in _KNOWN
        head = self._parsed(b"POST" + piece[len(method) :] if lent else piece)
        if head.length:
            self._left = head.length
        elif head.chunked:
            self._chunks = ChunkReader(self.bounds.max_header_bytes)
        if head.has_body:
            self._parser = httptools.HttpRequestParser(self)  # it waits for the body
            self._owner.head_read(head)
            return
        if not lent:
            self.reader.learn(piece, head)
        self._owner.head_read(head)
        self._owner.request_read()

    def _parsed(self, piece: bytes) -> RequestHead:
        if b"\t" in piece:
            piece = _BEHIND.sub(b"\r\n", piece)  # llhttp takes a space there, and a tab not always
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # The Upgrade is ours to decide about, and what follows is read as HTTP until it is decided.
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError as error:
            raise malformed(error) from None
        head, self._head = self._head, None
        if head is None:
            raise Malformed("bad_request", "the request's head does not end where it seems to")
        return head

    # The parser's side (httptools)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))
        self._field_bytes += len(name) + len(value) + 4
        if self._field_bytes > self.bounds.max_header_bytes or len(self._fields) > self.bounds.max_headers:
            raise Malformed("headers_too_large", "the header fields are larger or more than this server reads")

    def on_headers_complete(self) -> None:
        fields, url = self._fields, self._url
        self._fields = []
        self._url = b""
        self._field_bytes = 0
        if self._head is not None:
            raise Malformed("bad_request", "there is more than one head where one seems to be")
        self._head = self.reader.read(self.method, url, self._parser.get_http_version().encode(), fields)
