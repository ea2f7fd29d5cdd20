"""Chunked bodies whose end two parsers see at different places (RFC 9112, 7.1).

``abc`` stands in each, and behind it a request that must never be one.
"""

import pytest

from tests.gateway.rig import Rig
from tests.gateway.tables.rows import SMUGGLED, TE, Row, passes, play, post, refused, ways

pytestmark = pytest.mark.asyncio(loop_scope="module")


def bad(body: bytes) -> Row:
    return refused(post(TE, body=body))


def good(body: bytes, read: bytes = b"abc") -> Row:
    return passes(post(TE, body=body), (b"POST /open/x " + read).rstrip(b" "))


END = b"0\r\n\r\n"
TABLE: dict[str, Row] = {
    # TERM.EXT and EXT.TERM: a line end within an extension.
    "term.ext-lf": bad(b"3;\nabc\r\n" + END),
    "term.ext-lf-then-size": bad(b"3;a\n5\r\nabc\r\n" + END),
    "term.ext-cr": bad(b"3;\rabc\r\n" + END),
    "term.ext-cr-x": bad(b"3;a\rX\r\nabc\r\n" + END),
    "term.ext-quoted-lf": bad(b'3;a="\n"\r\nabc\r\n' + END),
    "term.ext-quoted-crlf": bad(b'3;a="\r\n"\r\nabc\r\n' + END),
    "term.ext-escaped-lf": bad(b'3;a="\\\n"\r\nabc\r\n' + END),
    "term.ext-on-the-last": bad(b"3\r\nabc\r\n0;\n\r\n\r\n"),
    # TERM.SPILL and SPILL.TERM: what ends a chunk.
    "term.spill-lf": bad(b"3\r\nabc\n" + END),
    "term.spill-cr": bad(b"3\r\nabc\r" + END),
    "term.spill-two-others": bad(b"3\r\nabcXX" + END),
    "term.spill-none": bad(b"3\r\nabc" + END),
    "term.spill-crlf-too-many": bad(b"3\r\nabc\r\n\r\n" + END),
    "spill.term-long": bad(b"3\r\nabcd\r\n" + END),
    "spill.term-short": bad(b"4\r\nabc\r\n" + END),
    # ONE.TWO, ZERO.TWO: the end of the body.
    "one.two-lf-lf": bad(b"3\r\nabc\r\n0\n\n"),
    "one.two-crlf-lf": bad(b"3\r\nabc\r\n0\r\n\n"),
    "one.two-lf-crlf": bad(b"3\r\nabc\r\n0\n\r\n"),
    "one.two-cr-cr": bad(b"3\r\nabc\r\n0\r\r"),
    "one.two-crlf-cr": bad(b"3\r\nabc\r\n0\r\n\r\r\n"),
    "zero.two-no-line": bad(b"3\r\nabc\r\n0\r\n"),
    "zero.two-two-characters": bad(b"3\r\nabc\r\n0\r\nXX"),
    "last-of-many-zeros": good(b"3\r\nabc\r\n0000\r\n\r\n"),
    "last-of-17-zeros": bad(b"3\r\nabc\r\n" + b"0" * 17 + b"\r\n\r\n"),
    "last-minus": bad(b"3\r\nabc\r\n-0\r\n\r\n"),
    "last-only": good(END, b""),
    # Sizes.
    "size-wraps-64": bad(b"10000000000000003\r\nabc\r\n" + END),
    "size-17-digits": bad(b"00000000000000003\r\nabc\r\n" + END),
    "size-16-digits": good(b"0000000000000003\r\nabc\r\n" + END),
    "size-hex-prefix": bad(b"0x3\r\nabc\r\n" + END),
    "size-capital-prefix": bad(b"0X3\r\nabc\r\n" + END),
    "size-suffix": bad(b"3h\r\nabc\r\n" + END),
    "size-g": bad(b"g\r\nabc\r\n" + END),
    "size-underscore": bad(b"0_3\r\nabc\r\n" + END),
    "size-plus": bad(b"+3\r\nabc\r\n" + END),
    "size-minus": bad(b"-3\r\nabc\r\n" + END),
    "size-point": bad(b"3.0\r\nabc\r\n" + END),
    "size-quoted": bad(b'"3"\r\nabc\r\n' + END),
    "size-list": bad(b"3,3\r\nabc\r\n" + END),
    "size-space-before": bad(b" 3\r\nabc\r\n" + END),
    "size-tab-before": bad(b"\t3\r\nabc\r\n" + END),
    "size-space-behind": bad(b"3 \r\nabc\r\n" + END),
    "size-tab-behind": bad(b"3\t\r\nabc\r\n" + END),
    "size-space-within": bad(b"0 3\r\nabc\r\n" + END),
    "size-nul": bad(b"3\0\r\nabc\r\n" + END),
    "size-vertical-tab": bad(b"3\x0b\r\nabc\r\n" + END),
    "size-fullwidth": bad("\uff13\r\nabc\r\n".encode() + END),
    "size-empty": bad(b"\r\nabc\r\n" + END),
    "size-empty-line-before": bad(b"\r\n3\r\nabc\r\n" + END),
    "size-cr-cr-lf": bad(b"3\r\r\nabc\r\n" + END),
    "size-lf": bad(b"3\nabc\r\n" + END),
    "size-cr": bad(b"3\rabc\r\n" + END),
    "size-case": good(b"0a\r\n0123456789\r\n0A\r\n0123456789\r\n" + END, b"0123456789" * 2),
    # Extensions: RFC 9112, 7.1.1 has a grammar, and what is in it is dropped.
    "ext-name": good(b"3;a\r\nabc\r\n" + END),
    "ext-value": good(b"3;a=b\r\nabc\r\n" + END),
    "ext-quoted": good(b'3;a="b;c\\"d"\r\nabc\r\n' + END),
    "ext-quoted-obs-text": good(b'3;a="\xff"\r\nabc\r\n' + END),
    "ext-bad-whitespace": good(b"3 \t; a\t= b\r\nabc\r\n" + END),
    "ext-many": good(b"3;a;b=c;d;e\r\nabc\r\n0;f=g\r\n\r\n"),
    "ext-looks-like-a-size": good(b"3;5\r\nabc\r\n" + END),
    "ext-semicolons": bad(b"3;;\r\nabc\r\n" + END),
    "ext-no-name": bad(b"3;=b\r\nabc\r\n" + END),
    "ext-no-value": bad(b"3;a=\r\nabc\r\n" + END),
    "ext-no-semicolon": bad(b"3 a\r\nabc\r\n" + END),
    "ext-comma": bad(b"3,a\r\nabc\r\n" + END),
    "ext-colon": bad(b"3:a\r\nabc\r\n" + END),
    "ext-unicode": bad("3;\u00e9\r\nabc\r\n".encode() + END),
    "ext-nul": bad(b"3;a\0\r\nabc\r\n" + END),
    "ext-delete": bad(b"3;a=\x7f\r\nabc\r\n" + END),
    "ext-open-quote": bad(b'3;a="b\r\nabc\r\n' + END),
    "ext-large": refused(post(TE, body=b"3;" + b"a" * 70_000 + b"\r\nabc\r\n" + END), 431),
    # Trailers: dropped, and none of them may frame.
    "trailer": good(b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"),
    "trailer-of-ours": good(b"3\r\nabc\r\n0\r\nX-Tenant-ID: evil\r\nHost: b\r\nAuthorization: x\r\n\r\n"),
    "trailer-like-a-request": bad(b"3\r\nabc\r\n0\r\nGET /open/y HTTP/1.1\r\n\r\n"),
    "trailer-length": bad(b"3\r\nabc\r\n0\r\nContent-Length: 40\r\n\r\n"),
    "trailer-coding": bad(b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "trailer-fold": bad(b"3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n"),
    "trailer-space-before-colon": bad(b"3\r\nabc\r\n0\r\nX : y\r\n\r\n"),
    "trailer-lf": bad(b"3\r\nabc\r\n0\r\nX: y\n\r\n"),
    "trailer-nul": bad(b"3\r\nabc\r\n0\r\nX: \0\r\n\r\n"),
    "trailer-name": bad(b"3\r\nabc\r\n0\r\nX Y: z\r\n\r\n"),
    "trailer-large": refused(post(TE, body=b"3\r\nabc\r\n0\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"), 431),
    # Bodies that hold framing.
    "data-is-an-end": good(b"5\r\n" + END + b"\r\n" + END, END),
    "data-is-a-request": good(b"28\r\n" + SMUGGLED + b"\r\n" + END, SMUGGLED),
    "data-is-crlf": good(b"2\r\n\r\n\r\n" + END, b"\r\n"),
    "data-ends-with-cr": good(b"1\r\n\r\r\n" + END, b"\r"),
}


@pytest.mark.parametrize(("name", "way"), ways(TABLE))
async def test_chunks(rig: Rig, name: str, way: str) -> None:
    await play(rig, TABLE[name], way)


@pytest.mark.parametrize("size", [b"100000003", b"3e0", b"7fffffffffffffff", b"ffffffffffffffff"])
async def test_a_size_means_all_of_its_digits(rig: Rig, size: bytes) -> None:
    """A reader that keeps 32 or 64 bits, or takes an exponent, would see the end; here the body is still to come."""
    before = len(rig.upstream.requests)
    client = await rig.client()
    client.send(post(TE, body=size + b"\r\nabc\r\n" + END) + SMUGGLED)
    client.half_close()
    assert (await client.message()).status == 400
    await client.closes()
    assert len(rig.upstream.requests) == before
