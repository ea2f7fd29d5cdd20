"""The API behind the sidecar, a process of its own: ``python -m tests.chaos.upstream PORT LOG``.

It writes a line into LOG, ``event id`` and ``call``, as soon as it has read a request's head and before it does
anything for it: that a call is in there means that it ran. What it answers carries ``X-Ran``, which tells its answers
from the sidecar's own.

======================  ========================================================================
``/v1/small``           200 bytes at once
``/v1/take``            reads the body to its end, then answers
``/v1/bytes/{n}``       ``n`` bytes
``/v1/status/{code}``   that status
``/v1/slow/{ms}``       answers after that time
``/v1/stream/{n}``      ``n`` server-sent events, one every 50 ms
======================  ========================================================================
"""

import asyncio
import os
import sys
from urllib.parse import urlsplit

import httptools

_EVERY_S = 0.05
_SMALL = b'{"data":"%b"}' % (b"x" * 189)


class Answers(asyncio.Protocol):
    """One connection; requests on it are answered one after the other, the sidecar does not pipeline."""

    def __init__(self, log: int) -> None:
        self._log = log
        self._work: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._work is not None:
            self._work.cancel()

    def on_message_begin(self) -> None:
        self._url, self._event, self._call, self._size = b"", b"-", b"-", 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"x-request-id":
            self._event = value
        elif lower == b"x-call":
            self._call = value

    def on_headers_complete(self) -> None:
        os.write(self._log, b"%b %b\n" % (self._event, self._call))

    def on_body(self, body: bytes) -> None:
        self._size += len(body)

    def on_message_complete(self) -> None:
        _, _, what, *rest = urlsplit(self._url.decode()).path.split("/")
        number = int(rest[0]) if rest else 0
        if what in ("slow", "stream"):
            self._work = asyncio.ensure_future(self._slow(number) if what == "slow" else self._stream(number))
        elif what == "bytes":
            self._answer(200, b"b" * number)
        elif what == "status":
            self._answer(number, b"as you wish")
        elif what == "take":
            self._answer(200, b'{"taken":%d}' % self._size)
        else:
            self._answer(200, _SMALL)

    def _answer(self, status: int, body: bytes) -> None:
        head = b"HTTP/1.1 %d Said\r\nX-Ran: 1\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self._transport.write(head + body)

    async def _slow(self, ms: int) -> None:
        await asyncio.sleep(ms / 1000)
        self._answer(200, _SMALL)

    async def _stream(self, events: int) -> None:
        head = b"HTTP/1.1 200 OK\r\nX-Ran: 1\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        self._transport.write(head)
        for number in range(events):
            event = b'data: {"number":%d}\n\n' % number
            self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
            await asyncio.sleep(_EVERY_S)
        self._transport.write(b"0\r\n\r\n")


async def serve(port: int, path: str) -> None:
    """Until the process is ended."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    server = await asyncio.get_running_loop().create_server(lambda: Answers(log), "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
