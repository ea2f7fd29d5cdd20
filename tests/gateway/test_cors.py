"""CORS (Fetch, 3.2): preflights cost nothing, replies and refusals can be read, strangers learn nothing."""

import pytest

from sidecar.core.edges import Cors
from sidecar.gateway.cors import CorsRules
from tests.gateway.cruel import CruelUpstream
from tests.gateway.rig import Options, Rig

PAGE = "https://app.example.com"
CORS = f'cors: {{origins: ["{PAGE}", "https://*.example.org"], credentials: true, max_age: 5m}}'
ROUTES = f"""\
  - {{name: web, match: {{methods: [GET, POST], path: "/web"}}, upstream: api, {CORS}}}
  - {{name: rest, match: {{path: "/{{path...}}"}}, upstream: api}}"""
PREFLIGHT = (f"Origin: {PAGE}", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-api-key")
TIGHT = "limits: [{name: one, limit: 1, window: 1m}]"


@pytest.mark.parametrize("options", [Options(routes=ROUTES, plan=TIGHT)])
async def test_a_preflight_needs_no_key_and_costs_nothing(rig: Rig) -> None:
    client = await rig.client()
    for _ in range(5):
        client.send(("\r\n".join(["OPTIONS /web HTTP/1.1", "Host: a", *PREFLIGHT]) + "\r\n\r\n").encode())
        told = await client.message(bodiless=True)
        assert told.status == 204
        assert told.one("access-control-allow-origin") == PAGE.encode()
        assert told.one("access-control-allow-credentials") == b"true"
        assert told.one("access-control-allow-methods") == b"GET, POST"
        assert b"X-API-Key" in (told.one("access-control-allow-headers") or b"")
        assert told.one("access-control-max-age") == b"300"
        assert told.one("vary") == b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
    assert rig.upstream.requests == []
    client.ask("POST /web HTTP/1.1", f"Origin: {PAGE}", "Content-Length: 0")
    assert (await client.message()).status == 200  # the one call of this minute is still there
    assert len(await rig.ledger()) == 1


@pytest.mark.parametrize("options", [Options(routes=ROUTES)])
async def test_a_preflight_of_a_stranger_gets_no_leave(rig: Rig) -> None:
    for origin in ("https://evil.example", "https://example.org", "https://app.example.com.evil.example", "null"):
        told = await rig.call("OPTIONS /web HTTP/1.1", f"Origin: {origin}", "Access-Control-Request-Method: GET")
        assert told.status == 204
        assert told.all("access-control-allow-origin") == []
        assert b"Origin" in (told.one("vary") or b"")


@pytest.mark.parametrize("options", [Options(routes=ROUTES)])
async def test_options_that_is_no_preflight_goes_its_way(rig: Rig) -> None:
    """A route without CORS too: its API answers preflights itself, to callers with a key."""
    assert (await rig.call("OPTIONS /x HTTP/1.1", *PREFLIGHT)).status == 200
    assert rig.upstream.requests[-1].start == b"OPTIONS /x HTTP/1.1"
    assert (await rig.call("OPTIONS /web HTTP/1.1", f"Origin: {PAGE}")).status == 200
    assert rig.upstream.requests[-1].start == b"OPTIONS /web HTTP/1.1"


@pytest.mark.parametrize("options", [Options(routes=ROUTES)])
async def test_what_the_api_says_about_cors_is_replaced(rig: Rig, upstream: CruelUpstream) -> None:
    said = b"Access-Control-Allow-Origin: *\r\naccess-control-allow-credentials: false\r\nVary: Accept\r\n"
    upstream.answers(*[b"HTTP/1.1 200 OK\r\n" + said + b"Content-Length: 0\r\n\r\n"] * 3)
    told = await rig.call("GET /web HTTP/1.1", "Origin: https://a.b.example.org")
    assert told.all("access-control-allow-origin") == [b"https://a.b.example.org"]
    assert told.all("access-control-allow-credentials") == [b"true"]
    assert b"Retry-After" in (told.one("access-control-expose-headers") or b"")
    assert told.all("vary") == [b"Accept", b"Origin"]
    for fields in ((), ("Origin: https://evil.example",)):
        told = await rig.call("GET /web HTTP/1.1", *fields)
        assert (told.all("access-control-allow-origin"), told.all("vary")) == ([], [b"Accept", b"Origin"])


@pytest.mark.parametrize("options", [Options(routes=ROUTES, plan=TIGHT)])
async def test_scripts_can_read_refusals(rig: Rig) -> None:
    """401 and 429 are what a page's developer has to see."""
    client = await rig.client()
    client.send(f"GET /web HTTP/1.1\r\nHost: a\r\nOrigin: {PAGE}\r\n\r\n".encode())
    told = await client.message()
    assert (told.status, told.one("access-control-allow-origin"), told.one("vary")) == (401, PAGE.encode(), b"Origin")
    assert (await rig.call("GET /web HTTP/1.1", f"Origin: {PAGE}")).status == 200
    told = await rig.call("GET /web HTTP/1.1", f"Origin: {PAGE}")
    assert (told.status, told.one("access-control-allow-origin")) == (429, PAGE.encode())
    assert b"Retry-After" in (told.one("access-control-expose-headers") or b"")


@pytest.mark.parametrize("options", [Options(top='cors: {origins: ["*"], max_age: 0s}')])
async def test_for_all_routes_and_for_what_has_none(rig: Rig) -> None:
    told = await rig.call("OPTIONS /any HTTP/1.1", *PREFLIGHT)
    assert (told.status, told.one("access-control-allow-origin"), told.all("vary")) == (204, b"*", [])
    assert told.one("access-control-max-age") == b"0"
    told = await rig.call("DELETE /written HTTP/1.1", f"Origin: {PAGE}")
    assert told.all("access-control-allow-origin") == [b"*"]


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (b"https://a.example.com", True),
        (b"https://a.b.example.com", True),
        (b"https://example.com", False),
        (b"https://.example.com", False),
        (b"http://a.example.com", False),
        (b"https://a.example.com:8443", False),
        (b"https://evil.test/.example.com", False),
        (b"https://evil.test:1@.example.com", False),
        (b"https://A.example.com", False),
    ],
)
def test_every_name_below_and_nothing_else(origin: bytes, allowed: bool) -> None:
    lines = CorsRules(Cors(("https://*.example.com",)), None, "X-API-Key").reply_lines(origin)
    assert (b"Access-Control-Allow-Origin" in lines) == allowed
