"""Inputs: requests and replies as people write them, then cut, doubled, swapped and spoilt."""

from collections.abc import Sequence
from random import Random

KEY = b"%KEY%"
_H = b"Host: a.example\r\nX-API-Key: " + KEY + b"\r\n"
_CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"
REQUESTS: Sequence[bytes] = (
    b"GET /a?b=c HTTP/1.1\r\n" + _H + b"\r\n",
    b"GET /open/a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /a HTTP/1.1\r\n" + _H + b"\r\n",
    b"POST /a HTTP/1.1\r\n" + _H + b"Content-Length: 5\r\n\r\nhello",
    b"POST /open/a HTTP/1.1\r\nHost: a\r\nContent-Length: 36\r\n\r\nGET /open/inner HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + _H + b"Transfer-Encoding: chunked\r\n\r\n" + _CHUNKS,
    b"PUT /open/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n24;x=y\r\nGET /open/inner HTTP/1.1\r\nHost: "
    b"a\r\n\r\n\r\n0\r\nX-T: 1\r\n\r\n",
    b"POST /small HTTP/1.1\r\n" + _H + b"Content-Length: 20\r\n\r\naaaaaaaaaabbbbbbbbbb",
    b"POST /small HTTP/1.1\r\n" + _H + b"Transfer-Encoding: chunked\r\n\r\n14\r\naaaaaaaaaabbbbbbbbbb\r\n0\r\n\r\n",
    b"POST /open/a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /open/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a2V5\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n" + _H + b"\r\n",
    b"OPTIONS /a HTTP/1.1\r\n" + _H + b"Max-Forwards: 0\r\n\r\n",
    b"FOO /open/a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
    b"GET http://b.example/open/a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + _H + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /nokey HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /open/a HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /a HTTP/1.1\r\n" + _H + b"Connection: close\r\n\r\n",
)
_OK = b"HTTP/1.1 200 OK\r\n"
REPLIES: Sequence[bytes] = (
    _OK + b"Content-Length: 2\r\n\r\nok",
    _OK + b"Content-Length: 0\r\n\r\n",
    _OK + b"Transfer-Encoding: chunked\r\n\r\n" + _CHUNKS,
    _OK + b"Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n1;x=y\r\na\r\n0\r\nX-T: 1\r\n\r\n",
    _OK + b"\r\nto the end",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + _OK + b"Content-Length: 2\r\n\r\nok",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + _OK + b"Content-Length: 2\r\n\r\nok",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi",
    b"HTTP/1.1 500 Oh\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbad",
    _OK + b"Content-Length: 2\r\nConnection: X-A\r\nX-A: b\r\nSet-Cookie: a=b\r\n\r\nok",
)
_PIECES: Sequence[bytes] = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"\x0b", b"\x7f", b"\xff", b":", b";", b",", b'"', b"0", b"1", b"-",
    b"+",
    b"\r\n\r\n", b"0\r\n\r\n", b"3\r\nabc\r\n", b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"GET ", b"POST ", b"HEAD ",
    b"CONNECT ", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Content-Length: 10\r\n", b"Content-Length:",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding:", b"chunked", b"chunked, ",
    b"Transfer_Encoding: chunked\r\n", b"Content_Length: 4\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\n",
    b"Connection: Content-Length\r\n", b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n",
    b"Host: b\r\n", b"Host:", b"Via: 1.1 x\r\n", b"TE: trailers\r\n", b"X-A: b\r\n", b" c\r\n", b"X-A : b\r\n", b"0x",
    b"ffffffffffffffff",
    b"FFFFFFFFFFFFFFFFF", b";a=b", b';a="b;c"', b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 S\r\n",
    b"HTTP/1.1 204 N\r\n", b"HTTP/1.1 304 N\r\n", b"/_sidecar/livez", b"/open/../", b"%2f", b"http://a/", b"*", b"#",
    b"?",
)  # fmt: skip


def spoilt(rng: Random, data: bytes) -> bytes:
    """``data`` with up to four changes."""
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(8)
        if kind < 3:
            data = data[:at] + rng.choice(_PIECES) + data[at:]
        elif kind == 3:
            data = data[:at] + data[at + rng.randrange(1, 6) :]
        elif kind == 4:
            end = at + rng.randrange(1, 30)
            data = data[:end] + data[at:end] + data[end:]
        elif kind == 5:
            data = data[:at] + bytes((rng.randrange(256),)) + data[at + 1 :]
        elif kind == 6:
            data = data[:at] + rng.choice(_PIECES) + data[at + rng.randrange(1, 12) :]
        else:
            # A whole line elsewhere: duplicated, moved between heads, bodies and trailers.
            lines = data.split(b"\r\n")
            line = rng.choice(lines)
            lines.insert(rng.randrange(len(lines) + 1), line)
            data = b"\r\n".join(lines)
    return data


def cut(rng: Random, data: bytes) -> list[bytes]:
    """``data`` in one piece, a few, or many."""
    kind = rng.randrange(8)
    if kind < 4 or len(data) < 2:
        return [data]
    if kind == 7 and len(data) < 400:
        return [data[n : n + 1] for n in range(len(data))]
    ends = sorted(rng.randrange(1, len(data)) for _ in range(rng.randrange(1, 5)))
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True) if a < b]


def some_requests(rng: Random) -> bytes:
    """One to four requests, spoilt; ``KEY`` stands for a good key."""
    return spoilt(rng, b"".join(rng.choice(REQUESTS) for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))))


def some_reply(rng: Random) -> bytes:
    """A reply, spoilt, sometimes with another one behind it."""
    return spoilt(rng, b"".join(rng.choice(REPLIES) for _ in range(rng.choice((1, 1, 1, 2)))))
