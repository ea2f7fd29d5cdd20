"""What the lane writes for one request, read back: interim heads, the head, the body, trailers, the end."""

from collections.abc import Sequence
from typing import Protocol

import httptools

from sidecar.http1 import Field

# Fields of a connection of HTTP/1.1 that mean nothing in HTTP/2 (RFC 9113, 8.2.2).
_CONNECTION = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})


class Replies(Protocol):
    """Who gets what was read: ``head``* with 1xx, ``head``, ``body``*, and ``end`` once."""

    def head(self, status: int, fields: Sequence[Field]) -> None: ...

    def body(self, data: bytes) -> None: ...

    def end(self, trailers: Sequence[Field]) -> None: ...


class ReplyReader:
    """llhttp over the lane's own bytes. ``complete``: the reply is over; what comes after it is nobody's."""

    __slots__ = ("_bodiless", "_fields", "_final", "_owner", "_parser", "complete")

    def __init__(self, owner: Replies, method: bytes) -> None:
        self._owner = owner
        self._bodiless = method == b"HEAD"
        self._parser = httptools.HttpResponseParser(self)
        self._fields: list[Field] = []
        self._final = False
        self.complete = False

    def feed(self, data: bytes) -> None:
        """More of what the lane wrote."""
        if not self.complete:
            self._parser.feed_data(data)

    # The parser's side (httptools)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status, fields, self._fields = self._parser.get_status_code(), self._fields, []
        self._final = status >= 200
        self._owner.head(status, [field for field in fields if field[0] not in _CONNECTION])
        if self._bodiless and self._final:
            self._end()  # llhttp cannot be told that the reply to HEAD has no body

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self._owner.body(data)

    def on_message_complete(self) -> None:
        if self._final and not self.complete:
            self._end()

    def _end(self) -> None:
        self.complete = True
        self._owner.end(self._fields)
