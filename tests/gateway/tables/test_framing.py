"""Requests that have two lengths in two readings (RFC 9112, 6, 7): refused, or forwarded in the one that is theirs.

The names are those of the attacks: the first word is how a careless front reads it, the second how a careless back.
"""

import pytest

from tests.gateway.rig import Rig
from tests.gateway.tables.rows import CHUNKS, CL3, SMUGGLED, TE, H, Row, get, passes, play, post, refused, ways

pytestmark = pytest.mark.asyncio(loop_scope="module")
ZERO = b"0\r\n\r\n"


def coding(line: bytes, status: int = 400) -> Row:
    """The coding in a form that some parser takes for chunked, beside a length, which must not count either."""
    return refused(post(CL3, line + b"\r\n", body=CHUNKS), status)


def alone(line: bytes, status: int = 501) -> Row:
    """The same without a length."""
    return refused(post(line + b"\r\n", body=CHUNKS), status)


def length(value: bytes) -> Row:
    return refused(post(b"Content-Length: " + value + b"\r\n", body=b"abc"))


TABLE: dict[str, Row] = {
    "cl.te": refused(post(b"Content-Length: 6\r\n", TE, body=ZERO + b"G")),
    "te.cl": refused(post(TE, b"Content-Length: 3\r\n", body=b"8\r\nSMUGGLED\r\n0\r\n\r\n")),
    "te.te-second-is-x": refused(post(TE, b"Transfer-Encoding: x\r\n", body=ZERO), 501),
    "te.te-first-is-x": refused(post(b"Transfer-Encoding: x\r\n", TE, body=ZERO), 501),
    "te.te-second-is-empty": refused(post(TE, b"Transfer-Encoding:\r\n", body=ZERO), 501),
    "te.te-second-is-identity": refused(post(TE, b"Transfer-encoding: identity\r\n", body=ZERO), 501),
    "te-nul-behind": coding(b"Transfer-Encoding: chunked\0"),
    "te-nul-before": coding(b"Transfer-Encoding: \0chunked"),
    "te-nul-in-name": coding(b"Transfer-Encoding\0: chunked"),
    "te-vertical-tab": coding(b"Transfer-Encoding:\x0bchunked"),
    "te-form-feed": coding(b"Transfer-Encoding: chunked\x0c"),
    "te-nbsp": alone(b"Transfer-Encoding: chunked\xa0"),
    "te-nbsp-before": alone(b"Transfer-Encoding:\xa0chunked"),
    "te-kelvin-sign": alone("Transfer-Encoding: chun\u212aed".encode()),
    "te-fold-before-value": coding(b"Transfer-Encoding:\r\n chunked"),
    "te-fold-behind-value": coding(b"Transfer-Encoding: chunked\r\n \r\nX: y"),
    "te-folded-under-another": coding(b"X: y\r\n Transfer-Encoding: chunked"),
    "te-tab-folded-under-another": coding(b"X: y\r\n\tTransfer-Encoding: chunked"),
    "te-lf-fold": coding(b"Transfer-Encoding:\n chunked"),
    "te-behind-bare-lf": coding(b"X: y\nTransfer-Encoding: chunked"),
    "te-behind-bare-cr": coding(b"X: y\rTransfer-Encoding: chunked"),
    "te-behind-cr-cr-lf": coding(b"X: y\r\r\nTransfer-Encoding: chunked"),
    "te-behind-lf-cr": coding(b"X: y\n\rTransfer-Encoding: chunked"),
    "te-tab-before-colon": coding(b"Transfer-Encoding\t: chunked"),
    "te-space-before-name": coding(b" Transfer-Encoding: chunked"),
    "te-two-colons": coding(b"Transfer-Encoding:: chunked"),
    "te-no-colon": coding(b"Transfer-Encoding chunked"),
    "te-equals": coding(b"Transfer-Encoding=chunked"),
    "te-quoted-name": coding(b'"Transfer-Encoding": chunked'),
    "te-single-quotes": alone(b"Transfer-Encoding: 'chunked'"),
    "te-semicolon": alone(b"Transfer-Encoding: chunked;"),
    "te-comment": alone(b"Transfer-Encoding: (x)chunked"),
    "te-two-words": alone(b"Transfer-Encoding: x chunked"),
    "te-words-behind": alone(b"Transfer-Encoding: chunked x"),
    "te-gzip-in-the-line-before": alone(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"),
    "te-number": alone(b"Transfer-Encoding: 1"),
    "te-deflate-compress": alone(b"Transfer-Encoding: deflate, compress"),
    "te-trailers": alone(b"Transfer-Encoding: trailers"),
    "te-on-get": passes(get(TE) + CHUNKS, b"GET /open/x abc"),
    "te-underscore-is-no-field": passes(post(b"Transfer_Encoding: chunked\r\n", CL3, body=b"abc"), b"POST /open/x abc"),
    "te-under-another-name": passes(post(b"X-Transfer-Encoding: chunked\r\n", CL3, body=b"abc"), b"POST /open/x abc"),
    "te-1.0-with-length": refused(b"POST /open/x HTTP/1.0\r\n" + H + CL3 + TE + b"\r\n" + CHUNKS),
    "te-in-a-head-without-body": passes(get(TE) + ZERO, b"GET /open/x"),
    "cl-two": refused(post(CL3, b"Content-Length: 0\r\n", body=b"abc")),
    "cl-same-twice": refused(post(CL3, CL3, body=b"abc")),
    "cl-second-with-space": refused(post(CL3, b"Content-Length : 0\r\n", body=b"abc")),
    "cl-second-underscore": passes(post(CL3, b"Content_Length: 0\r\n", body=b"abc"), b"POST /open/x abc"),
    "cl-tab-before-colon": refused(post(b"Content-Length\t: 3\r\n", body=b"abc")),
    "cl-folded": refused(post(b"Content-Length:\r\n 3\r\n", body=b"abc")),
    "cl-list-same": length(b"3, 3"),
    "cl-list-empty-behind": length(b"3,"),
    "cl-list-empty-before": length(b",3"),
    "cl-semicolon": length(b"3;"),
    "cl-words": length(b"3 3"),
    "cl-tab-between": length(b"\t3\t3"),
    "cl-plus": length(b"+3"),
    "cl-minus": length(b"-3"),
    "cl-minus-overflow": length(b"-123456789123456789123456789"),
    "cl-point": length(b"3.0"),
    "cl-exponent": length(b"3e0"),
    "cl-hex": length(b"0x3"),
    "cl-binary": length(b"0b11"),
    "cl-underscore": length(b"0_3"),
    "cl-letters": length(b"abc"),
    "cl-quoted": length(b'"3"'),
    "cl-nul": length(b"3\0"),
    "cl-fullwidth": length("\uff13".encode()),
    "cl-superscript": length(b"\xb3"),
    "cl-nbsp": length(b"3\xa0"),
    "cl-2-to-64": length(b"18446744073709551619"),
    "cl-2-to-63": length(b"9223372036854775811"),
    "cl-2-to-32": refused(post(b"Content-Length: 4294967299\r\n", body=b"abc"), 413),
    "cl-19-digits-of-zeros": length(b"0000000000000000003"),
    "cl-leading-zeros": passes(post(b"Content-Length: 003\r\n", body=b"abc"), b"POST /open/x abc"),
    "cl-blanks-behind": passes(post(b"Content-Length: 3  \t\r\n", body=b"abc"), b"POST /open/x abc"),
    "cl-case": passes(post(b"cOnTeNt-LeNgTh:3\r\n", body=b"abc"), b"POST /open/x abc"),
    "cl-zero": passes(post(b"Content-Length: 0\r\n"), b"POST /open/x"),
    "cl-minus-zero": length(b"-0"),
    "cl-none-on-post": passes(post(), b"POST /open/x"),
    # The body of a request that many servers think has none is never the next request.
    "0.cl-get": Row(get(b"Content-Length: 40\r\n") + SMUGGLED, "200", (b"GET /open/x " + SMUGGLED,), stays=True),
    "0.cl-head": Row(
        b"HEAD /open/x HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n" + SMUGGLED,
        "200h",
        (b"HEAD /open/x " + SMUGGLED,),
        stays=True,
    ),
    "0.cl-delete": Row(
        b"DELETE /open/x HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n" + SMUGGLED,
        "200",
        (b"DELETE /open/x " + SMUGGLED,),
        stays=True,
    ),
    "0.te-get": Row(
        get(TE) + b"28\r\n" + SMUGGLED + b"\r\n0\r\n\r\n", "200", (b"GET /open/x " + SMUGGLED,), stays=True
    ),
    "cl-too-short": Row(get(CL3) + b"abcGARBAGE\r\n\r\n", "200 400", (b"GET /open/x abc",)),
    "cl-too-short-by-a-request": Row(
        post(CL3, body=b"abc") + get(target=b"/open/y"), "200 200", (b"POST /open/x abc", b"GET /open/y"), stays=True
    ),
    "cl-expect-obfuscated": refused(post(CL3, b"Expect: y 100-continue\r\n", body=b"abc"), 417),
}


@pytest.mark.parametrize(("name", "way"), ways(TABLE))
async def test_framing(rig: Rig, name: str, way: str) -> None:
    await play(rig, TABLE[name], way)
