"""Requests that are odd and right (RFC 9110, 9112): taken, and forwarded in the one form that nobody misreads."""

import pytest

from tests.gateway.cruel import CruelUpstream
from tests.gateway.rig import Options, Rig

CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"
LENGTH = (b"content-length", b"3")
CODING = (b"transfer-encoding", b"chunked")
# id -> request line, fields, body as sent, what frames it upstream
TAKEN: dict[str, tuple[str, list[str], bytes, tuple[bytes, bytes]]] = {
    "9110-5.5-space-behind-coding": ("POST / HTTP/1.1", ["Transfer-Encoding: chunked "], CHUNKS, CODING),
    "9110-5.5-tab-before-coding": ("POST / HTTP/1.1", ["Transfer-Encoding:\tchunked"], CHUNKS, CODING),
    "9110-5.5-tab-behind-coding": ("POST / HTTP/1.1", ["Transfer-Encoding: chunked\t"], CHUNKS, CODING),
    "9110-5.5-both-behind-coding": ("POST / HTTP/1.1", ["Transfer-Encoding: chunked\t \t "], CHUNKS, CODING),
    "9110-5.5-tab-behind-others": (
        "POST / HTTP/1.1",
        ["X-A: b\t", "X-B:\t", "Content-Length: 3\t", "Connection: x\t"],
        b"abc",
        LENGTH,
    ),
    "6.1-upper-case": ("POST / HTTP/1.1", ["TRANSFER-ENCODING: CHUNKED"], CHUNKS, CODING),
    "9110-5.5-space-around-length": ("POST / HTTP/1.1", ["Content-Length: \t 3 \t"], b"abc", LENGTH),
    "9110-5.5-no-space-before-length": ("POST / HTTP/1.1", ["Content-Length:3"], b"abc", LENGTH),
    "9110-8.6-zeros-before-length": ("POST / HTTP/1.1", ["Content-Length: 0003"], b"abc", LENGTH),
    "7.1-zeros-before-size": ("POST / HTTP/1.1", [CHUNKED], b"0000000000000003\r\nabc\r\n000\r\n\r\n", CODING),
    "7.1-hex-of-both-cases": (
        "POST / HTTP/1.1",
        [CHUNKED],
        b"0a\r\n0123456789\r\n0A\r\nabcdefghij\r\n0\r\n\r\n",
        CODING,
    ),
    "7.1.1-extensions": ("POST / HTTP/1.1", [CHUNKED], b'3;a;b=c;d="e;\\"f,";g\r\nabc\r\n0;h\r\n\r\n', CODING),
    "7.1.1-bad-whitespace": ("POST / HTTP/1.1", [CHUNKED], b"3 ; a = b\r\nabc\r\n0\r\n\r\n", CODING),
    "7.1-crlf-in-data": ("POST / HTTP/1.1", [CHUNKED], b"8\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", CODING),
    "7.1-a-body-that-looks-like-its-end": ("POST / HTTP/1.1", [CHUNKED], b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", CODING),
    "6.5.1-forbidden-trailers": (
        "POST / HTTP/1.1",
        [CHUNKED],
        b"3\r\nabc\r\n0\r\nHost: e\r\nAuthorization: Basic eDp5\r\nX-Tenant-ID: e\r\n\r\n",
        CODING,
    ),
    "body-of-a-get": ("GET / HTTP/1.1", ["Content-Length: 3"], b"abc", LENGTH),
    "body-of-a-head": ("HEAD / HTTP/1.1", ["Content-Length: 3"], b"abc", LENGTH),
    "body-of-an-options": ("OPTIONS / HTTP/1.1", ["Content-Length: 3"], b"abc", LENGTH),
    "body-of-an-unknown": ("FOO / HTTP/1.1", [CHUNKED], CHUNKS, CODING),
    "upgrade-with-a-length": (
        "POST / HTTP/1.1",
        ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAA", "Content-Length: 3"],
        b"abc",
        LENGTH,
    ),
    "upgrade-with-chunks": ("POST / HTTP/1.1", ["Connection: Upgrade", "Upgrade: h2c", CHUNKED], CHUNKS, CODING),
    "upgrade-of-a-get-with-a-length": (
        "GET / HTTP/1.1",
        ["Connection: Upgrade", "Upgrade: TLS/1.0", "Content-Length: 3"],
        b"abc",
        LENGTH,
    ),
}
BODIES = {
    "7.1-hex-of-both-cases": b"0123456789abcdefghij",
    "7.1-crlf-in-data": b"\r\n\r\n\r\n\r\n",
    "7.1-a-body-that-looks-like-its-end": b"0\r\n\r\n",
}


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("way", ["whole", "dribbled"])
async def test_is_taken(rig: Rig, upstream: CruelUpstream, name: str, way: str) -> None:
    """The upstream reads one request with the same body, then the next one: nothing of a body becomes a request."""
    line, fields, sent, framing = TAKEN[name]
    client = await rig.client()
    data = client.request(line, *fields, body=sent) + client.request("GET /next HTTP/1.1")
    client.send(data) if way == "whole" else await client.dribble(data)
    assert (await client.message(bodiless=line.startswith("HEAD"))).status == 200
    assert (await client.message()).status == 200
    first, second = upstream.requests
    assert first.start == line.encode()
    assert first.body == BODIES.get(name, b"abc")
    assert [f for f in first.fields if f[0].lower() in (b"content-length", b"transfer-encoding")] == [
        (framing[0].title(), framing[1])
    ]
    assert first.trailers == []
    assert first.one("upgrade") is None
    assert (second.start, second.body) == (b"GET /next HTTP/1.1", b"")
    assert [entry.bytes_in for entry in await rig.ledger()] == [len(first.body), 0]


async def test_the_body_of_a_declined_upgrade_is_no_request(rig: Rig, upstream: CruelUpstream) -> None:
    """9110 7.8: a parser that leaves HTTP at an Upgrade would read the body as the next request, whose first bytes the
    upstream then takes for the body that it waits for: another caller's request."""
    client = await rig.client()
    smuggled = client.request("GET /smuggled HTTP/1.1")
    fields = ("Connection: Upgrade", "Upgrade: h2c", f"Content-Length: {len(smuggled)}")
    client.ask("POST /outer HTTP/1.1", *fields, body=smuggled)
    assert (await client.message()).status == 200
    client.ask("GET /next HTTP/1.1")
    assert (await client.message()).status == 200
    assert [request.start.split()[1] for request in upstream.requests] == [b"/outer", b"/next"]
    assert upstream.requests[0].body == smuggled


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n\r\n"])
@pytest.mark.parametrize("way", ["whole", "dribbled"])
async def test_empty_lines_before_a_request(rig: Rig, upstream: CruelUpstream, before: bytes, way: str) -> None:
    """9112 2.2: also behind a body that has too many."""
    client = await rig.client()
    data = before + client.request("POST /1 HTTP/1.1", "Content-Length: 3", body=b"abc")
    data += before + client.request("GET /2 HTTP/1.1")
    client.send(data) if way == "whole" else await client.dribble(data)
    assert [(await client.message()).status for _ in range(2)] == [200, 200]
    assert [request.start.split()[1] for request in upstream.requests] == [b"/1", b"/2"]


@pytest.mark.parametrize("method", ["SOURCE", "DESCRIBE", "PLAY", "PRI", "BIND", "A" * 64, "post"])
async def test_methods_of_other_protocols_are_tokens_here(rig: Rig, upstream: CruelUpstream, method: str) -> None:
    """9110 9.1: well-formed is enough, whatever the parser takes them for."""
    assert (await rig.call(f"{method} /x HTTP/1.1", "Content-Length: 2", body=b"hi")).status == 200
    assert (upstream.requests[0].start, upstream.requests[0].body) == (f"{method} /x HTTP/1.1".encode(), b"hi")


async def test_what_expectations_an_old_client_has_is_ignored(rig: Rig, upstream: CruelUpstream) -> None:
    """9110 10.1.1."""
    assert (await rig.call("POST / HTTP/1.0", "Expect: tea", "Content-Length: 2", body=b"hi")).status == 200
    assert upstream.requests[0].one("expect") is None
    assert upstream.requests[0].one("via") == b"1.0 " + rig.lane.pseudonym


async def test_te_says_trailers_only_where_it_did(rig: Rig, upstream: CruelUpstream) -> None:
    await rig.call("GET / HTTP/1.1", "TE: nottrailers")
    await rig.call("GET / HTTP/1.1", "TE: gzip", "TE: deflate, trailers")
    assert [request.one("te") for request in upstream.requests] == [None, b"trailers"]


OWN = """\
  - {name: read, match: {methods: [GET], path: "/read"}, upstream: api}
  - {name: write, match: {methods: [PUT], path: "/read"}, upstream: api}"""


@pytest.mark.parametrize("options", [Options(routes=OWN)])
async def test_options_of_the_server(rig: Rig, upstream: CruelUpstream) -> None:
    """9110 9.3.7: without a route for ``*`` the sidecar is the server that was asked; nothing is recorded."""
    for target in ("*", "http://a.example"):
        client = await rig.client()
        client.send(b"OPTIONS %b HTTP/1.1\r\nHost: a.example\r\n\r\n" % target.encode())
        reply = await client.message(bodiless=True)
        assert reply.status == 204
        assert b"GET" in (reply.one("allow") or b"")
        assert (reply.one("content-length"), reply.one("transfer-encoding")) == (None, None)
        client.ask("GET /read HTTP/1.1")
        assert (await client.message()).status == 200
    assert len(upstream.requests) == len(await rig.ledger()) == 2


@pytest.mark.parametrize("options", [Options(routes=OWN + '\n  - {name: any, match: {path: "/a"}, upstream: api}')])
async def test_the_last_hop_of_max_forwards(rig: Rig, upstream: CruelUpstream) -> None:
    """9110 7.6.2: at 0 the sidecar answers, with what the address takes; it never sends a TRACE back."""
    reply = await rig.call("OPTIONS /a HTTP/1.1", "Max-Forwards: 0")
    assert reply.status == 204
    reply = await rig.call("TRACE /a HTTP/1.1", "Max-Forwards: 0")
    assert reply.status == 405
    assert b"TRACE" not in (reply.one("allow") or b"TRACE")
    assert upstream.requests == []
    assert await rig.ledger() == []


async def test_options_of_an_absolute_address_without_a_path(rig: Rig, upstream: CruelUpstream) -> None:
    """9112 3.2.4."""
    assert (await rig.call("OPTIONS http://b.example HTTP/1.1")).status == 200
    assert (await rig.call("OPTIONS http://b.example/ HTTP/1.1")).status == 200
    assert [request.start.split()[1] for request in upstream.requests] == [b"*", b"/"]
