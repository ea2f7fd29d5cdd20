"""The pool of one upstream: its targets, their connections, and who gets the next one.

Bounds: ``max_connections`` per target; ``max_waiting`` requests wait for one per upstream, the next is refused (503).
"""

import asyncio
import socket
import ssl
from collections import deque
from dataclasses import dataclass

from sidecar.core.addresses import is_link_local
from sidecar.core.clock import Clock
from sidecar.core.errors import UpstreamError
from sidecar.core.policy import Target, Upstream
from sidecar.http1 import ReplyMemory
from sidecar.upstream.breaker import BreakerState
from sidecar.upstream.connection import UpstreamConnection

# Upstream heads may be larger than client heads (field reports of large cookies and CSP lines); per field.
MAX_REPLY_FIELD = 256 * 1024
MAX_REPLY_FIELDS = 400
_WRITE_HIGH = 256 * 1024


@dataclass(frozen=True, slots=True)
class TargetReading:
    """What metrics and readiness see of a target."""

    upstream: str
    target: str
    up: bool
    breaker: str
    in_use: int
    idle: int
    waiting: int
    failures: dict[str, int]


class TargetPool:
    """The connections of one target."""

    __slots__ = (
        "_clock",
        "_memory",
        "_tls",
        "authority",
        "breaker",
        "connections",
        "failures",
        "healthy",
        "idle",
        "opening",
        "pool",
        "target",
    )

    def __init__(self, pool: "UpstreamPool", target: Target, clock: Clock) -> None:
        self.pool = pool
        self.target = target
        self.authority = target.authority.encode()
        self._clock = clock
        self._memory = ReplyMemory()
        self._tls = ssl.create_default_context() if target.scheme == "https" else None
        self.breaker = BreakerState(pool.upstream.breaker, clock)
        self.healthy = True
        self.idle: list[tuple[UpstreamConnection, int]] = []  # a stack: the warmest connection goes first
        self.connections: set[UpstreamConnection] = set()
        self.opening = 0
        self.failures: dict[str, int] = {}

    @property
    def outstanding(self) -> int:
        """Requests under way: connections that are neither idle nor closed, and those being opened."""
        return len(self.connections) - len(self.idle) + self.opening

    @property
    def full(self) -> bool:
        return len(self.connections) + self.opening >= self.pool.upstream.max_connections

    def take(self) -> UpstreamConnection | None:
        """An idle connection, or None."""
        idle = self.idle
        while idle:
            connection, _ = idle.pop()
            if not connection.closed:
                return connection
        return None

    async def open(self) -> UpstreamConnection:
        """A new connection. UpstreamError when it cannot be made."""
        upstream = self.pool.upstream
        connection = UpstreamConnection(
            self._clock,
            first_byte_ns=upstream.first_byte_timeout_ns,
            idle_ns=upstream.idle_timeout_ns,
            max_head_bytes=MAX_REPLY_FIELD,
            max_headers=MAX_REPLY_FIELDS,
            memory=self._memory,
            private=self.pool.private,
            on_idle=self._idle,
            on_lost=self._lost,
        )
        self.opening += 1
        try:
            async with asyncio.timeout(upstream.connect_timeout_ns / 1e9):
                await self._connect(connection)
        except TimeoutError:
            self.failed("connect_timeout")
            raise UpstreamError("connect_timeout", f"no connection to {self.target} in time") from None
        except OSError as error:
            self.failed("connect")
            reason = error.strerror or type(error).__name__
            raise UpstreamError("connect", f"no connection to {self.target}: {reason}") from None
        finally:
            self.opening -= 1
            if not hasattr(connection, "transport"):
                self.pool.room_made()
        connection.transport.set_write_buffer_limits(high=_WRITE_HIGH)
        self.connections.add(connection)
        return connection

    async def addresses(self) -> list[str]:
        """What may be connected to. UpstreamError when the host's name stands for link-local addresses only."""
        host, loop = self.target.host, asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, self.target.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        if not self.pool.upstream.allow_link_local:
            # Configured addresses were judged with the configuration; here it is what a name resolves to.
            addresses = [address for address in addresses if not is_link_local(address)]
        if not addresses:
            raise UpstreamError(
                "connect", f"{self.target} resolves to link-local addresses, which need allow_link_local: true"
            )
        return addresses

    async def _connect(self, connection: UpstreamConnection) -> None:
        """To the first of the addresses that takes it: the very ones that were judged."""
        loop, failure = asyncio.get_running_loop(), OSError("no address")
        name = self.target.host if self._tls else None
        try:
            addresses = await self.addresses()
        except UpstreamError:
            self.failed("connect")
            raise
        for address in addresses:
            try:
                await loop.create_connection(
                    lambda: connection, address, self.target.port, ssl=self._tls, server_hostname=name
                )
            except OSError as error:
                failure = error
            else:
                return
        raise failure

    def put_back(self, connection: UpstreamConnection) -> None:
        """Returns a connection that was acquired and not used."""
        self.breaker.let_go()
        self._idle(connection)

    def failed(self, kind: str) -> None:
        """Counts a failure and tells the breaker."""
        self.failures[kind] = self.failures.get(kind, 0) + 1
        self.breaker.failed()

    def sweep(self, now_ns: int) -> None:
        """Fails what is overdue and closes what was idle for too long."""
        for connection in list(self.connections):
            if 0 < connection.deadline_ns <= now_ns:
                connection.expire(now_ns)
        keep = now_ns - self.pool.upstream.keepalive_ns
        stale = [connection for connection, since in self.idle if since <= keep]
        if stale:
            self.idle = [entry for entry in self.idle if entry[1] > keep]
            for connection in stale:
                connection.close()

    def _idle(self, connection: UpstreamConnection) -> None:
        if self.pool.closing:
            connection.close()
            return
        if not self.pool.hand_to_waiter(connection):
            self.idle.append((connection, self._clock.monotonic_ns()))

    def _lost(self, connection: UpstreamConnection) -> None:
        self.connections.discard(connection)
        if any(entry[0] is connection for entry in self.idle):
            self.idle = [entry for entry in self.idle if entry[0] is not connection]
        self.pool.room_made()


class UpstreamPool:
    """An upstream: picks the target with the fewest requests outstanding among those that are up.

    ``private``: lower-case names of reply fields that are for us and do not cross.
    """

    __slots__ = ("_waiters", "closing", "private", "targets", "upstream")

    def __init__(self, upstream: Upstream, clock: Clock, private: frozenset[bytes] = frozenset()) -> None:
        self.upstream = upstream
        self.private = private
        self.targets = [TargetPool(self, target, clock) for target in upstream.targets]
        self._waiters: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self.closing = False

    def take(self) -> tuple[TargetPool, UpstreamConnection] | None:
        """An idle connection of the best target, synchronously; None when one must be opened or waited for."""
        target = self.targets[0] if len(self.targets) == 1 else self._best()
        if target is None or not target.breaker.closed or not target.healthy:
            return None
        connection = target.take()
        return None if connection is None else (target, connection)

    async def acquire(self, *, fresh: bool = False) -> tuple[TargetPool, UpstreamConnection]:
        """A connection, opened or waited for when needed. UpstreamError: connect, connect_timeout, busy or open."""
        while True:
            target = self._best()
            if target is None or not target.breaker.allows():
                self.room_made()  # whoever else waits would wait for nothing
                raise UpstreamError("open", f"upstream {self.upstream.name} is not available")
            if not fresh and (connection := target.take()) is not None:
                return target, connection
            if not target.full:
                return target, await target.open()
            target.breaker.let_go()  # no probe while it waits
            if target.idle:
                target.idle.pop(0)[0].close()  # only for ``fresh``: makes room for it
            handed = await self._wait()
            if handed is None or handed.closed:
                continue
            for owner in self.targets:
                if handed in owner.connections:
                    return owner, handed

    def sweep(self, now_ns: int) -> None:
        """Called every half second."""
        for target in self.targets:
            target.sweep(now_ns)

    def close(self) -> None:
        """Closes idle connections now and the others as they end."""
        self.closing = True
        for target in self.targets:
            for connection, _ in target.idle:
                connection.close()
            target.idle = []

    def abort(self) -> None:
        """Closes every connection."""
        self.close()
        for target in self.targets:
            for connection in list(target.connections):
                connection.close()

    @property
    def available(self) -> bool:
        """Whether any target may be asked."""
        return any(target.healthy and target.breaker.closed for target in self.targets)

    def readings(self) -> list[TargetReading]:
        """One reading per target."""
        return [
            TargetReading(
                self.upstream.name,
                str(target.target),
                target.healthy and target.breaker.closed,
                target.breaker.word,
                target.outstanding,
                len(target.idle),
                len(self._waiters),
                dict(target.failures),
            )
            for target in self.targets
        ]

    def hand_to_waiter(self, connection: UpstreamConnection) -> bool:
        """Gives a connection that became free to the request that has waited longest."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    def room_made(self) -> None:
        """A connection went away: the longest waiting request may open another."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _best(self) -> TargetPool | None:
        up = [target for target in self.targets if target.healthy and target.breaker.ready]
        return min(up, key=lambda target: target.outstanding, default=None)

    async def _wait(self) -> UpstreamConnection | None:
        if len(self._waiters) >= self.upstream.max_waiting:
            raise UpstreamError("busy", f"upstream {self.upstream.name} is at its capacity")
        waiter: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self.upstream.first_byte_timeout_ns / 1e9):
                return await waiter
        except TimeoutError:
            self._pass_on(waiter)
            raise UpstreamError("busy", f"upstream {self.upstream.name} is at its capacity") from None
        except asyncio.CancelledError:
            self._pass_on(waiter)
            raise

    def _pass_on(self, waiter: "asyncio.Future[UpstreamConnection | None]") -> None:
        """What was given to a request that no longer waits."""
        if waiter.done() and not waiter.cancelled():
            handed = waiter.result()
            if handed is None:
                self.room_made()
            else:
                handed.close()  # its end makes room
