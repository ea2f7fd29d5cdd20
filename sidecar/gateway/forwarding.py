"""The request head as the upstream gets it, and who the client really is behind trusted proxies."""

import asyncio
import ipaddress
from base64 import b64encode

from sidecar.core.addresses import address_of
from sidecar.core.listening import Tls
from sidecar.http1 import RequestHead
from sidecar.identity import Found, found_certificate

HTTP_VERSION = "http_version"  # what the transport of a stream of HTTP/2 knows of itself (get_extra_info)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Peer:
    """The other end of a client connection: its address, and what we say about it upstream. ``version``: of HTTP, where
    a request's head does not tell, else empty."""

    __slots__ = ("_lines", "certificate", "certificate_line", "ip", "scheme", "trusted", "version")

    def __init__(self, ip: str, *, trusted: bool, tls: bool) -> None:
        self.ip = ip
        self.trusted = trusted
        self.scheme = b"https" if tls else b"http"
        self.certificate: Found | None = None  # that the client showed, as its credential
        self.version = b""
        self.certificate_line = b""  # Client-Cert for the upstream (RFC 9440)
        self._lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (ip.encode(), self.scheme)

    def client_ip(self, head: RequestHead, networks: tuple[Network, ...]) -> str:
        """The address the limits see: the last one in X-Forwarded-For that is no trusted proxy, else the peer's."""
        if not self.trusted or not head.forwarded_for:
            return self.ip
        claimed = b",".join(head.forwarded_for).decode("latin-1").split(",")
        for text in reversed(claimed):
            address = text.strip()
            if address_of(address) is None:
                return self.ip
            if not is_trusted(address, networks):
                return address
        return claimed[0].strip()

    def lines(self, head: RequestHead) -> bytes:
        """X-Forwarded-* and Forwarded: appended to what a trusted proxy said, else replaced."""
        host = b"X-Forwarded-Host: %b\r\n" % head.host if head.host else b""
        if not self.trusted:
            return self._lines + host
        before = b", ".join(head.forwarded_for)
        chain = b"%b, %b" % (before, self.ip.encode()) if before else self.ip.encode()
        proto = head.field(b"x-forwarded-proto") or self.scheme
        if (named := head.field(b"x-forwarded-host")) is not None:
            host = b"X-Forwarded-Host: %b\r\n" % named
        lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n%b" % (chain, proto, host)
        if head.forwarded:
            node = f'"[{self.ip}]"' if ":" in self.ip else self.ip  # RFC 7239, 6
            element = b"for=%b;proto=%b" % (node.encode(), self.scheme)
            lines += b"Forwarded: %b, %b\r\n" % (b", ".join(head.forwarded), element)
        return lines


def meet(transport: asyncio.BaseTransport, said: str | None, networks: tuple[Network, ...], tls: Tls | None) -> Peer:
    """Who is at the other end of a new connection."""
    name = transport.get_extra_info("peername")
    ip = said or (name[0] if isinstance(name, tuple) else "unix")
    peer = Peer(ip, trusted=is_trusted(ip, networks), tls=transport.get_extra_info("sslcontext") is not None)
    peer.version = transport.get_extra_info(HTTP_VERSION, b"")
    if tls is not None and tls.client_ca is not None:
        der = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if der is not None:
            peer.certificate = found_certificate(transport.get_extra_info("peercert"), der)
            if tls.client_cert_field:
                peer.certificate_line = b"Client-Cert: :%b:\r\n" % b64encode(der)
    return peer


def upstream_tail(head: RequestHead, *, host: bytes, via: bytes, lines: bytes) -> bytes:
    """The head for the upstream after its request line. ``lines`` are the fields that cross and our own, ``via`` is
    the version in which the request came, and our pseudonym (RFC 9110, 7.6.3)."""
    if head.vias:
        via = b"%b, %b" % (b", ".join(head.vias), via)
    framing = b""
    if head.chunked:
        framing = b"Transfer-Encoding: chunked\r\n"
    elif head.length is not None:
        framing = b"Content-Length: %d\r\n" % head.length
    if head.websocket:
        framing = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    elif head.trailers:
        framing += b"TE: trailers\r\nConnection: TE\r\n"
    if head.hops is not None:
        framing += b"Max-Forwards: %d\r\n" % (head.hops - 1)
    return b"Host: %b\r\n%bVia: %b\r\n%b\r\n" % (host, lines, via, framing)


def is_trusted(ip: str, networks: tuple[Network, ...]) -> bool:
    """Whether the address is in one of the networks; False for what is no address (a Unix socket's peer)."""
    if not networks:
        return False
    address = address_of(ip)
    return address is not None and any(address in network for network in networks)
