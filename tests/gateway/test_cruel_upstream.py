"""Upstreams that break the rules (http.md 1): 502 before the head, a torn connection after it, never a guess."""

import pytest

from tests.gateway.cruel import OK, TORN, CruelUpstream, Wire, until
from tests.gateway.rig import Rig

R = b"HTTP/1.1 200 OK\r\n"


BAD = {
    "6.3-two-lengths": R + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "6.3-same-length-twice": R + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab",
    "6.3-list-of-lengths": R + b"Content-Length: 2, 3\r\n\r\nabc",
    "6.3-length-no-number": R + b"Content-Length: two\r\n\r\nab",
    "6.3-length-negative": R + b"Content-Length: -2\r\n\r\nab",
    "6.3-length-huge": R + b"Content-Length: 99999999999999999999999\r\n\r\nab",
    "6.3-length-and-chunked": R + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "6.3-chunked-and-length": R + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "6.1-gzip-chunked": R + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "6.1-gzip": R + b"Transfer-Encoding: gzip\r\n\r\nab",
    "6.1-chunked-twice": R + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "6.1-chunked-in-1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "5.2-folded": R + b"X-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
    "5.1-space-before-colon": R + b"X-A : b\r\nContent-Length: 2\r\n\r\nok",
    "5.1-no-colon": R + b"X-A\r\nContent-Length: 2\r\n\r\nok",
    "2.2-bare-cr": R + b"X-A: b\rX-B: c\r\nContent-Length: 2\r\n\r\nok",
    "2.2-bare-lf": R + b"X-A: b\nX-B: c\r\nContent-Length: 2\r\n\r\nok",
    "9110-5.5-nul": R + b"X-A: b\x00c\r\nContent-Length: 2\r\n\r\nok",
    "4-not-http": b"SSH-2.0-OpenSSH_9\r\n",
    "4-other-version": b"HTTP/3.7 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "4-status-of-two-digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
    "4-status-000": b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok",
    "15.2.2-unasked-101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "15.2.2-bare-101": b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK,
    "bounds-field": R + b"X-A: " + b"b" * 300_000 + b"\r\nContent-Length: 2\r\n\r\nok",
    "bounds-head": R + (b"X-A: " + b"b" * 60_000 + b"\r\n") * 60 + b"Content-Length: 2\r\n\r\nok",
    "bounds-count": R + b"X-A: b\r\n" * 1000 + b"Content-Length: 2\r\n\r\nok",
    "bounds-endless-field": R + b"X-A: " + b"b" * 3_000_000,
    "bounds-endless-phrase": b"HTTP/1.1 200 " + b"b" * 3_000_000,
    "nothing": b"",
    "half-a-head": R + b"X-A: b\r\n",
    "only-100": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_reply_that_cannot_be_trusted(rig: Rig, upstream: CruelUpstream, name: str, method: str) -> None:
    """502 and a record of the failure that charges nothing; the upstream's connection is closed, the client's kept."""
    upstream.answers(BAD[name], then_close=True)
    client = await rig.client()
    client.ask(f"{method} /a HTTP/1.1")
    reply = await client.message()
    assert reply.status == 502, reply
    assert reply.one("content-type") == b"application/problem+json"
    await upstream.wires[0].gone()
    client.ask("GET /b HTTP/1.1")
    assert (await client.message()).body == b"ok"
    first, second = await rig.ledger()
    assert (first.status, first.outcome, first.units, first.meters) == (502, "upstream_failed", 0, {})
    assert (second.status, second.outcome, second.units) == (200, "ok", 3)
    assert [request.start.split()[1] for request in upstream.requests] == [b"/a", b"/b"]


TORN_BODIES = {
    "8-short-length": R + b"Content-Length: 10\r\n\r\nabc",
    "8-short-chunk": R + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
    "8-no-last-chunk": R + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "8-no-end-of-trailers": R + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A: b\r\n",
    "7.1.2-length-among-trailers": R + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nContent-Length: 9\r\n\r\n",
    "7.1-bad-chunk-size": R + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
    "7.1-overflow": R + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nFFFFFFFFFFFFFFFFFF\r\n",
    "7.1-long-chunk": R + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", TORN_BODIES)
@pytest.mark.parametrize("how", ["together", "apart", "reset"])
async def test_a_body_that_is_not_whole(rig: Rig, upstream: CruelUpstream, name: str, how: str) -> None:
    """The client must not take it for whole: 502 while that can be said, else its connection is torn."""
    head, _, body = TORN_BODIES[name].partition(b"\r\n\r\n")

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        wire.send(head + b"\r\n\r\n")
        if how == "apart":
            await until(lambda: seen)
        wire.send(body)
        await wire.drained()
        wire.reset() if how == "reset" else wire.close()

    upstream.runs(script)
    seen: list[bytes] = []
    client = await rig.client()
    client.ask()
    if how == "apart":
        seen.append(await client.reader.readuntil(b"\r\n"))
    status = 200
    with pytest.raises(TORN):
        status = (await client.message()).status
        assert status == 502
        raise ConnectionResetError
    entry = await rig.only_entry()
    assert entry.outcome == "upstream_failed"
    assert entry.status == status


HONEST = {
    "length": (R + b"Content-Length: 3\r\n\r\nabc", b"abc"),
    "chunked": (R + b"Transfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
    "chunked-upper-case": (R + b"Transfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
    "empty": (R + b"Content-Length: 0\r\n\r\n", b""),
    "empty-chunked": (R + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b""),
    "large-head": (R + b"X-A: " + b"b" * 100_000 + b"\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    "after-100": (b"HTTP/1.1 100 Continue\r\n\r\n" + R + b"Content-Length: 3\r\n\r\nabc", b"abc"),
    "no-phrase": (b"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    "odd-status": (b"HTTP/1.1 299 Odd\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    "error": (b"HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: http://e/\r\nContent-Length: 0\r\n\r\n", b""),
}


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("how", ["whole", "dribbled"])
async def test_honest_replies(rig: Rig, upstream: CruelUpstream, name: str, how: str) -> None:
    """However they are cut into packets; both connections serve the next request."""
    raw, body = HONEST[name]

    async def script(wire: Wire) -> None:
        await upstream.take(wire)
        if how == "whole" or len(raw) > 1000:
            wire.send(raw)
        else:
            await wire.dribble(raw)
        await upstream.take(wire)
        wire.send(OK)

    upstream.runs(script)
    client = await rig.client()
    client.ask()
    reply = await client.message()
    assert reply.body == body
    assert reply.one("date") is not None
    client.ask()
    assert (await client.message()).body == b"ok"
    assert len(upstream.wires) == 1
    entries = await rig.ledger()
    assert [(e.status, e.outcome, e.bytes_out) for e in entries] == [(reply.status, "ok", len(body)), (200, "ok", 2)]


CLOSE_DELIMITED = {
    "1.1": R + b"\r\nabc",
    "1.0": b"HTTP/1.0 200 OK\r\n\r\nabc",
    "1.1-close": R + b"Connection: close\r\n\r\nabc",
}


@pytest.mark.parametrize("name", CLOSE_DELIMITED)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_bodies_that_end_with_the_connection(rig: Rig, upstream: CruelUpstream, name: str, version: str) -> None:
    upstream.answers(CLOSE_DELIMITED[name], then_close=True)
    client = await rig.client()
    client.ask(f"GET / HTTP/{version}")
    reply = await client.message(to_eof=version == "1.0")
    assert reply.body == b"abc"
    assert (reply.one("transfer-encoding") is None) is (version == "1.0")
    assert (await rig.only_entry()).outcome == "ok"


async def test_a_1_0_reply_with_a_length(rig: Rig, upstream: CruelUpstream) -> None:
    """Our reply is HTTP/1.1 and the upstream's connection is not used again."""
    upstream.answers(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", OK)
    client = await rig.client()
    for body in (b"abc", b"ok"):
        client.ask()
        reply = await client.message()
        assert (reply.start[:8], reply.body) == (b"HTTP/1.1", body)
    assert len(upstream.wires) == 2


NO_BODY = {
    "HEAD-length": ("HEAD", R + b"Content-Length: 100\r\n\r\n", b"100"),
    "HEAD-chunked": ("HEAD", R + b"Transfer-Encoding: chunked\r\n\r\n", None),
    "HEAD-nothing": ("HEAD", R + b"X-A: b\r\n\r\n", None),
    "204": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
    "204-length-0": ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", None),
    "204-length": ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", None),
    "304-length": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n", b"100"),
    "304": ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", None),
}


@pytest.mark.parametrize("name", NO_BODY)
async def test_replies_without_a_body(rig: Rig, upstream: CruelUpstream, name: str) -> None:
    """9110 8.6: HEAD and 304 keep the length, 204 has none; the next reply on both connections is the next reply."""
    method, raw, length = NO_BODY[name]
    upstream.answers(raw, OK)
    client = await rig.client()
    client.ask(f"{method} / HTTP/1.1")
    reply = await client.message(bodiless=True)
    assert reply.one("content-length") == length
    client.ask()
    assert (await client.message()).body == b"ok"
    assert len(upstream.wires) == 1
    assert [entry.bytes_out for entry in await rig.ledger()] == [0, 2]


STRAY = {
    "HEAD-with-body": ("HEAD", R + b"Content-Length: 5\r\n\r\nstray"),
    "HEAD-with-chunks": ("HEAD", R + b"Transfer-Encoding: chunked\r\n\r\n5\r\nstray\r\n0\r\n\r\n"),
    "204-with-body": ("GET", b"HTTP/1.1 204 No Content\r\n\r\nstray"),
    "304-with-body": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nstray"),
    "204-with-reply": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n" + OK.replace(b"ok", b"no")),
    "HEAD-with-reply": ("HEAD", R + b"Content-Length: 5\r\n\r\n" + OK.replace(b"ok", b"no")),
    "extra-bytes": ("GET", OK + b"stray"),
    "second-reply": ("GET", OK + OK.replace(b"ok", b"no")),
    "extra-line": ("GET", OK + b"\r\n"),
}


@pytest.mark.parametrize("name", STRAY)
async def test_stray_bytes_never_become_a_reply(rig: Rig, upstream: CruelUpstream, name: str) -> None:
    """9112 6.3, 9.3: whoever asks next gets an answer to their own request."""
    method, raw = STRAY[name]
    upstream.answers(raw)
    client = await rig.client()
    client.ask(f"{method} / HTTP/1.1")
    bodiless = method == "HEAD" or name[:3] in ("204", "304")
    first = await client.message(bodiless=bodiless)
    assert first.status in (200, 204, 304, 502)
    if first.status == 502 and method != "HEAD":
        await client.read(int(first.one("content-length") or 0))
    client.ask("GET /second HTTP/1.1")
    second = await client.message()
    assert (second.status, second.body) == (200, b"ok")
    assert upstream.requests[-1].start == b"GET /second HTTP/1.1"


async def test_bytes_on_an_idle_connection(rig: Rig, upstream: CruelUpstream) -> None:
    upstream.answers(OK)
    await rig.call()
    upstream.wires[0].send(OK.replace(b"ok", b"no"))
    await until(lambda: not rig.pool.targets[0].connections)
    assert (await rig.call()).body == b"ok"
    assert len(upstream.wires) == 2


async def test_reply_fields(rig: Rig, upstream: CruelUpstream) -> None:
    """Hop-by-hop goes, what Connection names goes, everything else stays in order; ours cannot be named away."""
    upstream.answers(
        R + b"Set-Cookie: a=b\r\nX-Hop: 1\r\nConnection: X-Hop, X-Request-ID, Date\r\nSet-Cookie: c=d\r\n"
        b"Keep-Alive: timeout=5\r\nX-Obs: \xe4\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\nX-Request-ID: theirs\r\n"
        b"WWW-Authenticate: Basic\r\nTE: x\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nok"
    )
    reply = await rig.call()
    assert reply.all("set-cookie") == [b"a=b", b"c=d"]
    assert reply.one("x-obs") == b"\xe4"
    assert reply.one("www-authenticate") == b"Basic"
    assert reply.one("x-request-id") not in (None, b"theirs")
    assert reply.one("date") == b"Thu, 01 Jan 1970 00:00:00 GMT"
    for name in ("x-hop", "connection", "keep-alive", "upgrade", "proxy-authenticate", "te"):
        assert reply.one(name) is None


@pytest.mark.parametrize("last", ["", "Connection: close"])
async def test_426_says_to_what(rig: Rig, upstream: CruelUpstream, last: str) -> None:
    """9110 15.5.22: without it nobody knows what is asked for; 7.8: Connection names it. No other status has it."""
    fields = b"Connection: Upgrade, X-Hop\r\nUpgrade: websocket\r\nUpgrade: x/1\r\nX-Hop: 1\r\n"
    fields += b"Content-Length: 0\r\n\r\n"
    upstream.answers(b"HTTP/1.1 426 Upgrade Required\r\n" + fields, b"HTTP/1.1 400 Bad Request\r\n" + fields)
    reply = await rig.call("GET / HTTP/1.1", *filter(None, [last]))
    assert (reply.status, reply.one("upgrade"), reply.one("x-hop")) == (426, b"websocket, x/1", None)
    assert reply.all("connection") == [b"Upgrade", b"close"][: 2 if last else 1]
    reply = await rig.call()
    assert (reply.status, reply.one("upgrade"), reply.one("connection")) == (400, None, None)


async def test_trailers_stay_trailers(rig: Rig, upstream: CruelUpstream) -> None:
    """9112 7.1.2: never merged into the head, and no framing or routing among them."""
    trailers = b"X-Sum: 1\r\nX-Request-ID: theirs\r\nKeep-Alive: x\r\nHost: e\r\n"
    upstream.answers(R + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + trailers + b"\r\n")
    reply = await rig.call()
    assert reply.trailers == [(b"X-Sum", b"1")]
    assert reply.one("x-sum") is None


async def test_103_comes_before_the_reply(rig: Rig, upstream: CruelUpstream) -> None:
    """9110 15.2; a client of HTTP/1.0 gets none."""
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    upstream.answers(hint + OK, hint + OK)
    client = await rig.client()
    client.ask()
    early = await client.message(bodiless=True)
    assert (early.status, early.fields) == (103, [(b"Link", b"</a.css>")])
    assert (await client.message()).body == b"ok"
    assert (await rig.call("GET / HTTP/1.0")).status == 200
