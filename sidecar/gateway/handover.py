"""Requests to our own paths (``/_sidecar/...``) go to an aiohttp application on the same connection.

The head is written anew for aiohttp's parser with ``Connection: close``: after the reply the connection ends, so no
later request on it can be read by the wrong side. The lane stays the transport's protocol and passes events on.
"""

import asyncio
from typing import Final

from sidecar.http1 import RequestHead, chunk

PREFIX: Final = b"/_sidecar/"


class Handover:
    """One request in the hands of an aiohttp protocol."""

    __slots__ = ("_chunked", "_protocol")

    def __init__(self, protocol: asyncio.Protocol, transport: asyncio.Transport, head: RequestHead) -> None:
        self._protocol = protocol
        self._chunked = head.chunked
        protocol.connection_made(transport)
        lines = b"".join(
            b"%b: %b\r\n" % (name, value)
            for name, value in head.raw_fields
            if name.lower() not in (b"connection", b"upgrade", b"expect")
        )
        protocol.data_received(b"%b %b HTTP/1.1\r\n%bConnection: close\r\n\r\n" % (head.method, head.target, lines))

    def body(self, data: bytes, *, done: bool) -> None:
        """A piece of the request's body."""
        if self._chunked:
            data = (chunk(data) if data else b"") + (b"0\r\n\r\n" if done else b"")
        if data:
            self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
