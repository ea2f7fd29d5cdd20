"""Malformed requests (http.md 1; RFC 9112): one answer, then closed; nothing upstream, nothing in the ledger."""

import pytest

from tests.gateway.cruel import CruelUpstream, until
from tests.gateway.rig import Options, Rig

H = "Host: a"
# id -> request line, fields (without the key), body, statuses
REFUSED: dict[str, tuple[str, list[str], bytes, set[int]]] = {
    "6.1-length-and-chunked": ("POST / HTTP/1.1", [H, "Content-Length: 4", "Transfer-Encoding: chunked"], b"", {400}),
    "6.1-chunked-and-length": ("POST / HTTP/1.1", [H, "Transfer-Encoding: chunked", "Content-Length: 4"], b"", {400}),
    "6.1-gzip-chunked": ("POST / HTTP/1.1", [H, "Transfer-Encoding: gzip, chunked"], b"0\r\n\r\n", {400, 501}),
    "6.1-chunked-gzip": ("POST / HTTP/1.1", [H, "Transfer-Encoding: chunked, gzip"], b"0\r\n\r\n", {400, 501}),
    "6.1-gzip": ("POST / HTTP/1.1", [H, "Transfer-Encoding: gzip"], b"", {400, 501}),
    "6.1-identity": ("POST / HTTP/1.1", [H, "Transfer-Encoding: identity"], b"", {400, 501}),
    "6.1-chunked-twice": (
        "POST / HTTP/1.1",
        [H, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        b"0\r\n\r\n",
        {400, 501},
    ),
    "6.1-chunked-list-twice": ("POST / HTTP/1.1", [H, "Transfer-Encoding: chunked, chunked"], b"0\r\n\r\n", {400, 501}),
    "6.1-xchunked": ("POST / HTTP/1.1", [H, "Transfer-Encoding: xchunked"], b"0\r\n\r\n", {400, 501}),
    "6.1-vertical-tab": ("POST / HTTP/1.1", [H, "Transfer-Encoding: \x0bchunked"], b"0\r\n\r\n", {400}),
    "6.1-leading-comma": ("POST / HTTP/1.1", [H, "Transfer-Encoding: ,chunked"], b"0\r\n\r\n", {400, 501}),
    "6.1-trailing-comma": ("POST / HTTP/1.1", [H, "Transfer-Encoding: chunked,"], b"0\r\n\r\n", {400, 501}),
    "6.1-quoted": ("POST / HTTP/1.1", [H, 'Transfer-Encoding: "chunked"'], b"0\r\n\r\n", {400, 501}),
    "6.1-parameter": ("POST / HTTP/1.1", [H, "Transfer-Encoding: chunked;q=1"], b"0\r\n\r\n", {400, 501}),
    "6.1-folded-coding": ("POST / HTTP/1.1", [H, "Transfer-Encoding:", " chunked"], b"0\r\n\r\n", {400}),
    "6.1-coding-with-space": ("POST / HTTP/1.1", [H, "Transfer-Encoding : chunked"], b"0\r\n\r\n", {400}),
    "6.1-empty-coding": ("POST / HTTP/1.1", [H, "Transfer-Encoding: "], b"", {400, 501}),
    "6.1-coding-in-1.0": ("POST / HTTP/1.0", [H, "Transfer-Encoding: chunked"], b"0\r\n\r\n", {400}),
    "6.3-two-lengths": ("POST / HTTP/1.1", [H, "Content-Length: 4", "Content-Length: 5"], b"abcde", {400}),
    "6.3-same-length-twice": ("POST / HTTP/1.1", [H, "Content-Length: 5", "Content-Length: 5"], b"abcde", {400}),
    "6.3-list-of-same-lengths": ("POST / HTTP/1.1", [H, "Content-Length: 5, 5"], b"abcde", {400}),
    "6.3-negative-zero": ("POST / HTTP/1.1", [H, "Content-Length: -0"], b"", {400}),
    "6.3-underscore": ("POST / HTTP/1.1", [H, "Content-Length: 1_0"], b"abcde", {400}),
    "6.3-two-numbers": ("POST / HTTP/1.1", [H, "Content-Length: 1 0"], b"abcde", {400}),
    "6.3-octal": ("POST / HTTP/1.1", [H, "Content-Length: 0o5"], b"abcde", {400}),
    "6.3-vertical-tab": ("POST / HTTP/1.1", [H, "Content-Length: \x0b5"], b"abcde", {400}),
    "6.3-list-of-lengths": ("POST / HTTP/1.1", [H, "Content-Length: 4, 5"], b"abcde", {400}),
    "6.3-negative-length": ("POST / HTTP/1.1", [H, "Content-Length: -1"], b"", {400}),
    "6.3-plus-length": ("POST / HTTP/1.1", [H, "Content-Length: +1"], b"a", {400}),
    "6.3-hex-length": ("POST / HTTP/1.1", [H, "Content-Length: 0x1"], b"a", {400}),
    "6.3-empty-length": ("POST / HTTP/1.1", [H, "Content-Length: "], b"", {400}),
    "6.3-huge-length": ("POST / HTTP/1.1", [H, "Content-Length: 99999999999999999999999"], b"", {400}),
    "5.2-folded": ("GET / HTTP/1.1", [H, "X-A: b", " c"], b"", {400}),
    "5.2-folded-tab": ("GET / HTTP/1.1", [H, "X-A: b", "\tc"], b"", {400}),
    "5.2-folded-first": ("GET / HTTP/1.1", [" X-A: b", H], b"", {400}),
    "5.1-space-before-colon": ("GET / HTTP/1.1", [H, "X-A : b"], b"", {400}),
    "5.1-space-in-name": ("GET / HTTP/1.1", [H, "X A: b"], b"", {400}),
    "5.1-no-colon": ("GET / HTTP/1.1", [H, "X-A"], b"", {400}),
    "5.1-no-name": ("GET / HTTP/1.1", [H, ": b"], b"", {400}),
    "5.1-length-with-space": ("POST / HTTP/1.1", [H, "Content-Length : 5"], b"abcde", {400}),
    "2.2-bare-cr": ("GET / HTTP/1.1", [H, "X-A: b\rX-B: c"], b"", {400}),
    "2.2-bare-lf": ("GET / HTTP/1.1", [H, "X-A: b\nX-B: c"], b"", {400}),
    "2.2-bare-lf-first-line": ("GET / HTTP/1.1\nHost: a", [], b"", {400}),
    "2.2-bare-lf-everywhere": ("GET / HTTP/1.1\nHost: a\n\n", [], b"", {400}),
    "2.2-bare-lf-at-the-end": ("GET / HTTP/1.1", [H, "X-A: b\r\n\nX-B: c"], b"", {400}),
    "2.2-two-crs": ("GET / HTTP/1.1", [H, "X-A: b\r"], b"", {400}),
    "2.2-leading-lf": ("\nGET / HTTP/1.1", [H], b"", {400}),
    "2.2-leading-cr": ("\rGET / HTTP/1.1", [H], b"", {400}),
    "2.2-leading-space": (" GET / HTTP/1.1", [H], b"", {400}),
    "2.2-blank-line-of-spaces": ("GET / HTTP/1.1", [H, " "], b"", {400}),
    "2.2-blank-line-of-tabs": ("GET / HTTP/1.1", [H, "\t"], b"", {400}),
    "5.2-folded-blank": ("POST / HTTP/1.1", [H, "Transfer-Encoding: chunked\t", "\t"], b"0\r\n\r\n", {400}),
    "9110-5.5-control": ("GET / HTTP/1.1", [H, "X-A: b\x01c"], b"", {400}),
    "9110-5.5-delete": ("GET / HTTP/1.1", [H, "X-A: b\x7fc"], b"", {400}),
    "9110-5.1-obs-text-in-name": ("GET / HTTP/1.1", [H, "X-\xe4: b"], b"", {400}),
    "9110-5.5-nul": ("GET / HTTP/1.1", [H, "X-A: b\x00c"], b"", {400}),
    "9110-5.1-nul-in-name": ("GET / HTTP/1.1", [H, "X-\x00A: b"], b"", {400}),
    "3-no-version": ("GET /", [H], b"", {400, 505}),
    "3-two-targets": ("GET / /b HTTP/1.1", [H], b"", {400}),
    "3-space-in-target": ("GET /a b HTTP/1.1", [H], b"", {400}),
    "3-tab-for-space": ("GET\t/ HTTP/1.1", [H], b"", {400}),
    "3-double-space": ("GET  / HTTP/1.1", [H], b"", {400}),
    "3-double-space-before-version": ("GET /  HTTP/1.1", [H], b"", {400}),
    "3-trailing-space": ("GET / HTTP/1.1 ", [H], b"", {400}),
    "3-lower-case-version": ("GET / http/1.1", [H], b"", {400, 505}),
    "3-method-with-colon": ("G:T / HTTP/1.1", [H], b"", {400}),
    "3-rtsp": ("GET / RTSP/1.0", [H], b"", {400}),
    "3-ice": ("SOURCE / ICE/1.0", [H], b"", {400}),
    "3-https": ("GET / HTTPS/1.1", [H], b"", {400}),
    "3-no-minor": ("GET / HTTP/1", [H], b"", {400}),
    "3-leading-zero": ("GET / HTTP/01.1", [H], b"", {400}),
    "3-two-digits": ("GET / HTTP/1.01", [H], b"", {400}),
    "3-space-for-slash": ("GET / HTTP 1.1", [H], b"", {400}),
    "3-long-method": ("A" * 65 + " / HTTP/1.1", [H], b"", {501}),
    "3-bracket-in-method": ("G{T / HTTP/1.1", [H], b"", {400}),
    "3-tls": ("\x16\x03\x01\x02\x00\x01\x00", [], b"", {400}),
    "3-not-http": ("hello", [], b"", {400}),
    "3.2-control-in-target": ("GET /a\x01b HTTP/1.1", [H], b"", {400}),
    "3.2-nul-in-target": ("GET /a\x00b HTTP/1.1", [H], b"", {400}),
    "3.2-delete-in-target": ("GET /a\x7fb HTTP/1.1", [H], b"", {400}),
    "3.2-obs-text-in-target": ("GET /\xc3\xa9 HTTP/1.1", [H], b"", {400}),
    "3.2-authority": ("GET a:443 HTTP/1.1", [H], b"", {400}),
    "3.2-star-for-an-unknown": ("FOO * HTTP/1.1", [H], b"", {400}),
    "3.2-connect-to-a-path": ("CONNECT /a HTTP/1.1", [H], b"", {405}),
    "3.2-connect-absolute": ("CONNECT http://a/ HTTP/1.1", [H], b"", {405}),
    "3.2-connect-with-body": ("CONNECT a:443 HTTP/1.1", [H, "Content-Length: 3"], b"abc", {405}),
    "3.2-fragment": ("GET /a#b HTTP/1.1", [H], b"", {400}),
    "3.2-absolute-fragment": ("GET http://a/b#c HTTP/1.1", [H], b"", {400}),
    "3.2-not-a-path": ("GET a HTTP/1.1", [H], b"", {400}),
    "3.2-star-for-get": ("GET * HTTP/1.1", [H], b"", {400}),
    "3.2-other-scheme": ("GET ftp://a/b HTTP/1.1", [H], b"", {400}),
    "3.2-no-authority": ("GET http:///b HTTP/1.1", [H], b"", {400}),
    "3.2-userinfo": ("GET http://u@a/b HTTP/1.1", [H], b"", {400}),
    "3.2-connect": ("CONNECT a:443 HTTP/1.1", ["Host: a:443"], b"", {405}),
    "3.2-no-host": ("GET / HTTP/1.1", [], b"", {400}),
    "3.2-two-hosts": ("GET / HTTP/1.1", [H, "Host: b"], b"", {400}),
    "3.2-same-host-twice": ("GET / HTTP/1.1", [H, H], b"", {400}),
    "3.2-host-with-path": ("GET / HTTP/1.1", ["Host: a/b"], b"", {400}),
    "3.2-host-with-user": ("GET / HTTP/1.1", ["Host: u@a"], b"", {400}),
    "3.2-host-with-space": ("GET / HTTP/1.1", ["Host: a b"], b"", {400}),
    "3.2-host-list-tight": ("GET / HTTP/1.1", ["Host: a,b"], b"", {400}),
    "3.2-host-obs-text": ("GET / HTTP/1.1", ["Host: \xe4"], b"", {400}),
    "3.2-host-zone": ("GET / HTTP/1.1", ["Host: [fe80::1%25eth0]"], b"", {400}),
    "3.2-host-list": ("GET / HTTP/1.1", ["Host: a, b"], b"", {400}),
    "3.2-host-bad-port": ("GET / HTTP/1.1", ["Host: a:x"], b"", {400}),
    "3.2-host-port-too-high": ("GET / HTTP/1.1", ["Host: a:65536"], b"", {400}),
    "3.2-authority-port-too-high": ("GET http://a:70000/ HTTP/1.1", [H], b"", {400}),
    "3.2-empty-host": ("GET / HTTP/1.1", ["Host: "], b"", {400}),
    "3.2-no-host-absolute": ("GET http://a/b HTTP/1.1", [], b"", {400}),
    "9110-15.6.6-1.2": ("GET / HTTP/1.2", [H], b"", {505, 400}),
    "9110-15.6.6-0.9": ("GET / HTTP/0.9", [H], b"", {505, 400}),
    "9110-15.6.6-2.0": ("GET / HTTP/2.0", [H], b"", {505, 400}),
    "9110-15.6.6-h2-preface": ("PRI * HTTP/2.0", [], b"SM\r\n\r\n", {505, 400}),
    "9110-10.1.1-other-expectation": ("GET / HTTP/1.1", [H, "Expect: tea"], b"", {417}),
    "9110-10.1.1-one-more-expectation": ("POST / HTTP/1.1", [H, "Expect: 100-continue, tea"], b"", {417}),
    "9110-7.6.2-two-max-forwards": ("OPTIONS / HTTP/1.1", [H, "Max-Forwards: 5", "Max-Forwards: 3"], b"", {400}),
    "9110-9.3.8-trace-with-body": ("TRACE / HTTP/1.1", [H, "Content-Length: 3"], b"abc", {400}),
    "9110-7.6.2-max-forwards": ("OPTIONS / HTTP/1.1", [H, "Max-Forwards: x"], b"", {400}),
    "bounds-line": ("GET /" + "a" * 20_000 + " HTTP/1.1", [H], b"", {414, 431}),
    "bounds-line-huge": ("GET /" + "a" * 200_000 + " HTTP/1.1", [H], b"", {414, 431}),
    "bounds-count": ("GET / HTTP/1.1", [H, *["X-A: b"] * 101], b"", {431}),
    "bounds-one-field": ("GET / HTTP/1.1", [H, "X-A: " + "b" * 100_000], b"", {431}),
    "bounds-bytes": ("GET / HTTP/1.1", [H, *["X-A: " + "b" * 2_000] * 60], b"", {431}),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("way", ["whole", "split", "after-another"])
async def test_is_refused(rig: Rig, upstream: CruelUpstream, name: str, way: str) -> None:
    """What follows the bad request on the connection is never read as one: it might be smuggled."""
    line, fields, body, statuses = REFUSED[name]
    client = await rig.client()
    head = "\r\n".join([line, *fields, f"X-API-Key: {rig.key}"]).encode("latin-1") + b"\r\n\r\n"
    data = head + body + client.request("GET /smuggled HTTP/1.1")
    if way == "split":
        middle = len(line) // 2
        client.send(data[:middle])
        await client.drained()
        client.send(data[middle:])
    elif way == "after-another":
        client.ask("GET /first HTTP/1.1")
        assert (await client.message()).status == 200
        client.send(data)
    else:
        client.send(data)
    reply = await client.message()
    assert reply.status in statuses, reply
    assert reply.one("connection") == b"close"
    assert reply.one("content-type") == b"application/problem+json"
    assert rig.key.encode() not in reply.body
    await client.closes()
    served = 1 if way == "after-another" else 0
    assert len(upstream.requests) == served
    assert len(await rig.ledger()) == served


BROKEN_CHUNKS = {
    "7.1-overflow": b"FFFFFFFFFFFFFFFFFF\r\nabc",
    "7.1-not-hex": b"zz\r\nabc\r\n0\r\n\r\n",
    "7.1-negative": b"-1\r\nabc\r\n0\r\n\r\n",
    "7.1-0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "7.1-space": b"3 \r\nabc\r\n0\r\n\r\n",
    "7.1-empty-size": b"\r\nabc\r\n0\r\n\r\n",
    "7.1-long-chunk": b"3\r\nabcd\r\n0\r\n\r\n",
    "7.1-short-chunk": b"4\r\nabc\r\n0\r\n\r\n",
    "7.1-bare-lf-after-size": b"3\nabc\r\n0\r\n\r\n",
    "7.1-bare-lf-after-data": b"3\r\nabc\n0\r\n\r\n",
    "7.1-plus": b"+3\r\nabc\r\n0\r\n\r\n",
    "7.1-underscore": b"1_0\r\nabcdefghijklmnop\r\n0\r\n\r\n",
    "7.1-leading-space": b" 3\r\nabc\r\n0\r\n\r\n",
    "7.1-leading-tab": b"\t3\r\nabc\r\n0\r\n\r\n",
    "7.1-many-zeros": b"00000000000000003\r\nabc\r\n0\r\n\r\n",
    "7.1-two-crs-after-size": b"3\r\r\nabc\r\n0\r\n\r\n",
    "7.1-bare-cr-after-size": b"3\rabc\r\n0\r\n\r\n",
    "7.1-bare-cr-after-data": b"3\r\nabc\r0\r\n\r\n",
    "7.1-nothing-after-data": b"3\r\nabc0\r\n\r\n",
    "7.1.1-bare-semicolon": b"3;\r\nabc\r\n0\r\n\r\n",
    "7.1.1-no-value": b"3;a=\r\nabc\r\n0\r\n\r\n",
    "7.1.1-open-quote": b'3;a="b\r\nabc\r\n0\r\n\r\n',
    "7.1.1-bare-lf-in-quotes": b'3;a="b\nc"\r\nabc\r\n0\r\n\r\n',
    "7.1.1-crlf-in-quotes": b'3;a="b\r\nc"\r\nabc\r\n0\r\n\r\n',
    "7.1.1-bare-cr-in-extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "7.1.2-bare-cr-in-trailer": b"3\r\nabc\r\n0\r\nX-A: b\rX-B: c\r\n\r\n",
    "7.1.2-nul-in-trailer": b"3\r\nabc\r\n0\r\nX-A: \x00\r\n\r\n",
    "7.1.2-space-before-colon": b"3\r\nabc\r\n0\r\nX-A : b\r\n\r\n",
    "7.1.2-length": b"3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n",
    "7.1.2-coding": b"3\r\nabc\r\n0\r\ntransfer-encoding: gzip\r\n\r\n",
    "7.1.2-no-colon": b"3\r\nabc\r\n0\r\nX-A\r\n\r\n",
    "7.1.1-nul-in-extension": b"3;a=\x00\r\nabc\r\n0\r\n\r\n",
    "7.1.1-bare-lf-in-extension": b"3;a=\nb\r\nabc\r\n0\r\n\r\n",
    "7.1.2-folded-trailer": b"3\r\nabc\r\n0\r\nX-A: b\r\n c\r\n\r\n",
    "7.1.2-bare-lf-in-trailer": b"3\r\nabc\r\n0\r\nX-A: b\nX-B: c\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN_CHUNKS)
@pytest.mark.parametrize("together", [True, False], ids=["with-head", "after-head"])
async def test_broken_chunks(rig: Rig, upstream: CruelUpstream, name: str, together: bool) -> None:
    """400 and close; if the call had gone upstream, the upstream must not take it for whole, and nothing is charged."""
    client = await rig.client()
    head = client.request("POST / HTTP/1.1", "Transfer-Encoding: chunked")
    if together:
        client.send(head + BROKEN_CHUNKS[name])
    else:
        client.send(head)
        await client.drained()
        client.send(BROKEN_CHUNKS[name])
    client.send(client.request("GET /smuggled HTTP/1.1"))
    reply = await client.message()
    assert reply.status == 400
    await client.closes()
    assert upstream.requests == []
    for entry in await rig.ledger():
        assert (entry.outcome, entry.units) == ("client_gone", 0)


@pytest.mark.parametrize("options", [Options(bounds="max_pipelined: 2, max_headers: 20, max_request_line: 256B")])
async def test_bounds_are_settings(rig: Rig) -> None:
    assert (await rig.call(f"GET /{'a' * 300} HTTP/1.1")).status == 414
    assert (await rig.call("GET / HTTP/1.1", *["X-A: b"] * 20)).status == 431
    assert (await rig.call(f"GET /{'a' * 200} HTTP/1.1", *["X-A: b"] * 18)).status == 200


async def test_bodies_over_the_bound(rig: Rig, upstream: CruelUpstream) -> None:
    """By Content-Length it is refused unread; by chunks as soon as it is over."""
    client = await rig.client()
    client.ask("POST /small HTTP/1.1", "Content-Length: 11")
    assert (await client.message()).status == 413
    client.send(b"x" * 11)
    client.ask("GET /next HTTP/1.1")
    assert (await client.message()).status == 200  # the refused body was small: read, forgotten, the connection kept
    client.ask("POST /small HTTP/1.1", "Transfer-Encoding: chunked")
    client.send(b"6\r\nabcdef\r\n")
    await until(lambda: rig.journal.readings().open_calls == 1)
    client.send(b"6\r\nabcdef\r\n0\r\n\r\n")
    assert (await client.message()).status == 413
    await client.closes()
    entries = await rig.ledger()
    assert [entry.units for entry in entries if entry.route == "small"] in ([], [0])
    assert [one.start for one in upstream.requests] == [b"GET /next HTTP/1.1"], upstream.requests[-1]


@pytest.mark.parametrize("length", [11, 10_000_000])
async def test_a_large_refused_body_closes(rig: Rig, length: int) -> None:
    client = await rig.client()
    client.ask("POST /small HTTP/1.1", f"Content-Length: {length}")
    reply = await client.message()
    assert reply.status == 413
    assert (reply.one("connection") == b"close") is (length > 64 * 1024)


async def test_a_body_of_just_the_bound_passes(rig: Rig) -> None:
    assert (await rig.call("POST /small HTTP/1.1", "Content-Length: 10", body=b"x" * 10)).status == 200


async def test_addresses(rig: Rig) -> None:
    reply = await rig.call("GET /written HTTP/1.1")
    assert reply.status == 200  # the route for any method takes it
    assert await rig.ledger() != []


ROUTES_ONLY = """\
  - {name: written, match: {methods: [PUT, POST], path: "/written"}, upstream: api}
  - {name: read, match: {methods: [GET], path: "/read"}, upstream: api}"""


@pytest.mark.parametrize("options", [Options(routes=ROUTES_ONLY)])
async def test_unknown_addresses_and_methods(rig: Rig, upstream: CruelUpstream) -> None:
    """404; 405 with Allow (RFC 9110, 15.5.6); the connection is kept; nothing is recorded."""
    client = await rig.client()
    client.ask("GET /nothing HTTP/1.1")
    assert (await client.message()).status == 404
    client.ask("GET /written HTTP/1.1")
    reply = await client.message()
    assert (reply.status, reply.one("allow")) == (405, b"POST, PUT")
    client.ask("DELETE /read HTTP/1.1")
    assert (await client.message()).one("allow") == b"GET, HEAD"
    client.ask("HEAD /read HTTP/1.1")
    assert (await client.message(bodiless=True)).status == 200
    assert [entry.method for entry in await rig.ledger()] == ["HEAD"]


async def test_a_path_with_two_readings_for_two_routes(rig: Rig, upstream: CruelUpstream) -> None:
    assert (await rig.call("GET /open%2Fx HTTP/1.1")).status == 400
    assert (await rig.call("GET /x/..%2fopen/x HTTP/1.1")).status == 400
    assert (await rig.call("GET /a%2Fb HTTP/1.1")).status == 200
    assert upstream.requests[0].start == b"GET /a%2Fb HTTP/1.1"


async def test_without_a_key(rig: Rig, upstream: CruelUpstream) -> None:
    client = await rig.client()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    reply = await client.message()
    assert reply.status == 401
    assert reply.all("www-authenticate")
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-API-Key: nonsense\r\n\r\n")
    assert (await client.message()).status == 401
    client.send(b"GET /open/x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.message()).status == 200
    assert upstream.requests[0].one("x-tenant-id") is None
    entry = await rig.only_entry()
    assert (entry.tenant, entry.route) == ("", "open")


async def test_an_address_that_guesses_keys_gets_429_and_hears_until_when(rig: Rig) -> None:
    client = await rig.client()
    client.key = b"wrong"
    for _ in range(20):
        client.ask()
        assert (await client.message()).status == 401
    rig.clock.advance(20)
    client.ask()
    reply = await client.message()
    assert (reply.status, reply.one("retry-after")) == (429, b"40")
    assert b'"code":"too_many_failures"' in reply.body
