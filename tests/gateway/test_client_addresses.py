"""Whose a call is behind trusted proxies (http.md 1.11): the last address that they did not add themselves."""

import ipaddress

import pytest

from sidecar.gateway.forwarding import Peer, is_trusted
from sidecar.http1 import RequestHead

NETWORKS = tuple(ipaddress.ip_network(text) for text in ("10.0.0.0/8", "2001:db8::/32"))
PEER = "10.0.0.1"
CHAINS = [
    ([], PEER),
    ([b"6.6.6.6"], "6.6.6.6"),
    ([b"6.6.6.6, 7.7.7.7"], "7.7.7.7"),  # what stands before it is the client's own word
    ([b"6.6.6.6", b"7.7.7.7"], "7.7.7.7"),
    ([b"6.6.6.6, 10.1.2.3"], "6.6.6.6"),
    ([b"6.6.6.6 ,\t10.1.2.3 , 2001:db8::5"], "6.6.6.6"),
    ([b"6.6.6.6, ::ffff:10.1.2.3"], "6.6.6.6"),  # as a proxy that listens on both families writes it
    ([b"::ffff:6.6.6.6"], "::ffff:6.6.6.6"),
    ([b"2001:4860::1, 10.1.2.3"], "2001:4860::1"),
    ([b"10.1.2.3, 10.1.2.4"], "10.1.2.3"),
    ([b"6.6.6.6, unknown"], PEER),
    ([b"6.6.6.6, 7.7.7.7:80"], PEER),
    ([b"6.6.6.6, "], PEER),
    ([b"6.6.6.6, \xff"], PEER),
    ([b"6.6.6.6, 10.1.2.3, evil, 10.1.2.4"], PEER),
]


def client_ip(lines: list[bytes], *, trusted: bool = True) -> str:
    head = RequestHead(b"GET", b"1.1", [])
    head.forwarded_for = tuple(lines)
    return Peer(PEER, trusted=trusted, tls=False).client_ip(head, NETWORKS)


@pytest.mark.parametrize(("lines", "ip"), CHAINS)
def test_the_last_one_that_no_trusted_proxy_is(lines: list[bytes], ip: str) -> None:
    assert client_ip(lines) == ip


def test_whoever_is_not_trusted_says_nothing() -> None:
    assert client_ip([b"6.6.6.6"], trusted=False) == PEER


@pytest.mark.parametrize(
    ("ip", "trusted"),
    [("10.9.9.9", True), ("::ffff:10.9.9.9", True), ("11.0.0.1", False), ("2001:db8::1", True), ("unix", False)],
)
def test_who_is_trusted(ip: str, trusted: bool) -> None:
    assert is_trusted(ip, NETWORKS) is trusted
