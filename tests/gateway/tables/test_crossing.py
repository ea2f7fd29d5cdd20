"""Fields that must cross, must not, or must not be made to (RFC 9110, 7.6; RFC 9111): caches lean on it."""

import pytest

from tests.gateway.cruel import CruelUpstream
from tests.gateway.rig import Rig
from tests.gateway.tables.rows import H, get, passes, play

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What a browser, a cache or an API client sends, which all means the same behind us as before us.
REQUEST = [
    "Accept: text/html;q=0.9, */*;q=0.1",
    "Accept-Charset: utf-8",
    "Accept-Encoding: gzip, br;q=0.5, identity;q=0",
    "Accept-Language: de-AT, de;q=0.8",
    "Accept-Patch: application/json-patch+json",
    "Access-Control-Request-Private-Network: true",
    "Cache-Control: no-cache, max-stale=60, only-if-cached",
    "Content-Encoding: zstd",
    "Content-Language: en",
    "Content-Location: /elsewhere",
    "Content-Range: bytes 0-1/2",
    'Content-Type: multipart/form-data; boundary="a b"',
    "Cookie: a=b; c=d",
    "DNT: 1",
    "Digest: sha-256=x",
    "ETag: x",
    "From: a@example.org",
    "Idempotency-Key: 7",
    'If-Match: "a", W/"b"',
    "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
    "If-None-Match: *",
    'If-Range: "a"',
    "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
    "Last-Event-ID: 4",
    "Link: </a>; rel=next",
    "Max-Forwards: 7",
    "Origin: null",
    "Pragma: no-cache",
    "Prefer: respond-async, wait=10",
    "Priority: u=1, i",
    "Range: bytes=0-0,-1",
    "Referer: http://a.example/?b#c",
    "Sec-Fetch-Mode: cors",
    "Signature-Input: sig=(\"@method\")",
    "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "Tracestate: a=b",
    "Upgrade-Insecure-Requests: 1",
    "User-Agent: x/1 (y; z)",
    "Want-Content-Digest: sha-256=1",
    "X-HTTP-Method-Override: DELETE",
    "X-Original-URL: /admin",
    "X_Plain: with an underscore",
]  # fmt: skip


async def test_the_fields_of_a_request_cross_untouched_and_in_order(rig: Rig) -> None:
    sent = b"".join(line.encode() + b"\r\n" for line in REQUEST)
    (got,) = await play(rig, passes(get(sent), b"GET /open/x"))
    lines = [b"%b: %b" % field for field in got.fields]
    assert [line for line in lines if line.decode() in REQUEST] == [line.encode() for line in REQUEST]


REPLY = [
    "Accept-Ranges: bytes",
    "Age: 7",
    "Allow: GET",
    "Alt-Svc: clear",
    "Cache-Control: public, max-age=60, stale-while-revalidate=30",
    "CDN-Cache-Control: max-age=600",
    "Clear-Site-Data: \"cache\"",
    "Content-Disposition: attachment; filename*=UTF-8''a",
    "Content-Encoding: gzip",
    "Content-Language: de",
    "Content-Location: /b",
    "Content-Range: bytes 0-1/9",
    "Content-Security-Policy: default-src 'self'",
    "Content-Type: text/plain; charset=\"utf-8\"",
    "Date: Thu, 01 Jan 1970 00:00:00 GMT",
    'ETag: W/"a"',
    "Expires: 0",
    "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT",
    "Link: </a>; rel=preload",
    "Location: //elsewhere/x",
    "Pragma: no-cache",
    "Retry-After: 120",
    "Server: x/1",
    "Set-Cookie: a=b; Expires=Thu, 01 Jan 2030 00:00:00 GMT",
    "Set-Cookie: a=c",
    "Strict-Transport-Security: max-age=1",
    "Surrogate-Control: no-store",
    "Trailer: X-Sum",
    "Vary: Accept-Encoding",
    "Vary: Origin",
    "Via: 1.1 theirs",
    "Warning: 299 - \"x\"",
    "WWW-Authenticate: Basic realm=\"a\", Digest realm=\"b\"",
    "WWW-Authenticate: Negotiate",
    "X-Content-Type-Options: nosniff",
    "x-lower: 1",
    "X-Empty: ",
]  # fmt: skip


@pytest.mark.parametrize(
    "status", [200, 203, 206, 226, 300, 301, 303, 307, 401, 404, 405, 410, 418, 429, 451, 500, 503]
)
async def test_a_reply_crosses_untouched_and_in_order(rig: Rig, upstream: CruelUpstream, status: int) -> None:
    """9111: nothing that says how long it may be kept, for whom, or what it is, is added, lost or merged."""
    head = "".join(f"{line}\r\n" for line in REPLY)
    upstream.answers(f"HTTP/1.1 {status} Whatever\r\n{head}Content-Length: 2\r\n\r\nok".encode())
    await rig.pool_is_idle()
    reply = await rig.call("GET /open/x HTTP/1.1")
    lines = [(b"%b: %b" % field).decode() for field in reply.fields]
    assert (reply.status, reply.body) == (status, b"ok")
    assert [line for line in lines if line in REPLY] == REPLY
    ours = {line.partition(":")[0].lower() for line in lines if line not in REPLY}
    assert ours <= {"ratelimit-policy", "ratelimit", "x-request-id", "content-length"}


async def test_304_keeps_what_a_cache_updates(rig: Rig, upstream: CruelUpstream) -> None:
    """9110 15.4.5."""
    fields = b'ETag: "a"\r\nCache-Control: max-age=1\r\nVary: X\r\nExpires: 0\r\nContent-Location: /c\r\n'
    upstream.answers(b"HTTP/1.1 304 Not Modified\r\n" + fields + b"\r\n")
    await rig.pool_is_idle()
    client = await rig.client()
    client.send(get(b'If-None-Match: "a"\r\n'))
    reply = await client.message(bodiless=True)
    assert b"".join(b"%b: %b\r\n" % field for field in reply.fields).startswith(fields)
    assert reply.one("content-length") is None


# Connection names a field: it goes, unless it is ours, says where the request goes, or how it is framed.
GOES = ["Cookie", "X-Real-Name", "Authorization", "If-None-Match", "Range", "Content-Type", "Origin", "Accept-Encoding"]
STAYS = [
    "Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-ID", "Via",
]  # fmt: skip


@pytest.mark.parametrize("name", GOES)
@pytest.mark.parametrize("how", ["{}", "close, {}", "x,\t{} ,y", "keep-alive\r\nConnection: {}"])
async def test_what_connection_names_goes(rig: Rig, upstream: CruelUpstream, name: str, how: str) -> None:
    client = await rig.client()
    before = len(upstream.requests)
    named = how.format(name.upper())
    client.send(f"GET /open/x HTTP/1.1\r\n{name}: secret\r\nHost: a\r\nConnection: {named}\r\n\r\n".encode())
    assert (await client.message()).status == 200
    got = upstream.requests[before]
    assert (got.all(name), got.one("connection")) == ([], None)


@pytest.mark.parametrize("name", STAYS)
async def test_what_connection_cannot_take_away(rig: Rig, upstream: CruelUpstream, name: str) -> None:
    before = len(upstream.requests)
    client = await rig.client()
    client.send(f"GET /open/x HTTP/1.1\r\nHost: a\r\nConnection: {name}, close\r\n\r\n".encode())
    assert (await client.message()).status == 200
    assert len(upstream.requests[before].all(name)) == 1


async def test_a_key_that_connection_names_is_still_the_key(rig: Rig, upstream: CruelUpstream) -> None:
    """What identifies the caller is read before anything is stripped, and is not passed on either way."""
    reply = await rig.call("GET /x HTTP/1.1", "Connection: X-API-Key, X-Tenant-ID, X-Key-ID, X-Plan")
    assert reply.status == 200
    got = upstream.requests[-1]
    assert (got.one("x-api-key"), got.one("x-tenant-id"), got.one("x-plan")) == (None, b"acme", b"basic")


# Another way to write a field that is ours, or says how a body is framed: WSGI and CGI read them as the same one.
FOLDED = [
    "X_Tenant_ID", "x_tenant-id", "X-Key_ID", "X_PLAN", "X_Request_ID", "X_Forwarded_For", "X_Forwarded_Proto",
    "X_Forwarded_Host", "X_Real_IP", "Content_Length", "Transfer_Encoding", "Proxy_Authorization", "X_API_Key",
]  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
async def test_what_a_gateway_of_scripts_would_fold(rig: Rig, name: str) -> None:
    (got,) = await play(rig, passes(get(name.encode() + b": 1\r\n"), b"GET /open/x"))
    assert all(field.replace(b"_", b"-").lower() != name.replace("_", "-").lower().encode() or value != b"1"
               for field, value in got.fields)  # fmt: skip


# Hop by hop by themselves (9110 7.6.1), with and without being named.
HOPS = [
    "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic eDp5", "TE: gzip",
    "Proxy-Authenticate: Basic", "Trailer: X-T", "Upgrade: h2c", "Upgrade: websocket", "HTTP2-Settings: AAMAAABk",
]  # fmt: skip


@pytest.mark.parametrize("line", HOPS)
@pytest.mark.parametrize("named", [True, False])
async def test_hop_by_hop_fields_end_here(rig: Rig, upstream: CruelUpstream, line: str, named: bool) -> None:
    before = len(upstream.requests)
    client = await rig.client()
    name = line.partition(":")[0]
    option = f"Connection: {name}\r\n" if named and name != "Upgrade" else ""
    client.send(b"POST /open/x HTTP/1.1\r\n" + H + f"{option}{line}\r\nContent-Length: 0\r\n\r\n".encode())
    assert (await client.message()).status == 200
    got = upstream.requests[before]
    assert (got.all(name), got.all("connection")) == ([], [])
