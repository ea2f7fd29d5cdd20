"""What the upstream receives, to the byte (http.md 1; RFC 9110, 7.6): stripped, replaced, appended, untouched."""

import pytest

from tests.gateway.cruel import CruelUpstream, Message
from tests.gateway.rig import Options, Rig

OURS = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id", "x-tenant-id", "x-key-id", "x-plan"}


async def sent(rig: Rig, *fields: str, line: str = "GET / HTTP/1.1", body: bytes = b"") -> Message:
    assert (await rig.call(line, *fields, body=body)).status == 200
    return rig.upstream.requests[-1]


async def test_the_whole_head(rig: Rig) -> None:
    """Nothing is added but what is listed here."""
    got = await sent(rig, "X-A: 1", "x-b: 2", "X-A: 3")
    assert got.start == b"GET / HTTP/1.1"
    assert [name.lower() for name, _ in got.fields if name.lower().decode() not in OURS] == [
        b"host", b"x-a", b"x-b", b"x-a", b"via",
    ]  # fmt: skip
    assert got.one("host") == f"127.0.0.1:{rig.upstream.port}".encode()
    assert got.all("x-a") == [b"1", b"3"]
    assert (got.one("x-tenant-id"), got.one("x-plan"), got.one("x-key-id")) == (b"acme", b"basic", rig.key_id.encode())
    assert got.one("via") == b"1.1 " + rig.lane.pseudonym
    assert got.one("x-forwarded-for") == b"127.0.0.1"
    assert got.one("x-forwarded-proto") == b"http"
    assert got.one("x-forwarded-host") == b"a.example"


STRIPPED = {
    "keep-alive": ["Keep-Alive: timeout=5"],
    "proxy-connection": ["Proxy-Connection: keep-alive"],
    "proxy-authorization": ["Proxy-Authorization: Basic eDp5"],
    "proxy-authenticate": ["Proxy-Authenticate: Basic"],
    "http2-settings": ["HTTP2-Settings: AAMAAABk"],
    "upgrade": ["Connection: upgrade", "Upgrade: h2c"],
    "connection": ["Connection: keep-alive"],
    "te": ["TE: gzip"],
    "trailer": ["Trailer: X-T"],
    "x-hop": ["Connection: X-Hop", "X-Hop: 1"],
    "authorization": ["Authorization: Basic abc", "Connection: close, Authorization"],
    "x-late": ["X-Late: 1", "Connection: foo , x-LATE,bar"],
    "x-second": ["Connection: foo", "Connection: x-second", "X-Second: 1"],
    "x_tenant_id": ["X_Tenant_ID: evil"],
    "x_forwarded_for": ["X_Forwarded_For: 6.6.6.6"],
    "x_forwarded-proto": ["X_Forwarded-Proto: https"],
    "x-real-ip": ["X-Real-IP: 6.6.6.6"],
    "forwarded": ["Forwarded: for=6.6.6.6"],
    "x-forwarded-port": ["X-Forwarded-Port: 1"],
}


@pytest.mark.parametrize("name", STRIPPED)
async def test_what_does_not_cross(rig: Rig, name: str) -> None:
    got = await sent(rig, *STRIPPED[name], "X-Stays: 1")
    assert got.all(name) == []
    assert got.one("x-stays") == b"1"


@pytest.mark.parametrize("name", ["X-Tenant-ID", "X-Key-ID", "X-Plan", "X-Request-ID", "X-Forwarded-For", "Host"])
async def test_connection_cannot_name_our_own_fields_away(rig: Rig, name: str) -> None:
    """9110 7.6.1: strip first, add ours after."""
    got = await sent(rig, f"Connection: close, {name}", f"{name}: evil" if name != "Host" else "X-A: b")
    value = got.one(name)
    assert value is not None
    assert b"evil" not in value


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding"])
async def test_connection_cannot_name_the_framing_away(rig: Rig, name: str) -> None:
    field = "Content-Length: 3" if name == "Content-Length" else "Transfer-Encoding: chunked"
    body = b"abc" if name == "Content-Length" else b"3\r\nabc\r\n0\r\n\r\n"
    got = await sent(rig, f"Connection: {name}", field, line="POST / HTTP/1.1", body=body)
    assert got.body == b"abc"


@pytest.mark.parametrize("spelled", ["X-Tenant-ID", "x-tenant-id", "X-TENANT-ID", "X_TENANT_ID", "X-Tenant_ID"])
async def test_identity_cannot_be_sent(rig: Rig, spelled: str) -> None:
    got = await sent(rig, f"{spelled}: evil", f"{spelled}: evil2")
    assert [v for n, v in got.fields if n.lower().replace(b"_", b"-") == b"x-tenant-id"] == [b"acme"]


async def test_te_is_made_anew(rig: Rig) -> None:
    got = await sent(rig, "Connection: TE", "TE: trailers, deflate;q=0.5")
    assert got.one("te") == b"trailers"
    assert got.one("connection") == b"TE"


async def test_unknown_fields_and_obs_text_cross(rig: Rig) -> None:
    got = await sent(rig, "X-Odd!#$: \xe4\xff~", "X-Empty: ", "Cookie: a=b", "Cookie: c=d")
    assert got.one("x-odd!#$") == b"\xe4\xff~"
    assert got.one("x-empty") == b""
    assert got.all("cookie") == [b"a=b", b"c=d"]


TARGETS = [
    "/", "//evil/p", "/a/../b", "/a/./b", "/%61%2f%2F%00", "/a?", "/a??b?c", "/a?b=%zz&c", "/a;v=1/b", "/?x=http://e/",
    "/a%20b", "/\\evil", "///", "/a|b{c}^`", "/%", "/?url=/../..",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
async def test_targets_cross_byte_for_byte(rig: Rig, target: str) -> None:
    """9110 7.7, and never a URL join."""
    got = await sent(rig, line=f"GET {target} HTTP/1.1")
    assert got.start == f"GET {target} HTTP/1.1".encode()
    assert got.one("host") == f"127.0.0.1:{rig.upstream.port}".encode()


@pytest.mark.parametrize(
    ("target", "passed"),
    [
        ("http://b.example/c?d", "/c?d"),
        ("HTTP://b.example:81", "/"),
        ("https://b.example?d", "/?d"),
        ("http://b//e", "//e"),
    ],
)
@pytest.mark.parametrize("options", [Options(upstream="preserve_host: true")])
async def test_absolute_form(rig: Rig, target: str, passed: str) -> None:
    """9112 3.2.2: the target's authority replaces Host, in everything that we say about it."""
    got = await sent(rig, line=f"GET {target} HTTP/1.1")
    assert got.start == f"GET {passed} HTTP/1.1".encode()
    authority = target.split("//")[1].split("/")[0].split("?")[0].encode()
    assert got.one("host") == authority
    assert got.one("x-forwarded-host") == authority


async def test_options_star(rig: Rig) -> None:
    assert (await rig.call("OPTIONS * HTTP/1.1")).status in (200, 204, 404)


@pytest.mark.parametrize("method", ["PROPFIND", "FOO", "M-SEARCH", "get", "X!#$", "QUERY", "BREW"])
async def test_unknown_methods_cross(rig: Rig, method: str) -> None:
    got = await sent(rig, "Content-Length: 2", line=f"{method} /x HTTP/1.1", body=b"hi")
    assert (got.start, got.body) == (f"{method} /x HTTP/1.1".encode(), b"hi")
    assert (await rig.only_entry()).method == method


async def test_max_forwards(rig: Rig, upstream: CruelUpstream) -> None:
    """9110 7.6.2."""
    assert (await sent(rig, "Max-Forwards: 5", line="TRACE / HTTP/1.1")).one("max-forwards") == b"4"
    assert (await sent(rig, "Max-Forwards: 5", line="OPTIONS / HTTP/1.1")).one("max-forwards") == b"4"
    assert (await sent(rig, "Max-Forwards: 5")).one("max-forwards") == b"5"
    assert (await sent(rig, "Max-Forwards: 5", "Connection: Max-Forwards")).one("max-forwards") is None
    assert (await rig.call("OPTIONS / HTTP/1.1", "Max-Forwards: 0")).status != 502
    assert len(upstream.requests) == 4


async def test_via_and_loops(rig: Rig, upstream: CruelUpstream) -> None:
    """9110 7.6.3, 7.6."""
    pseudonym = rig.lane.pseudonym
    assert (await sent(rig, "Via: 1.0 fred", "Via: 1.1 p")).one("via") == b"1.0 fred, 1.1 p, 1.1 " + pseudonym
    assert (await rig.call("GET / HTTP/1.1", f"Via: 1.1 {pseudonym.decode()}")).status == 508
    assert len(await rig.ledger()) == len(upstream.requests) == 1


async def test_an_untrusted_peer_is_not_believed(rig: Rig) -> None:
    got = await sent(rig, "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil")
    assert got.one("x-forwarded-for") == b"127.0.0.1"
    assert (got.one("x-forwarded-proto"), got.one("x-forwarded-host")) == (b"http", b"a.example")


@pytest.mark.parametrize("options", [Options(trusted="127.0.0.0/8")])
async def test_a_trusted_proxy_is_appended_to(rig: Rig) -> None:
    fields = (
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: shop",
        "Forwarded: for=6.6.6.6",
    )
    got = await sent(rig, *fields)
    assert got.one("x-forwarded-for") == b"6.6.6.6, 127.0.0.1"
    assert (got.one("x-forwarded-proto"), got.one("x-forwarded-host")) == (b"https", b"shop")
    assert got.one("forwarded") == b"for=6.6.6.6, for=127.0.0.1;proto=http"


CREDENTIALS = {
    "header": (["X-API-Key: {key}"], "/a", [], "/a"),
    "bearer": (["Authorization: Bearer {key}"], "/a", [], "/a"),
    "query": ([], "/a?x=1&api_key={key}&y=%20", [], "/a?x=1&y=%20"),
    "query-alone": ([], "/a?api_key={key}", [], "/a"),
    "foreign-authorization": (["X-API-Key: {key}", "Authorization: Basic eDp5"], "/a", [b"Basic eDp5"], "/a"),
}


@pytest.mark.parametrize("options", [Options(api_key="query: api_key")])
@pytest.mark.parametrize("name", CREDENTIALS)
async def test_our_key_is_consumed_and_others_pass(rig: Rig, name: str) -> None:
    fields, target, authorizations, passed = CREDENTIALS[name]
    client = await rig.client()
    lines = [f"GET {target} HTTP/1.1", "Host: a", *fields]
    client.send("\r\n".join(lines).format(key=rig.key).encode() + b"\r\n\r\n")
    assert (await client.message()).status == 200
    got = rig.upstream.requests[0]
    assert got.start == f"GET {passed} HTTP/1.1".encode()
    assert got.all("x-api-key") == []
    assert got.all("authorization") == authorizations
    assert all(rig.key.encode() not in value for _, value in got.fields)


@pytest.mark.parametrize("options", [Options(api_key="strip: false")])
async def test_a_key_that_is_to_be_passed_on(rig: Rig) -> None:
    assert (await sent(rig)).one("x-api-key") == rig.key.encode()


async def test_framing_of_uploads(rig: Rig) -> None:
    """Length stays length, chunks stay chunks (extensions and trailers go), and nothing stays nothing."""
    got = await sent(rig, "Content-Length: 3", line="POST / HTTP/1.1", body=b"abc")
    assert (got.one("content-length"), got.body) == (b"3", b"abc")
    got = await sent(rig, "Content-Length: 0", line="POST / HTTP/1.1")
    assert got.one("content-length") == b"0"
    chunks = b'3;ext="a;b"\r\nabc\r\n1;x\r\nd\r\n0\r\nX-Tenant-ID: evil\r\n\r\n'
    got = await sent(rig, "Transfer-Encoding: Chunked", line="POST / HTTP/1.1", body=chunks)
    assert (got.one("transfer-encoding"), got.body, got.trailers) == (b"chunked", b"abcd", [])
    assert b"ext" not in got.raw_body
    got = await sent(rig, line="POST / HTTP/1.1")
    assert (got.one("content-length"), got.one("transfer-encoding")) == (None, None)
    assert [entry.bytes_in for entry in await rig.ledger()] == [3, 0, 4, 0]


async def test_framing_of_uploads_on_one_connection(rig: Rig) -> None:
    """Nothing of one request's head is taken over into the next, whose other fields are the same."""
    client = await rig.client()
    bodies = [
        ((), b"", b""),
        (("Transfer-Encoding: chunked",), b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (("Content-Length: 2",), b"de", b"de"),
        (("Content-Length: 4",), b"fghi", b"fghi"),
        ((), b"", b""),
        (("Max-Forwards: 3",), b"", b""),
        (("TE: trailers", "Connection: TE"), b"", b""),
        (("Via: 1.1 before",), b"", b""),
        ((), b"", b""),
    ]
    for number, (fields, sent_body, body) in enumerate(bodies):
        method = "OPTIONS" if "Max-Forwards: 3" in fields else "POST"
        client.ask(f"{method} /{number} HTTP/1.1", *fields, body=sent_body, host=f"h{number}.example")
        assert (await client.message()).status == 200
        got = rig.upstream.requests[-1]
        assert (got.start, got.body) == (f"{method} /{number} HTTP/1.1".encode(), body)
        assert got.one("x-forwarded-host") == f"h{number}.example".encode()
        assert got.one("max-forwards") == (b"2" if "Max-Forwards: 3" in fields else None)
        assert got.one("te") == (b"trailers" if "TE: trailers" in fields else None)
        assert (b"before" in (got.one("via") or b"")) is ("Via: 1.1 before" in fields)
    assert len(rig.upstream.requests) == len(bodies)
