"""Connections of trusted proxies that say first whose they are (the PROXY protocol), before TLS and before HTTP.

Nothing beyond the preamble is read from the socket, so that TLS begins at its first byte.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

from aiohttp import web

from sidecar.core.clock import NS_PER_S
from sidecar.gateway.forwarding import is_trusted
from sidecar.gateway.lane import LAST_NS, Lane
from sidecar.gateway.preamble import (
    LONGEST_LINE,
    SHORTEST,
    SIGNATURE,
    BadPreamble,
    length_of,
    may_begin,
    read_block,
    read_line,
)

_TOLD_NS: Final = 10 * NS_PER_S  # between two lines in the log about what proxies get wrong
_AT_ONCE: Final = 100  # connections accepted in one turn of the loop
_PAUSE_S: Final = 1.0  # after the machine has no more sockets to give, as asyncio does
_log = logging.getLogger(__name__)

Serve = Callable[[str | None], asyncio.Protocol]  # the protocol of a connection; of the address that was said


class Arrival:
    """A connection until its protocol has it. To the lane it is one more connection: counted, swept and ended."""

    def __init__(self, lane: Lane, ip: str) -> None:
        self._lane = lane
        self.current = None
        self.deadline_ns = lane.monotonic_ns() + lane.rules.bounds.header_timeout_ns
        self.transport = self
        self.ip = ip
        self.task: asyncio.Task[None] | None = None

    def expire(self) -> None:
        """It took too long."""
        self.abort()

    def drain(self) -> None:
        """The process ends: what was on its way is still answered."""
        if self.deadline_ns:
            self.deadline_ns = min(self.deadline_ns, self._lane.monotonic_ns() + LAST_NS)

    def abort(self) -> None:
        """Ends it at once."""
        self.deadline_ns = 0
        if self.task is not None:
            self.task.cancel()


class Arrivals:
    """Accepts at ``sock``. Held: as many as ``bounds.max_connections`` allows, of each at most 4 KiB."""

    def __init__(self, lane: Lane, sock: socket.socket, serve: Serve, tls: ssl.SSLContext | None) -> None:
        self._lane = lane
        self._sock = sock
        self._serve = serve
        self._tls = tls
        self._told_ns = -_TOLD_NS
        self._here: set[Arrival] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # one per arrival, to the end of its handshake
        self._later: asyncio.TimerHandle | None = None
        self._listen()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """As of asyncio's own servers."""
        return (self._sock,)

    def close(self) -> None:
        """Accepts no more; what is served goes on, and so does what has not said yet whose it is."""
        if self._later is not None:
            self._later.cancel()
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        # Not by sock_accept, which forgets what it has accepted when it is cancelled in that very moment.
        loop = asyncio.get_running_loop()
        for _ in range(_AT_ONCE):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.error("no connection can be accepted: %s", error.strerror)
                loop.remove_reader(self._sock)
                self._later = loop.call_later(_PAUSE_S, self._listen)
                return
            sock.setblocking(False)
            arrival = Arrival(self._lane, address[0])
            if not self._lane.entered(arrival, arrival.ip):
                self._lane.left(arrival, arrival.ip)
                sock.close()
                continue
            self._here.add(arrival)
            task = arrival.task = loop.create_task(self._meet(arrival, sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _meet(self, arrival: Arrival, sock: socket.socket) -> None:
        loop, lane = asyncio.get_running_loop(), self._lane
        said: str | None = None
        try:
            if is_trusted(arrival.ip, lane.rules.trusted):
                said = await _preamble(sock)
        except (BadPreamble, OSError) as error:
            self._tell(arrival.ip, error)
            sock.close()
        except asyncio.CancelledError:
            sock.close()
        else:
            # From here it is bounded as any other: by the handshake's 60 s, then by the lane.
            arrival.deadline_ns = 0
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(lambda: self._begin(arrival, said), sock, ssl=self._tls)
        finally:
            self._over(arrival)

    def _begin(self, arrival: Arrival, said: str | None) -> asyncio.Protocol:
        self._over(arrival)  # so that it does not count twice
        return self._serve(said)

    def _over(self, arrival: Arrival) -> None:
        if arrival in self._here:
            self._here.discard(arrival)
            self._lane.left(arrival, arrival.ip)

    def _tell(self, ip: str, error: Exception) -> None:
        lane, now_ns = self._lane, self._lane.monotonic_ns()
        lane.tallies.refuse(None, "bad_request")
        if now_ns - self._told_ns >= _TOLD_NS:
            self._told_ns = now_ns
            _log.warning("the proxy %s was hung up on: %s", ip, error)


class ArrivalSite(web.BaseSite):
    """An ``aiohttp`` site on a bound socket whose connections begin with the PROXY protocol."""

    def __init__(
        self, runner: web.BaseRunner, lane: Lane, sock: socket.socket, serve: Serve, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(runner, ssl_context=tls)
        self._lane = lane
        self._sock = sock
        self._serve = serve

    @property
    def name(self) -> str:
        return f"proxied:{self._sock.getsockname()}"

    async def start(self) -> None:
        await super().start()
        self._sock.setblocking(False)
        server = Arrivals(self._lane, self._sock, self._serve, self._ssl_context)
        self._server = cast(asyncio.AbstractServer, server)  # of which aiohttp uses close and sockets


async def _preamble(sock: socket.socket) -> str | None:
    """Reads the preamble and not a byte more; the address that it says. BadPreamble or OSError."""
    head = b""
    while len(head) < SHORTEST:
        head += await _some(sock, SHORTEST - len(head))
        if not may_begin(head):
            raise BadPreamble("it did not begin with the PROXY protocol")
    if head.startswith(SIGNATURE):
        head += await _some(sock, 1)
        block = b""
        length = length_of(head)
        while len(block) < length:
            block += await _some(sock, length - len(block))
        return read_block(head, block)
    while not head.endswith(b"\r\n"):
        if len(head) >= LONGEST_LINE:
            raise BadPreamble("the line of the PROXY protocol has no end")
        head += await _some(sock, 1)
    return read_line(head)


async def _some(sock: socket.socket, most: int) -> bytes:
    data = await asyncio.get_running_loop().sock_recv(sock, most)
    if not data:
        raise BadPreamble("it ended before the PROXY protocol did")
    return data
