"""One reply out of bytes, to the byte: llhttp reads heads, each in one piece; the body is framed here."""

import re
from collections.abc import Callable
from typing import Final

import httptools

from sidecar.http1 import ChunkReader, Field, ReplyHead, read_reply, switches_to_websocket

_BEGIN: Final = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [0-9]{3}(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")  # RFC 9112, 4
_END: Final = b"\r\n\r\n"


class BadReply(ValueError):
    """What the upstream sent is no reply to what it was asked."""


class ReplyReader:
    """Reads one reply after the other, each begun by ``begin`` or ``begin_known``.

    ``head`` once it is there; ``body`` is what came since it was last taken; ``complete`` when all of it came, and
    ``extra`` when more came than that (RFC 9112, 9.3: it is nobody's). After a 101 ``rest`` is what came behind it.
    ``interim`` is called with each other 1xx. Held: ``max_head_bytes`` of heads, and of what frames a body.
    """

    __slots__ = (
        "_chunks",
        "_fields",
        "_head_request",
        "_head_size",
        "_interim",
        "_judged",
        "_left",
        "_max_bytes",
        "_max_headers",
        "_parser",
        "_partial",
        "_private",
        "_upgrading",
        "body",
        "complete",
        "extra",
        "head",
        "rest",
        "trailers",
    )

    def __init__(
        self,
        interim: Callable[[int, bytes], None],
        *,
        max_head_bytes: int,
        max_headers: int,
        private: frozenset[bytes],
    ) -> None:
        self._interim = interim
        self._max_bytes = max_head_bytes
        self._max_headers = max_headers
        self._private = private
        self._parser: httptools.HttpResponseParser | None = None
        self._fields: list[Field] = []
        self._partial = bytearray()
        self._chunks: ChunkReader | None = None
        self._head_size = self._left = 0
        self._head_request = self._upgrading = self._judged = False
        self.head: ReplyHead | None = None
        self.body: list[bytes] = []
        self.trailers: list[Field] = []
        self.rest = b""
        self.complete = self.extra = False

    def begin(self, *, head_request: bool, upgrading: bool) -> None:
        """The next reply is to HEAD, or to a request for a WebSocket, or neither."""
        self._head_request = head_request
        self._upgrading = upgrading
        self._head_size = 0
        self.head = None
        self.complete = self.extra = False

    def begin_known(self, head: ReplyHead, data: bytes) -> None:
        """The next reply begins with a head that was read before and has a length; ``data`` is behind it."""
        assert head.length is not None
        self.head = head
        self.complete = self.extra = False
        self._left = head.length
        self._take_length(data)

    def feed(self, data: bytes) -> None:
        """Reads on. BadReply or an error of httptools: nothing of it can be trusted."""
        head = self.head
        if head is None:
            data = self._read_heads(data)
            head = self.head
            if head is None:
                return
            if head.status == 101:
                self.rest = data
                return
            if self._head_request or head.status in (204, 304) or head.length == 0:
                self.complete = True
                self.extra = bool(data)
                return
            if head.chunked:
                self._chunks = ChunkReader(self._max_bytes)
            elif head.length is not None:
                self._left = head.length
        if self._chunks is not None:
            self._take_chunks(self._chunks, data)
        elif head.length is not None:
            self._take_length(data)
        elif data:
            self.body.append(data)

    def _take_length(self, data: bytes) -> None:
        if len(data) > self._left:
            self.extra = True
            data = data[: self._left]
        self._left -= len(data)
        if data:
            self.body.append(data)
        if not self._left:
            self.complete = True

    def _take_chunks(self, chunks: ChunkReader, data: bytes) -> None:
        end = chunks.feed(data, 0)
        self.body += chunks.body
        if chunks.done:
            self.complete = True
            self.extra = end < len(data)
            self.trailers = chunks.trailers
            self._chunks = None

    # Heads

    def _read_heads(self, data: bytes) -> bytes:
        """Takes heads off what came until one is the reply's; returns what is behind it."""
        partial = self._partial
        seen = len(partial)
        partial += data
        while (end := partial.find(_END, max(0, seen - 3))) >= 0:
            seen = 0
            head = bytes(partial[: end + 4])
            del partial[: end + 4]
            self._head_size += len(head)
            self._bound(0)
            self._read_head(head)
            if self.head is not None:
                rest = bytes(partial)
                self._partial = bytearray()
                return rest
        self._judge_partial(seen)
        return b""

    def _judge_partial(self, seen: int) -> None:
        """Refuses at once what no further bytes can mend; ``seen``: of how many bytes that is known already."""
        partial = self._partial
        if not partial.startswith(_BEGIN[: len(partial)]):
            raise BadReply("the upstream's reply is not HTTP/1.1")
        at = seen - 1 if seen and partial[seen - 1] == 13 else seen
        if partial.count(b"\n", at) != partial.count(b"\r\n", at):
            raise BadReply("a line of the upstream's reply ends without CRLF")
        self._bound(len(partial))

    def _bound(self, size: int) -> None:
        # llhttp would gather a field, or 103s, without end.
        if self._head_size + size > self._max_bytes:
            raise BadReply("the upstream's reply head is too large")

    def _read_head(self, head: bytes) -> None:
        if _STATUS_LINE.match(head) is None:
            raise BadReply("the upstream's reply does not begin with a status line of HTTP/1.1")
        parser = self._parser = httptools.HttpResponseParser(self)
        self._judged = False
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # 101, which was judged where the head is
        finally:
            self._parser = None  # it waits for a body, which is not its business
        if not self._judged:
            raise BadReply("the upstream's reply head does not end where it seems to")

    # The parser's side (httptools)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))
        if len(self._fields) > self._max_headers:
            raise BadReply("the upstream's reply has too many header fields")

    def on_headers_complete(self) -> None:
        parser, fields = self._parser, self._fields
        assert parser is not None
        status, version = parser.get_status_code(), parser.get_http_version().encode()
        self._fields = []
        if self._judged:
            raise BadReply("the upstream sent more than one head where one seems to be")
        self._judged = True
        if status < 100:
            raise BadReply("the upstream's status is not one (RFC 9110, 15)")
        if status == 101 and not (self._upgrading and switches_to_websocket(fields)):
            raise BadReply("the upstream switched protocols without being asked")
        bodiless = self._head_request or status < 200
        head = read_reply(status, version, fields, head_request=bodiless, private=self._private)
        if status >= 200 or status == 101:
            self.head = head
        elif status != 100:
            self._interim(status, head.block)


def why(error: BaseException) -> str:
    """What is wrong with a reply, for its 502."""
    cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) and error.__context__ else error
    return str(cause) if isinstance(cause, ValueError) else f"the upstream's reply is not HTTP: {cause}"
