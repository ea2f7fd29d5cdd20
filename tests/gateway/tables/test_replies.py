"""What an upstream sends, and what a client hears of it (RFC 9112, 4, 6, 7, 9; RFC 9110, 15).

Each row: the bytes, whether the upstream then closes, the request's method, what the client hears (a status, and the
body; ``torn``: its connection is cut in mid-body) and whether the upstream's connection serves the next call.
"""

from dataclasses import dataclass

import pytest

from tests.gateway.cruel import TORN, CruelUpstream, Wire, until
from tests.gateway.rig import Client, Rig
from tests.gateway.tables.rows import get

pytestmark = pytest.mark.asyncio(loop_scope="module")
R = b"HTTP/1.1 200 OK\r\n"
TE = R + b"Transfer-Encoding: chunked\r\n\r\n"
OK = R + b"Content-Length: 2\r\n\r\nok"
END = b"0\r\n\r\n"


@dataclass(frozen=True)
class Row:
    said: bytes
    status: int = 502
    body: bytes = b""
    torn: bool = False
    kept: bool = False
    closes: bool = False
    method: bytes = b"GET"


def good(said: bytes, body: bytes = b"ok", status: int = 200, method: bytes = b"GET") -> Row:
    """Passed on, and both connections are kept."""
    return Row(said, status, body, kept=True, method=method)


def once(said: bytes, body: bytes = b"ok", *, closes: bool = False, status: int = 200, method: bytes = b"GET") -> Row:
    """Passed on, and the upstream's connection is not used again."""
    return Row(said, status, body, closes=closes, method=method)


def field(line: bytes) -> Row:
    return Row(R + line + b"\r\nContent-Length: 2\r\n\r\nok")


def length(value: bytes) -> Row:
    return Row(R + b"Content-Length: " + value + b"\r\n\r\nok")


def coding(value: bytes) -> Row:
    return Row(R + b"Transfer-Encoding: " + value + b"\r\n\r\n2\r\nok\r\n" + END)


def torn(said: bytes, body: bytes = b"") -> Row:
    return Row(said, 200, body, torn=True)


TABLE: dict[str, Row] = {
    "honest": good(OK),
    "line-no-phrase": good(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok"),
    "line-no-space": good(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"),
    "line-obs-text": good(b"HTTP/1.1 200 \xc3\x96K\r\nContent-Length: 2\r\n\r\nok"),
    "line-glued": Row(b"HTTP/1.1 200OK\r\nContent-Length: 2\r\n\r\nok"),
    "line-tab": Row(b"HTTP/1.1\t200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "line-two-spaces": Row(b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "line-space-before": Row(b" " + OK),
    "line-empty-before": Row(b"\r\n" + OK),
    "line-icy": Row(b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "line-version-1.2": Row(b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "line-version-2": Row(b"HTTP/2 200\r\nContent-Length: 2\r\n\r\nok"),
    "line-version-0.9": Row(b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "line-0.9-body": Row(b"<html>ok</html>", closes=True),
    "line-h2-frames": Row(bytes.fromhex("000000040000000000") + b"x" * 20),
    "line-tls-alert": Row(bytes.fromhex("15030100020246")),
    "line-status-2": Row(b"HTTP/1.1 2 OK\r\nContent-Length: 2\r\n\r\nok"),
    "line-status-0200": Row(b"HTTP/1.1 0200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "line-status-minus": Row(b"HTTP/1.1 -20 OK\r\nContent-Length: 2\r\n\r\nok"),
    "line-status-hex": Row(b"HTTP/1.1 0xC8 OK\r\nContent-Length: 2\r\n\r\nok"),
    "line-status-600": good(b"HTTP/1.1 600 High\r\nContent-Length: 2\r\n\r\nok", status=600),
    "line-status-999": good(b"HTTP/1.1 999 High\r\nContent-Length: 2\r\n\r\nok", status=999),
    "line-cr-in-phrase": Row(b"HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok"),
    "line-nul-in-phrase": Row(b"HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok"),
    "line-a-request": Row(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "end-lf-lf": Row(OK.replace(b"\r\n", b"\n")),
    "end-crlf-lf": Row(R + b"Content-Length: 2\r\n\nok"),
    "end-cr-cr-lf": Row(R + b"Content-Length: 2\r\r\n\r\nok"),
    "name-space-behind": field(b"X : y"),
    "name-tab-behind": field(b"X\t: y"),
    "name-space-within": field(b"X Y: z"),
    "name-empty": field(b": y"),
    "name-nul": field(b"X\0: y"),
    "name-obs-text": field(b"X\xe4: y"),
    "name-parenthesis": field(b"X(: y"),
    "no-colon": field(b"X"),
    "fold": field(b"X: y\r\n z"),
    "fold-tab": field(b"X: y\r\n\tz"),
    "fold-first": Row(R + b" X: y\r\nContent-Length: 2\r\n\r\nok"),
    "value-cr": field(b"X: y\rZ: z"),
    "value-lf": field(b"X: y\nZ: z"),
    "value-nul": field(b"X: y\0"),
    "value-control": field(b"X: y\x01"),
    "value-delete": field(b"X: y\x7f"),
    "value-tab": good(R + b"X: y\tz\r\nContent-Length: 2\r\n\r\nok"),
    "cl-two": field(b"Content-Length: 3"),
    "cl-same-twice": field(b"Content-Length: 2"),
    "cl-list": length(b"2, 2"),
    "cl-plus": length(b"+2"),
    "cl-minus": length(b"-2"),
    "cl-hex": length(b"0x2"),
    "cl-point": length(b"2.0"),
    "cl-underscore": length(b"0_2"),
    "cl-words": length(b"2 2"),
    "cl-empty": length(b""),
    "cl-fullwidth": length("\uff12".encode()),
    "cl-nul": length(b"2\0"),
    "cl-2-to-64": length(b"18446744073709551618"),
    "cl-space-before-colon": Row(R + b"Content-Length : 2\r\n\r\nok"),
    "cl-underscored-name": once(R + b"Content_Length: 9\r\n\r\nok", closes=True),
    "cl-zeros": good(R + b"Content-Length: 0002\r\n\r\nok"),
    "cl-blanks": good(R + b"Content-Length:\t2\t \r\n\r\nok"),
    "cl-and-te": Row(R + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" + END),
    "te-and-cl": Row(R + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n" + END),
    "te-identity": coding(b"identity"),
    "te-gzip": coding(b"gzip"),
    "te-gzip-chunked": coding(b"gzip, chunked"),
    "te-chunked-gzip": coding(b"chunked, gzip"),
    "te-twice": coding(b"chunked\r\nTransfer-Encoding: chunked"),
    "te-second-empty": coding(b"chunked\r\nTransfer-Encoding:"),
    "te-list-empty": coding(b"chunked,"),
    "te-quoted": coding(b'"chunked"'),
    "te-x": coding(b"xchunked"),
    "te-nbsp": coding(b"chunked\xa0"),
    "te-vertical-tab": coding(b"chunked\x0b"),
    "te-fold": coding(b"\r\n chunked"),
    "te-space-before-colon": Row(R + b"Transfer-Encoding : chunked\r\n\r\n2\r\nok\r\n" + END),
    "te-tab-behind": good(R + b"Transfer-Encoding: chunked\t\r\n\r\n2\r\nok\r\n" + END),
    "te-1.0": Row(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" + END),
    "te-underscored-name": once(R + b"Transfer_Encoding: chunked\r\n\r\nok", closes=True),
    "chunks": good(TE + b"1\r\no\r\n1\r\nk\r\n" + END),
    "chunks-extension": good(TE + b'2;a="b"\r\nok\r\n0;c\r\n\r\n'),
    "chunks-trailer": good(TE + b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"),
    "chunks-zeros": good(TE + b"002\r\nok\r\n000\r\n\r\n"),
    "chunks-none": good(TE + END, b""),
    "chunks-lf": torn(TE + b"2\r\nok\r\n0\n\n", b"ok"),
    "chunks-lf-after-size": torn(TE + b"2\r\nok\r\n2\nok\r\n" + END, b"ok"),
    "chunks-sign": torn(TE + b"2\r\nok\r\n+2\r\nok\r\n" + END, b"ok"),
    "chunks-prefix": torn(TE + b"2\r\nok\r\n0x2\r\nok\r\n" + END, b"ok"),
    "chunks-space": torn(TE + b"2\r\nok\r\n2 \r\nok\r\n" + END, b"ok"),
    "chunks-wrap": torn(TE + b"2\r\nok\r\n10000000000000002\r\nok\r\n" + END, b"ok"),
    "chunks-long": torn(TE + b"2\r\nok\r\n2\r\nokk\r\n" + END, b"ok"),
    "chunks-trailer-length": torn(TE + b"2\r\nok\r\n0\r\nContent-Length: 5\r\n\r\n", b"ok"),
    "chunks-trailer-fold": torn(TE + b"2\r\nok\r\n0\r\nX: y\r\n z\r\n\r\n", b"ok"),
    "chunks-no-end": Row(TE + b"2\r\nok\r\n", 200, b"ok", torn=True, closes=True),
    "short": Row(R + b"Content-Length: 9\r\n\r\nok", 200, b"ok", torn=True, closes=True),
    "to-eof": once(R + b"\r\nok", closes=True),
    "to-eof-empty": once(R + b"\r\n", b"", closes=True),
    "to-eof-1.0": once(b"HTTP/1.0 200 OK\r\n\r\nok", closes=True),
    "to-eof-keep-alive": once(R + b"Connection: keep-alive\r\n\r\nok", closes=True),
    "1.0-with-length": once(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "1.0-keep-alive": once(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"),
    "close": once(R + b"Connection: close\r\nContent-Length: 2\r\n\r\nok"),
    "close-case": once(R + b"connection: x, CLOSE\r\nContent-Length: 2\r\n\r\nok"),
    "close-second": once(R + b"Connection: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
    "extra-bytes": once(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"),
    "extra-line": once(OK + b"\r\n"),
    "extra-behind-chunks": once(TE + b"2\r\nok\r\n" + END + OK),
    "204": good(b"HTTP/1.1 204 No Content\r\n\r\n", b"", 204),
    "204-with-chunks": once(b"HTTP/1.1 204 N\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n" + END, b"", status=204),
    "204-with-length": once(b"HTTP/1.1 204 N\r\nContent-Length: 2\r\n\r\nno", b"", status=204),
    "205": good(b"HTTP/1.1 205 R\r\nContent-Length: 0\r\n\r\n", b"", 205),
    "304": good(b"HTTP/1.1 304 N\r\nContent-Length: 7\r\n\r\n", b"", 304),
    "304-with-body": once(b"HTTP/1.1 304 N\r\nContent-Length: 2\r\n\r\nno", b"", status=304),
    "head": good(R + b"Content-Length: 7\r\n\r\n", b"", method=b"HEAD"),
    "head-chunked": good(R + b"Transfer-Encoding: chunked\r\n\r\n", b"", method=b"HEAD"),
    "head-with-body": once(OK, b"", method=b"HEAD"),
    "head-two-lengths": Row(R + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n", 502, method=b"HEAD"),
    "100": good(b"HTTP/1.1 100 Continue\r\n\r\n" + OK),
    "100-with-length": good(b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n" + OK),
    "100-alone": Row(b"HTTP/1.1 100 Continue\r\n\r\n", closes=True),
    "101-unasked": Row(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
    "101-h2c": Row(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
    "101-then-200": Row(b"HTTP/1.1 101 S\r\n\r\n" + OK),
    "nothing": Row(b"", closes=True),
    "half-a-head": Row(R + b"X: ", closes=True),
    "large-head": good(R + (b"X: " + b"y" * 5_000 + b"\r\n") * 40 + b"Content-Length: 2\r\n\r\nok"),
    "too-large-head": Row(R + (b"X: " + b"y" * 5_000 + b"\r\n") * 60 + b"Content-Length: 2\r\n\r\nok"),
    "too-many-fields": Row(R + b"X: y\r\n" * 401 + b"Content-Length: 2\r\n\r\nok"),
}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("way", ["whole", "dribbled"])
async def test_replies(rig: Rig, upstream: CruelUpstream, name: str, way: str) -> None:
    row = TABLE[name]
    reached: list[Wire] = []

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        reached.append(wire)
        wire.send(row.said) if way == "whole" or len(row.said) > 1000 else await wire.dribble(row.said)
        if row.closes:
            wire.close()
            return
        await upstream.take(wire)
        wire.send(OK)
        await wire.gone()

    await rig.pool_is_idle()
    rig.pool.targets[0]._wary_until_ns = 0  # of the row before
    before = len(upstream.wires)
    upstream.runs(script)
    client = await rig.client()
    client.send(get().replace(b"GET", row.method, 1))
    bodiless = row.method == b"HEAD" or row.status in (204, 304)
    if row.torn:
        await _is_torn(client)
    else:
        reply = await client.message(bodiless=bodiless)
        assert reply.status == row.status, reply
        if row.status != 502:
            assert reply.body == row.body
        client.send(get(target=b"/open/second"))
        assert (await client.message()).body == b"ok"
        assert len(upstream.wires) == before + (1 if row.kept else 2)
    client.close()
    await until(lambda: row.kept or reached[0].ended)
    assert upstream.requests[-1].start.split()[1] == (b"/open/x" if row.torn else b"/open/second")


async def _is_torn(client: Client) -> None:
    """Where the head is not out yet it is 502, else the client cannot take it for whole."""
    with pytest.raises(TORN):
        assert (await client.message()).status == 502
        raise ConnectionResetError
