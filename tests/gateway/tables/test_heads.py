"""Request lines, targets, hosts, names and values (RFC 9112, 2 to 5; RFC 9110, 5), as testers of servers send them."""

import pytest

from tests.gateway.rig import Rig
from tests.gateway.tables.rows import SMUGGLED, H, Row, get, passes, play, refused, ways

pytestmark = pytest.mark.asyncio(loop_scope="module")
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def line(first: bytes, status: int = 400) -> Row:
    return refused(first + b"\r\n" + H + b"\r\n", status)


def host(value: bytes) -> Row:
    return refused(b"GET /open/x HTTP/1.1\r\nHost: %b\r\n\r\n" % value)


def taken_host(value: bytes, target: bytes = b"/open/x") -> Row:
    return passes(b"GET %b HTTP/1.1\r\nHost:%b\r\n\r\n" % (target, value), b"GET /open/x")


LINES: dict[str, Row] = {
    "0.9": line(b"GET /open/x"),
    "0.9-alone": Row(b"GET /open/x\r\n", "400"),
    "0.9-with-space": Row(b"GET /open/x \r\n", "400"),
    "version-9.9": line(b"GET /open/x HTTP/9.9", 505),
    "version-1.1.1": line(b"GET /open/x HTTP/1.1.1"),
    "version-1.10": line(b"GET /open/x HTTP/1.10"),
    "version-1,1": line(b"GET /open/x HTTP/1,1"),
    "version-plus": line(b"GET /open/x HTTP/+1.1"),
    "version-minus": line(b"GET /open/x HTTP/-1.1"),
    "version-letters": line(b"GET /open/x HTTP/a.b"),
    "version-arabic-digit": line("GET /open/x HTTP/1.\u0661".encode()),
    "version-empty": line(b"GET /open/x HTTP/"),
    "version-nothing": line(b"GET /open/x "),
    "version-twice": line(b"GET /open/x HTTP/1.1 HTTP/1.1"),
    "version-case": line(b"GET /open/x Http/1.1"),
    "version-nul": line(b"GET /open/x HTTP/1.1\0"),
    "version-tab": line(b"GET /open/x HTTP/1.1\t"),
    "version-cr": line(b"GET /open/x HTTP/1.1\r"),
    "h2-preface": Row(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), "505"),
    "tls-hello": Row(bytes.fromhex("1603010200010001fc0303") + bytes(100), "400"),
    "socks": Row(b"\x05\x01\x00", "400"),
    "proxy-preamble-unasked": Row(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + SMUGGLED, "400"),
    "empty-method": line(b" /open/x HTTP/1.1"),
    "only-a-method": line(b"GET"),
    "only-spaces": line(b"   "),
    "tab-between": line(b"GET\t/open/x HTTP/1.1"),
    "vertical-tab-between": line(b"GET\x0b/open/x HTTP/1.1"),
    "form-feed-between": line(b"GET /open/x\x0cHTTP/1.1"),
    "nbsp-between": line(b"GET\xa0/open/x HTTP/1.1"),
    "two-spaces": line(b"GET  /open/x HTTP/1.1"),
    "extra-word": line(b"GET /open/x y HTTP/1.1"),
    "prefix": line(b"Extra lineGET /open/x HTTP/1.1"),
    "cr-cr-lf": refused(b"GET /open/x HTTP/1.1\r\r\nHost: a\r\n\r\n"),
    "lf-cr": refused(b"GET /open/x HTTP/1.1\n\rHost: a\r\n\r\n"),
    "cr-only": refused(b"GET /open/x HTTP/1.1\rHost: a\r\r"),
    "method-comma": line(b"GE,T /open/x HTTP/1.1"),
    "method-quotes": line(b'"GET" /open/x HTTP/1.1'),
    "method-nul": line(b"GET\0 /open/x HTTP/1.1"),
    "method-utf8": line("G\u00c9T /open/x HTTP/1.1".encode()),
    "method-bom": line(b"\xef\xbb\xbfGET /open/x HTTP/1.1"),
    "connect": line(b"CONNECT a.example:443 HTTP/1.1", 405),
    "connect-ip": line(b"CONNECT 127.0.0.1:22 HTTP/1.1", 405),
    "connect-lower-case-is-another": passes(b"connect /open/x HTTP/1.1\r\nHost: a\r\n\r\n", b"connect /open/x"),
    "empty-lines-before": passes(b"\r\n\r\n" + get(), b"GET /open/x"),
    "empty-line-of-lf-before": refused(b"\n" + get()),
    "target-empty": line(b"GET  HTTP/1.1"),
    "target-query-alone": line(b"GET ?x HTTP/1.1"),
    "target-backslash": line(b"GET \\open\\x HTTP/1.1"),
    "target-without-slash": line(b"GET open/x HTTP/1.1"),
    "target-star": line(b"GET * HTTP/1.1"),
    "target-authority": line(b"GET a.example HTTP/1.1"),
    "target-authority-port": line(b"GET a.example:80 HTTP/1.1"),
    "target-fragment": line(b"GET /open/x#y HTTP/1.1"),
    "target-fragment-in-query": line(b"GET /open/x?y#z HTTP/1.1"),
    "target-nul": line(b"GET /open/\0 HTTP/1.1"),
    "target-cr": line(b"GET /open/\rx HTTP/1.1"),
    "target-tab": line(b"GET /open/\tx HTTP/1.1"),
    "target-utf8": line("GET /open/\u00e9 HTTP/1.1".encode()),
    "target-ftp": line(b"GET ftp://a/open/x HTTP/1.1"),
    "target-file": line(b"GET file:///etc/passwd HTTP/1.1"),
    "target-javascript": line(b"GET javascript:x HTTP/1.1"),
    "target-one-slash": line(b"GET http:/a/open/x HTTP/1.1"),
    "target-no-slashes": line(b"GET http:a/open/x HTTP/1.1"),
    "target-three-slashes": line(b"GET http:///open/x HTTP/1.1"),
    "target-user": line(b"GET http://u:p@a/open/x HTTP/1.1"),
    "target-two-ports": line(b"GET http://a:80:81/open/x HTTP/1.1"),
    "target-port-letters": line(b"GET http://a:x/open/x HTTP/1.1"),
    "target-open-bracket": line(b"GET http://[::1/open/x HTTP/1.1"),
    "target-behind-bracket": line(b"GET http://[::1]x/open/x HTTP/1.1"),
    "target-backslash-authority": line(b"GET http://a\\@b/open/x HTTP/1.1"),
    "target-comma-authority": line(b"GET http://a,b/open/x HTTP/1.1"),
    "absolute": taken_host(b" a", b"http://b.example/open/x"),
    "absolute-scheme-case": taken_host(b" a", b"HtTp://b.example/open/x"),
    "absolute-https": taken_host(b" a", b"https://b.example/open/x"),
    "absolute-ipv6": taken_host(b" a", b"http://[::1]:80/open/x"),
    "absolute-without-host": refused(b"GET http://a/open/x HTTP/1.1\r\n\r\n"),
    "absolute-two-hosts": refused(b"GET http://a/open/x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    "absolute-bad-host-field": refused(b"GET http://a/open/x HTTP/1.1\r\nHost: b/c\r\n\r\n"),
    "host-missing": refused(b"GET /open/x HTTP/1.1\r\n\r\n"),
    "host-missing-1.0": Row(b"GET /open/x HTTP/1.0\r\n\r\n", "200", (b"GET /open/x",)),
    "host-two": refused(get(b"Host: b\r\n")),
    "host-same-twice": refused(get(b"Host: a\r\n")),
    "host-twice-1.0": refused(b"GET /open/x HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    "host-second-with-space": refused(get(b"Host : b\r\n")),
    "host-second-folded": refused(get(b"X: y\r\n Host: b\r\n")),
    "host-first-line-folded": refused(b"GET /open/x HTTP/1.1\r\n Host: a\r\nHost: b\r\n\r\n"),
    "host-empty": host(b""),
    "host-blank": host(b" \t"),
    "host-user": host(b"u@a"),
    "host-path": host(b"a/open"),
    "host-query": host(b"a?b"),
    "host-fragment": host(b"a#b"),
    "host-backslash": host(b"a\\b"),
    "host-comma": host(b"a,b"),
    "host-words": host(b"a b"),
    "host-scheme": host(b"http://a"),
    "host-quotes": host(b'"a"'),
    "host-brackets": host(b"<a>"),
    "host-nul": host(b"a\0b"),
    "host-control": host(b"a\x01"),
    "host-utf8": host("\u00e9".encode()),
    "host-two-ports": host(b"a:80:81"),
    "host-port-minus": host(b"a:-1"),
    "host-port-letters": host(b"a:http"),
    "host-port-65536": host(b"a:65536"),
    "host-port-long": host(b"a:000080"),
    "host-ipv6-bare": host(b"::1"),
    "host-ipv6-open": host(b"[::1"),
    "host-ipv6-behind": host(b"[::1]a"),
    "host-ipv6-zone": host(b"[fe80::1%25eth0]"),
    "host-tab-before": taken_host(b"\ta"),
    "host-nothing-before": taken_host(b"a"),
    "host-blanks-behind": taken_host(b" a \t "),
    "host-empty-port": taken_host(b" a:"),
    "host-dot": taken_host(b" a."),
    "host-underscore": taken_host(b" a_b"),
    "host-ipv6": taken_host(b" [2001:db8::1]:8080"),
    "host-case-of-name": passes(b"GET /open/x HTTP/1.1\r\nhOsT:\ta\r\nempty:\r\n\r\n", b"GET /open/x"),
    "host-last": passes(b"GET /open/x HTTP/1.1\r\nA: b\r\nHost: a\r\n\r\n", b"GET /open/x"),
    "name-empty": refused(get(b": x\r\n")),
    "name-space-behind": refused(get(b"X : y\r\n")),
    "name-tab-behind": refused(get(b"X\t: y\r\n")),
    "name-space-within": refused(get(b"X Y: z\r\n")),
    "no-colon": refused(get(b"X\r\n")),
    "fold": refused(get(b"X: y\r\n z\r\n")),
    "fold-first": refused(b"GET /open/x HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n"),
    "fold-of-blanks": refused(get(b"X: y\r\n  \r\n")),
    "value-cr": refused(get(b"X: y\rZ: z\r\n")),
    "value-lf": refused(get(b"X: y\nZ: z\r\n")),
    "value-cr-at-the-end": refused(get(b"X: y\r\r\n")),
    "end-of-lf": refused(b"GET /open/x HTTP/1.1\r\nHost: a\r\n\n"),
    "end-of-cr": refused(b"GET /open/x HTTP/1.1\r\nHost: a\r\n\r\r\n"),
    "expect-other": refused(get(b"Expect: 200-ok\r\n"), 417),
    "expect-empty": refused(get(b"Expect:\r\n"), 417),
    "expect-case": passes(get(b"Expect: 100-Continue\r\n"), b"GET /open/x"),
    "max-forwards-minus": refused(b"OPTIONS /open/x HTTP/1.1\r\nHost: a\r\nMax-Forwards: -1\r\n\r\n"),
    "max-forwards-words": refused(b"TRACE /open/x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1 1\r\n\r\n"),
    "trace-body": refused(b"TRACE /open/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "trace-length-0": passes(b"TRACE /open/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", b"TRACE /open/x"),
    "fields-100": passes(get(b"X: y\r\n" * 99), b"GET /open/x"),
    "fields-101": refused(get(b"X: y\r\n" * 100), 431),
    "fields-of-nothing": refused(get(b"X:\r\n" * 30_000), 431),
    "name-long": passes(get(b"X" * 8_000 + b": y\r\n"), b"GET /open/x"),
    "name-too-long": refused(get(b"X" * 80_000 + b": y\r\n"), 431),
    "value-too-long": refused(get(b"X: " + b"y" * 80_000 + b"\r\n"), 431),
    "value-without-end": Row(b"GET /open/x HTTP/1.1\r\nX: " + b"y" * 100_000, "431"),
    "line-too-long": refused(get(target=b"/open/" + b"x" * 20_000), 414),
    "line-without-end": Row(b"GET /open/" + b"x" * 100_000, "414"),
    "method-too-long": line(b"G" * 65 + b" /open/x HTTP/1.1", 501),
    "method-without-end": Row(b"G" * 100_000, "414"),
}


@pytest.mark.parametrize(("name", "way"), ways(LINES))
async def test_heads(rig: Rig, name: str, way: str) -> None:
    await play(rig, LINES[name], way)


async def test_every_byte_of_a_name(rig: Rig) -> None:
    """9110 5.1: a token, and nothing else anywhere in it."""
    for byte in range(256):
        name = b"X%cY" % byte
        row = passes(get(name + b": z\r\n"), b"GET /open/x") if byte in TOKEN else refused(get(name + b": z\r\n"))
        if byte != ord(":"):
            got = await play(rig, row)
            assert [one.one(name.decode("latin-1")) for one in got] == [b"z"][: len(row.seen)], byte


async def test_every_byte_of_a_value(rig: Rig) -> None:
    """9110 5.5: visible ones, blanks and obs-text cross as they are."""
    for byte in range(256):
        good = byte == 9 or (32 <= byte != 127)
        sent = get(b"X: y%cz\r\n" % byte)
        got = await play(rig, passes(sent, b"GET /open/x") if good else refused(sent))
        assert [one.one("x") for one in got] == [b"y%cz" % byte][: int(good)], byte


async def test_every_byte_of_a_target(rig: Rig) -> None:
    """9112 3.2: what is no URI and no control character crosses as it is."""
    for byte in range(256):
        target = b"/open/y%cz" % byte
        good = 33 <= byte < 127 and byte != ord("#")
        row = passes(get(target=target), b"GET " + target) if good else refused(get(target=target))
        await play(rig, row)


async def test_every_byte_of_a_method(rig: Rig) -> None:
    for byte in range(256):
        sent = b"G%cT /open/x HTTP/1.1\r\nHost: a\r\n\r\n" % byte
        await play(rig, passes(sent, b"G%cT /open/x" % byte) if byte in TOKEN else refused(sent))
