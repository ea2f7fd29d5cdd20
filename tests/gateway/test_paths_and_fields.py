"""What a route changes of a call and its reply: the beginning of the path, header fields; every other byte stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.edges import FieldRules
from sidecar.gateway.fields import FieldEdits
from sidecar.gateway.paths import PathEdit
from sidecar.http1 import read_path
from tests.gateway.cruel import CruelUpstream
from tests.gateway.rig import Options, Rig

ROUTES = """\
  - {name: moved, match: {path: "/api/{rest...}"}, upstream: api, strip_prefix: /api, rewrite: /v2}
  - {name: cut, match: {path: "/cut/{rest...}"}, upstream: api, strip_prefix: /cut}
  - name: told
    match: {path: "/told"}
    upstream: api
    request_headers: {set: {X-Version: "2", X-Both: route}, remove: [Cookie, x-noise]}
    response_headers: {set: {Cache-Control: private}, remove: [Server, X-Powered-By]}
  - {name: all, match: {path: "/{path...}"}, upstream: api}"""
FIELDS = (
    "max_connections: 8\n    request_headers: {set: {X-Both: upstream, X-Up: '1'}}\n"
    "    response_headers: {set: {X-Served-By: us}}"
)


@pytest.mark.parametrize("options", [Options(routes=ROUTES)])
@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("/api/x?y=/api/z", "/v2/x?y=/api/z"),
        ("/api", "/v2"),
        ("/api/", "/v2/"),
        ("/api?a=b", "/v2?a=b"),
        ("/api/a%2Fb//c/%zz?%20", "/v2/a%2Fb//c/%zz?%20"),
        ("/api/./x/../y", "/v2/./x/../y"),
        ("/cut", "/"),
        ("/cut?q", "/?q"),
        ("/cut/x", "/x"),
        ("/apiary", "/apiary"),
    ],
)
async def test_the_beginning_is_replaced_and_nothing_else(rig: Rig, asked: str, got: str) -> None:
    assert (await rig.call(f"GET {asked} HTTP/1.1")).status == 200
    assert rig.upstream.requests[-1].start == f"GET {got} HTTP/1.1".encode()


@pytest.mark.parametrize("options", [Options(routes=ROUTES, upstream="max_connections: 8\n    path_prefix: /base")])
async def test_the_upstream_s_prefix_stands_before_the_route_s(rig: Rig) -> None:
    for asked, got in (("/api/x", "/base/v2/x"), ("/cut", "/base"), ("/other?x", "/base/other?x")):
        assert (await rig.call(f"GET {asked} HTTP/1.1")).status == 200
        assert rig.upstream.requests[-1].start == f"GET {got} HTTP/1.1".encode()


@pytest.mark.parametrize("options", [Options(routes=ROUTES)])
@pytest.mark.parametrize(
    "asked", ["/%61pi/x", "/api/../api/x", "/api/..%2fapi/x", "//api/x", "/x/../api/y", "/api/%2e%2e/api/secret"]
)
async def test_a_path_that_would_lead_out_of_its_place_is_refused(rig: Rig, asked: str) -> None:
    """It means a path below the beginning, and would mean another one after the change (or has nothing to take off)."""
    assert (await rig.call(f"GET {asked} HTTP/1.1")).status == 400
    assert rig.upstream.requests == []


@pytest.mark.parametrize("options", [Options(routes=ROUTES)])
async def test_fields_are_set_and_removed_both_ways(rig: Rig, upstream: CruelUpstream) -> None:
    reply = b"HTTP/1.1 200 OK\r\nServer: x\r\ncache-control: public\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok"
    upstream.answers(reply)
    told = await rig.call("GET /told HTTP/1.1", "Cookie: a=b", "X-Version: 1", "X-Noise: 1", "X-Kept: 1", "x-both: me")
    got = upstream.requests[-1]
    assert (got.all("x-version"), got.all("cookie"), got.all("x-noise"), got.all("x-kept")) == ([b"2"], [], [], [b"1"])
    assert got.all("x-both") == [b"route"]
    assert got.one("x-tenant-id") == b"acme"
    assert (told.all("server"), told.all("cache-control"), told.all("x-kept")) == ([], [b"private"], [b"1"])
    assert told.body == b"ok"


@pytest.mark.parametrize("options", [Options(routes=ROUTES, upstream=FIELDS)])
async def test_the_route_s_word_goes_over_the_upstream_s(rig: Rig) -> None:
    """On one connection too: what is remembered of a header block is remembered per rules."""
    client = await rig.client()
    for path, both in (("/told", b"route"), ("/other", b"upstream"), ("/told", b"route")):
        client.ask(f"GET {path} HTTP/1.1")
        assert (await client.message()).all("x-served-by") == [b"us"]
        got = rig.upstream.requests[-1]
        assert (got.all("x-both"), got.all("x-up")) == ([both], [b"1"])


def test_later_rules_undo_earlier_ones() -> None:
    edits = FieldEdits((FieldRules((("A", "1"),), ("B",)), FieldRules((("b", "2"),), ("a",))))
    assert edits.apply(b"a: 0\r\nB: 0\r\nC: 0\r\n") == b"C: 0\r\nb: 2\r\n"
    assert edits.apply(b"") == b"b: 2\r\n"
    assert not edits.idle
    assert FieldEdits((None, FieldRules())).idle


@given(st.lists(st.sampled_from(["a", "..", ".", "", "%2e%2e", "%2f", "b%2f..", "api", "v2", ";x"]), max_size=8))
def test_what_fits_stays_below_its_new_beginning(segments: list[str]) -> None:
    """Both readings of what is sent lie below the new beginning, whatever an upstream makes of escapes."""
    edit, path = PathEdit("/api", "/v2"), ("/api/" + "/".join(segments)).encode()
    if edit.fits(path):
        meaning = read_path(edit.apply(path))
        for reading in (meaning.path, meaning.other or meaning.path):
            assert reading == b"/v2" or reading.startswith(b"/v2/")
