"""Rows of requests on one connection: which are answered, in which order, and after which it ends (RFC 9112, 9)."""

import pytest

from tests.gateway.rig import Rig
from tests.gateway.tables.rows import CHUNKS, CL3, SMUGGLED, TE, H, Row, get, passes, play, post, ways

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXPECTS = b"Expect: 100-continue\r\n"
CLOSE = b"Connection: close\r\n"
X, Y = b"GET /open/x", b"GET /open/y"


def old(*fields: bytes) -> bytes:
    return b"GET /open/x HTTP/1.0\r\n" + H + b"".join(fields) + b"\r\n"


def last(sent: bytes, *seen: bytes) -> Row:
    """Answered, and nothing behind it is."""
    return Row(sent + SMUGGLED, "200", seen or (X,))


TABLE: dict[str, Row] = {
    "kept": passes(get(), X),
    "kept-keep-alive": passes(get(b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"), X),
    "kept-unknown-option": passes(get(b"Connection: x-y\r\n"), X),
    "kept-empty-option": passes(get(b"Connection:\r\n"), X),
    "kept-close-in-a-word": passes(get(b"Connection: closed, not-close\r\n"), X),
    "kept-close-in-another-field": passes(get(b"Proxy-Connection: close\r\n"), X),
    "close": last(get(CLOSE)),
    "close-case": last(get(b"connection: CLOSE\r\n")),
    "close-in-a-list": last(get(b"Connection: keep-alive,\tclose ,x\r\n")),
    "close-in-the-second-field": last(get(b"Connection: keep-alive\r\nConnection: close\r\n")),
    "close-behind-empty-ones": last(get(b"Connection: ,, close\r\n")),
    "close-with-a-body": last(post(CL3, CLOSE, body=b"abc"), b"POST /open/x abc"),
    "close-with-chunks": last(post(TE, CLOSE, body=CHUNKS), b"POST /open/x abc"),
    "1.0": last(old()),
    "1.0-keep-alive": last(old(b"Connection: keep-alive\r\n")),
    "1.0-proxy-keep-alive": last(old(b"Proxy-Connection: keep-alive\r\n")),
    "1.0-with-a-body": last(b"POST /open/x HTTP/1.0\r\n" + H + CL3 + b"\r\nabc", b"POST /open/x abc"),
    "1.0-upgrade": last(old(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")),
    "1.0-expect": last(b"POST /open/x HTTP/1.0\r\n" + H + CL3 + EXPECTS + b"\r\nabc", b"POST /open/x abc"),
    "two": Row(get() + get(target=b"/open/y"), "200 200", (X, Y), stays=True),
    "five-with-bodies": Row(
        post(CL3, body=b"abc") + get() + post(TE, body=CHUNKS) + post(b"Content-Length: 0\r\n") + get(CL3) + b"abc",
        "200 200 200 200 200",
        (b"POST /open/x abc", X, b"POST /open/x abc", b"POST /open/x", X + b" abc"),
        stays=True,
    ),
    "empty-lines-between": Row(get() + b"\r\n\r\n" + get(target=b"/open/y"), "200 200", (X, Y), stays=True),
    "head-then-get": Row(
        b"HEAD /open/x HTTP/1.1\r\nHost: a\r\n\r\n" + get(target=b"/open/y"),
        "200h 200",
        (b"HEAD /open/x", Y),
        stays=True,
    ),
    "good-then-bad": Row(get() + get(b"X : y\r\n") + SMUGGLED, "200 400", (X,)),
    "good-then-bad-version": Row(get() + b"GET /open/y HTTP/3.0\r\n\r\n" + SMUGGLED, "200 505", (X,)),
    "good-then-bad-chunks": Row(get() + post(TE, body=b"zz\r\n") + SMUGGLED, "200 400", (X,)),
    "good-then-garbage": Row(get() + b"\0\0\0\0", "200 400", (X,)),
    "refused-then-good": Row(get(target=b"/closed") + get(), "401 200", (X,), stays=True),
    "refused-with-a-body-then-good": Row(
        b"POST /closed HTTP/1.1\r\n" + H + b"Content-Length: 40\r\n\r\n" + SMUGGLED + get(), "401 200", (X,), stays=True
    ),
    "refused-with-chunks": Row(
        b"POST /closed HTTP/1.1\r\n" + H + TE + b"\r\n28\r\n" + SMUGGLED + b"\r\n0\r\n\r\n" + get(), "401"
    ),
    "refused-and-too-large": Row(
        b"POST /closed HTTP/1.1\r\n" + H + b"Content-Length: 900000\r\n\r\n" + SMUGGLED, "401"
    ),
    "refused-with-expect": Row(b"POST /closed HTTP/1.1\r\n" + H + CL3 + EXPECTS + b"\r\n" + SMUGGLED, "401"),
    "refused-and-closed": Row(get(CLOSE, target=b"/closed") + SMUGGLED, "401"),
    "trace-that-ends-here": Row(
        b"TRACE /open/x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n" + get(), "405 200", (X,), stays=True
    ),
    "options-that-ends-here": Row(
        b"OPTIONS /open/x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n" + get(), "204 200", (X,), stays=True
    ),
    "an-upgrade-that-is-declined": Row(
        get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n")
        + get(target=b"/open/y"),
        "200 200",
        (X, Y),
        stays=True,
    ),
    "a-websocket-that-stays-http": Row(
        get(b"Connection: Upgrade\r\nUpgrade: websocket\r\n") + get(target=b"/open/y"), "200 200", (X, Y), stays=True
    ),
    "a-websocket-of-a-post": passes(
        post(b"Connection: Upgrade\r\nUpgrade: websocket\r\n", CL3, body=b"abc"), b"POST /open/x abc"
    ),
}


@pytest.mark.parametrize(("name", "way"), ways(TABLE))
async def test_turns(rig: Rig, name: str, way: str) -> None:
    await play(rig, TABLE[name], way)
