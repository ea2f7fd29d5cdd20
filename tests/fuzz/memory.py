"""The lane between two transports in memory, and a loop that turns only as often as it is told."""

import asyncio
import ipaddress
import itertools
import socket
from collections.abc import Callable
from typing import Any

from sidecar.gateway import ClientConnection
from sidecar.upstream import UpstreamConnection
from tests.gateway.rig import Rig

_PEERS = (str(ipaddress.ip_address("10.0.0.0") + n) for n in itertools.count())
# What the lane may ask whether anything waits to be read: in memory nothing ever does.
_QUIET, _OTHER_END = socket.socketpair()


class MemoryTransport(asyncio.Transport):
    """What is written lands in ``out``. ``cut``: aborted, so that the peer sees no orderly end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, peer: str) -> None:
        super().__init__()
        self.out = bytearray()
        self.cut = False
        self.closed = False
        self.reading = True
        self.on_write: Callable[[], None] = lambda: None
        self._loop = loop
        self._protocol: Any = protocol
        self._peer = peer
        self._lost = False

    def feed(self, data: bytes) -> None:
        """Bytes from the peer, at the loop's next turn."""
        self._loop.call_soon(self._received, data)

    def end(self, *, reset: bool = False) -> None:
        """The peer closes, or resets, at the loop's next turn."""
        self._loop.call_soon(self._ended, reset)

    def _received(self, data: bytes) -> None:
        if not self._lost and not self.closed:
            self._protocol.data_received(data)

    def _ended(self, reset: bool) -> None:
        if not self._lost and (reset or self.closed or not self._protocol.eof_received()):
            self._lose(ConnectionResetError() if reset else None)

    def write(self, data: Any) -> None:
        if not self.closed:
            self.out += data
            self.on_write()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self._lose)

    def abort(self) -> None:
        self.cut = True
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        known = {"peername": (self._peer, 1), "socket": _QUIET}
        return known.get(name, default)

    def _lose(self, error: Exception | None = None) -> None:
        if not self._lost:
            self._lost = self.closed = True
            self._protocol.connection_lost(error)


class MemoryLane:
    """A rig whose client and upstream are memory. The rig's real upstream listens nowhere."""

    def __init__(self, rig: Rig, loop: asyncio.AbstractEventLoop) -> None:
        self.rig = rig
        self.loop = loop
        self.faults: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: self.faults.append(context))

    def client(self) -> MemoryTransport:
        """A new client connection, from an address of its own."""
        protocol = ClientConnection(self.rig.lane)
        transport = MemoryTransport(self.loop, protocol, next(_PEERS))
        protocol.connection_made(transport)
        return transport

    def upstream(self) -> MemoryTransport:
        """A new idle connection to the target."""
        target = self.rig.pool.targets[0]
        connection: UpstreamConnection = target._fresh(target.addresses.known[0])
        transport = MemoryTransport(self.loop, connection, "10.255.0.1")
        connection.connection_made(transport)
        target.connections.add(connection)
        target.idle.append((connection, self.rig.clock.monotonic_ns()))
        return transport

    def idle(self, transport: MemoryTransport) -> bool:
        """Whether this connection waits for the next request, once what was fed is read."""
        self.turn(1)
        return any(c.transport is transport and not c.closed for c, _ in self.rig.pool.targets[0].idle)

    def turn(self, times: int = 3) -> None:
        """Lets the loop do what it was asked to do soon."""
        for _ in range(times):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def leftovers(self) -> str | None:
        """What is still held though every connection has ended; None when nothing is."""
        lane, target = self.rig.lane, self.rig.pool.targets[0]
        if lane.tasks:
            self.turn(50)
        if self.faults:
            return f"fault: {self.faults.pop()}"
        if lane.connections or lane.per_ip or lane.abandoned or lane.tunnels:
            return "a connection, drain or tunnel is left"
        if target.outstanding or target.connections:
            return "an upstream connection is left"
        if self.rig.journal.readings().open_calls:
            return "a call is open in the journal"
        return None
