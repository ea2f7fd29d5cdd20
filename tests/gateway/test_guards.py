"""Who is kept out before anybody asks who it is: by address, behind trusted proxies; and by the size of the head."""

import pytest

from sidecar.core.edges import AddressRules
from sidecar.gateway.guards import Guard
from sidecar.http1 import RequestHead
from tests.gateway.rig import Options, Rig

ROUTES = """\
  - {name: inner, match: {path: "/inner"}, upstream: api, addresses: {allow: [10.0.0.0/8], deny: [10.9.0.0/16]}}
  - {name: small, match: {path: "/small"}, upstream: api, max_header_bytes: 256B}
  - {name: all, match: {path: "/{path...}"}, upstream: api}"""
EVERYWHERE = "addresses: {deny: [10.1.0.0/16, 2001:db8::/32]}"


async def status(rig: Rig, path: str, ip: str) -> int:
    return (await rig.call(f"GET {path} HTTP/1.1", f"X-Forwarded-For: {ip}")).status


@pytest.mark.parametrize("options", [Options(routes=ROUTES, trusted="127.0.0.0/8", top=EVERYWHERE)])
async def test_routes_add_to_what_holds_for_all(rig: Rig) -> None:
    assert await status(rig, "/inner", "10.2.3.4") == 200
    assert await status(rig, "/inner", "10.9.3.4") == 403
    assert await status(rig, "/inner", "10.1.3.4") == 403
    assert await status(rig, "/inner", "11.0.0.1") == 403
    assert await status(rig, "/", "11.0.0.1") == 200
    assert await status(rig, "/", "2001:db8::1") == 403


@pytest.mark.parametrize("options", [Options(routes=ROUTES)])
async def test_an_address_that_is_only_claimed_opens_nothing(rig: Rig) -> None:
    """Without a trusted proxy the peer's own address counts."""
    assert await status(rig, "/inner", "10.2.3.4") == 403


@pytest.mark.parametrize("options", [Options(routes=ROUTES)])
async def test_it_comes_before_the_key(rig: Rig) -> None:
    client = await rig.client()
    client.send(b"GET /inner HTTP/1.1\r\nHost: a\r\nX-API-Key: nonsense\r\n\r\n")
    told = await client.message()
    assert told.status == 403
    assert b'"code":"address_denied"' in told.body
    assert rig.upstream.requests == []


@pytest.mark.parametrize("options", [Options(routes=ROUTES)])
async def test_a_head_that_is_larger_than_the_route_takes(rig: Rig) -> None:
    assert (await rig.call("GET /small HTTP/1.1")).status == 200
    told = await rig.call("GET /small HTTP/1.1", f"X-Long: {'x' * 256}")
    assert told.status == 431
    assert (await rig.call("GET /large HTTP/1.1", f"X-Long: {'x' * 256}")).status == 200


def test_what_is_no_address_is_in_no_range() -> None:
    head = RequestHead(b"GET", b"1.1", [])
    inner = AddressRules(allow=("10.0.0.0/8",))
    for rules, ip, passes in (
        (inner, "unix", False),
        (AddressRules(deny=("10.0.0.0/8",)), "unix", True),
        (inner, "::ffff:10.0.0.1", True),
        (AddressRules(deny=("10.0.0.0/8",)), "::ffff:10.0.0.1", False),
        (AddressRules(deny=("fe80::/10",)), "fe80::1%eth0", False),
    ):
        guard = Guard((rules,), None)
        assert (guard.judge(head, ip) is None) == passes, (rules, ip)


def test_the_memory_of_addresses_is_bounded() -> None:
    guard, head = Guard((AddressRules(deny=("10.0.0.0/8",)),), None), RequestHead(b"GET", b"1.1", [])
    for number in range(10_000):
        assert guard.judge(head, f"10.0.{number >> 8}.{number & 255}") is not None
    assert len(guard._memory) <= 4096
