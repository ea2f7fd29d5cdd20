"""aiohttp's runner hosts the lane: its sites own the sockets, its clean-up is the drain."""

import asyncio
import contextlib
import socket
import ssl
from typing import Final

from aiohttp import web

from sidecar.core.clock import NS_PER_S
from sidecar.gateway.arrivals import ArrivalSite
from sidecar.gateway.client import ClientConnection
from sidecar.gateway.http2 import Http2Connection
from sidecar.gateway.lane import Lane

_GOODBYE_S: Final = 1.0  # after the drain time, for WebSockets that are still open


class Negotiated(asyncio.Protocol):
    """A connection over TLS until its handshake has told which HTTP the client speaks (ALPN, RFC 7301)."""

    def __init__(self, lane: Lane, said: str | None = None) -> None:
        self._lane = lane
        self._said = said

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        chosen = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        protocol = (Http2Connection if chosen == "h2" else ClientConnection)(self._lane, self._said)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


class LaneServer:
    """The protocol factory that aiohttp's sites serve; the shutdown half of ``aiohttp.web.Server``'s interface."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def __call__(self, said: str | None = None) -> asyncio.Protocol:
        """A connection; ``said``: the client's address as a trusted proxy told it, None: the peer's own."""
        tls = self._lane.rules.snapshot.settings.tls
        return ClientConnection(self._lane, said) if tls is None else Negotiated(self._lane, said)

    def pre_shutdown(self) -> None:
        """No new requests: idle connections close, busy ones after their reply."""
        self._lane.closing = True
        for connection in list(self._lane.connections):
            connection.drain()

    async def shutdown(self, limit_s: float | None = None) -> None:
        """Waits for replies under way, at most as long as the rules in force say, then aborts what is left."""
        lane = self._lane
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(lane.rules.snapshot.settings.drain_ns / NS_PER_S):
                await lane.quiet()
        if lane.tunnels:
            await self._part()
        for connection in list(lane.connections):
            connection.transport.abort()
        for exchange in list(lane.abandoned):
            exchange.stop_draining()
        await asyncio.sleep(0)
        for task in list(lane.tasks):
            task.cancel()
        await asyncio.gather(*lane.tasks, return_exceptions=True)

    async def _part(self) -> None:
        """WebSockets are told that we go, and have a moment to say goodbye themselves."""
        lane = self._lane
        for tunnel in list(lane.tunnels):
            tunnel.go_away()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await lane.quiet()
        for tunnel in list(lane.tunnels):
            tunnel.end()


class LaneRunner(web.BaseRunner):
    """An ``aiohttp`` runner whose connections are the lane's."""

    def __init__(self, lane: Lane) -> None:
        super().__init__()
        self._lane = lane

    def site(self, sock: socket.socket, tls: ssl.SSLContext | None, *, backlog: int) -> web.BaseSite:
        """What serves at a bound socket."""
        if self._lane.rules.snapshot.settings.proxy_protocol:
            sock.listen(backlog)
            return ArrivalSite(self, self._lane, sock, LaneServer(self._lane), tls)
        return web.SockSite(self, sock, backlog=backlog, ssl_context=tls)

    async def shutdown(self) -> None:
        """Nothing beyond the server's own drain."""

    async def _make_server(self) -> LaneServer:  # type: ignore[override]  # the interface is all that sites use
        return LaneServer(self._lane)

    async def _cleanup_server(self) -> None:
        """Nothing is held beyond the connections."""
