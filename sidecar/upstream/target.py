"""One target of an upstream: its connections, its addresses, its breaker, and what was seen of it."""

import asyncio
import logging
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import UpstreamError
from sidecar.core.upstreams import Target
from sidecar.http1 import ReplyMemory
from sidecar.upstream.addresses import Addresses
from sidecar.upstream.breaker import BreakerState
from sidecar.upstream.connection import UpstreamConnection

if TYPE_CHECKING:
    from sidecar.upstream.pool import UpstreamPool

# Upstream heads may be larger than client heads (field reports of large cookies and CSP lines); per field.
MAX_REPLY_FIELD: Final = 256 * 1024
MAX_REPLY_FIELDS: Final = 400
_WRITE_HIGH: Final = 256 * 1024
_UNREACHED: Final = frozenset({"connect", "connect_timeout"})
# How long no connection is used twice after one said something unasked: a moment later it would have been the reply to
# somebody's request, and what does it once (a reply split in two, a body behind HEAD) does it again.
WARY_NS: Final = 60 * NS_PER_S
_log = logging.getLogger("sidecar.upstream")


@dataclass(frozen=True, slots=True)
class TargetReading:
    """What metrics and readiness see of a target. ``up``: calls may go there, be it to probe. ``replies``: heads by
    status class, 1 for 1xx; 0 for no class."""

    upstream: str
    target: str
    up: bool
    breaker: str
    in_use: int
    idle: int
    waiting: int
    failures: dict[str, int]
    replies: tuple[int, ...] = ()
    retries: dict[str, int] = field(default_factory=dict)


class TargetPool:
    """The connections of one target. ``up``: it gets requests; the pool is told when that changes. ``probe``: the
    connection of the last request that went here while it was down; calls from before are no probes.

    ``retries``: attempts made here because the one before failed elsewhere (``connect``) or was a race (``race``).
    """

    __slots__ = (
        "_clock",
        "_cut_off",
        "_memory",
        "_streak",
        "_trying",
        "_wary_until_ns",
        "addresses",
        "authority",
        "breaker",
        "connections",
        "failures",
        "healthy",
        "idle",
        "opening",
        "pool",
        "probe",
        "replies",
        "retries",
        "server_name",
        "target",
        "tls",
        "up",
    )

    def __init__(self, pool: "UpstreamPool", target: Target, clock: Clock) -> None:
        self.pool = pool
        self.target = target
        self.authority = (pool.upstream.host or target.authority).encode()
        self._clock = clock
        self._memory = ReplyMemory()
        name = None if pool.upstream.tls is None else pool.upstream.tls.server_name
        self.tls: ssl.SSLContext | None = pool.tls if target.scheme == "https" else None
        self.server_name: str | None = None if self.tls is None else name or target.host
        self.addresses = Addresses(target, pool.upstream, clock)
        self.breaker = BreakerState(pool.upstream.breaker, clock)
        self.healthy = True
        self._streak = 0  # checks in a row that speak against ``healthy``
        self._wary_until_ns = 0
        self._cut_off = False  # it is left alone because it takes no connection
        self._trying: asyncio.Task[None] | None = None
        self.up = True
        self.probe: UpstreamConnection | None = None
        self.idle: list[tuple[UpstreamConnection, int]] = []  # a stack: the warmest connection goes first
        self.connections: set[UpstreamConnection] = set()
        self.opening = 0
        self.failures: dict[str, int] = {}
        self.replies = [0] * 10
        self.retries: dict[str, int] = {}

    @property
    def outstanding(self) -> int:
        """Requests under way: connections that are neither idle nor closed, and those being opened."""
        return len(self.connections) - len(self.idle) + self.opening

    @property
    def full(self) -> bool:
        return len(self.connections) + self.opening >= self.pool.upstream.max_connections

    @property
    def due(self) -> bool:
        """Whether it is down and its breaker wants a probe. Not where it took no connection: that is found out without
        a call (``_try``)."""
        return self.healthy and not self.breaker.closed and self.breaker.ready and not self._cut_off

    # What came of a request

    def answered(self, status: int) -> None:
        """A reply's head came."""
        self.replies[status // 100] += 1
        self.breaker.succeeded()
        if not self.up:
            self._judge()

    def failed(self, kind: str, connection: UpstreamConnection | None = None, *, probe: bool = False) -> None:
        """Counts a failure and tells the breaker; ``connection`` is the one that the request went on."""
        self.failures[kind] = self.failures.get(kind, 0) + 1
        closed, unreached = self.breaker.closed, kind in _UNREACHED
        may_open = self.pool.may_leave_alone(self, unreached=unreached)
        self.breaker.failed(probe=probe or self._takes_probe(connection), may_open=may_open)
        if closed:
            self._cut_off = unreached and not self.breaker.closed
        self._judge()

    def let_go(self, connection: UpstreamConnection | None) -> None:
        """The request on ``connection`` ended without an answer either way; if it was the probe, another may go."""
        if self._takes_probe(connection):
            self.breaker.let_go()

    def _takes_probe(self, connection: UpstreamConnection | None) -> bool:
        if connection is None or connection is not self.probe:
            return False
        self.probe = None
        return True

    def mark(self, *, healthy: bool) -> None:
        """What an active check found; it counts when enough in a row agree."""
        if healthy == self.healthy:
            self._streak = 0
            return
        health = self.pool.upstream.health
        self._streak += 1
        if health is None or self._streak >= (health.passes if healthy else health.fails):
            self.healthy = healthy
            self._streak = 0
            self._judge()

    def retried(self, why: str) -> None:
        """Counts an attempt that is made here after another one."""
        self.retries[why] = self.retries.get(why, 0) + 1

    def _judge(self) -> None:
        up = self.healthy and self.breaker.closed
        if up != self.up:
            self.up = up
            self.pool.regroup()

    # Connections

    def take(self) -> UpstreamConnection | None:
        """An idle connection, or None. One on which something came unasked is closed instead (RFC 9112, 9.3)."""
        idle = self.idle
        while idle:
            connection, since_ns = idle.pop()
            if not connection.closed:
                if not connection.stirs(self._clock.monotonic_ns() - since_ns):
                    return connection
                connection.close()
        return None

    async def open(self, *, probe: bool = False) -> UpstreamConnection:
        """A new connection, for the probe or another request. UpstreamError when it cannot be made."""
        self.opening += 1
        made = False  # not by looking at the connection: mypyc takes it for made behind the try
        try:
            connection = await self._connect()
            made = True
        except TimeoutError:
            late = UpstreamError("connect_timeout", f"no connection to {self.target} in time")
            raise self._unreached(late, probe) from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            refused = UpstreamError("connect", f"no connection to {self.target}: {reason}")
            raise self._unreached(refused, probe) from None
        except UpstreamError as error:
            raise self._unreached(error, probe) from None
        finally:
            self.opening -= 1
            if not made:
                self.pool.room_made()
        self._opened(connection)
        return connection

    def _opened(self, connection: UpstreamConnection) -> None:
        connection.transport.set_write_buffer_limits(high=_WRITE_HIGH)
        if connection.closed:
            self.pool.room_made()  # it was lost before it was counted
        else:
            self.connections.add(connection)

    async def _try(self) -> None:
        """Whether it takes connections again: no call has to wait to find out."""
        try:
            connection = await self._connect()
        except (OSError, UpstreamError):
            return
        self._opened(connection)
        self.breaker.succeeded()
        self._judge()
        if not connection.closed:
            self._idle(connection)

    def _unreached(self, error: UpstreamError, probe: bool) -> UpstreamError:
        """Counts it, and tells the operator once for each time the target goes away: callers do not get the detail."""
        if not self.breaker.failing:
            _log.warning("upstream %s: %s", self.pool.upstream.name, error.detail)
        self.failed(error.kind, probe=probe)
        return error

    async def _connect(self) -> UpstreamConnection:
        """To the first of the addresses that takes it: the very ones that were judged. Each gets its share of the time
        that is left, so that one that swallows packets does not cost the others theirs."""
        loop, failure = asyncio.get_running_loop(), OSError("no address")
        until = loop.time() + self.pool.upstream.connect_timeout_ns / 1e9
        async with asyncio.timeout_at(until):
            addresses = await self.addresses.next()
        for at, address in enumerate(addresses):
            now = loop.time()
            try:
                async with asyncio.timeout((until - now) / (len(addresses) - at)):
                    connection = await self._reach(address)
            except OSError as error:  # TimeoutError is one
                self.addresses.tried(address, well=False)
                failure = error
            else:
                self.addresses.tried(address, well=True)
                return connection
        raise failure

    async def _reach(self, address: str) -> UpstreamConnection:
        connection = self._fresh(address)
        if self.target.socket:
            await asyncio.get_running_loop().create_unix_connection(lambda: connection, address)
            return connection
        await asyncio.get_running_loop().create_connection(
            lambda: connection, address, self.target.port, ssl=self.tls, server_hostname=self.server_name
        )
        return connection

    def _fresh(self, address: str) -> UpstreamConnection:
        upstream = self.pool.upstream
        return UpstreamConnection(
            self._clock,
            first_byte_ns=upstream.first_byte_timeout_ns,
            idle_ns=upstream.idle_timeout_ns,
            max_head_bytes=MAX_REPLY_FIELD,
            max_headers=MAX_REPLY_FIELDS,
            memory=self._memory,
            private=self.pool.private,
            on_idle=self._idle,
            on_lost=self._lost,
            on_unasked=self._unasked,
            address=address,
        )

    def put_back(self, connection: UpstreamConnection) -> None:
        """Returns a connection that was acquired and not used."""
        self.let_go(connection)
        self._idle(connection)

    def sweep(self, now_ns: int) -> None:
        """Fails what is overdue, closes what was idle for too long or leads where the name no longer does. Tries to
        connect where that failed before."""
        for connection in list(self.connections):
            if 0 < connection.deadline_ns <= now_ns or 0 < connection.until_ns <= now_ns:
                connection.expire(now_ns)
        keep = now_ns - self.pool.upstream.keepalive_ns
        stale = [c for c, since in self.idle if since <= keep or not self.addresses.holds(c.address)]
        if stale:
            self.idle = [entry for entry in self.idle if entry[0] not in stale]
            for connection in stale:
                connection.close()
        if self.addresses.known and self.addresses.due(now_ns):
            self.addresses.ask()
        trying = self._trying is not None and not self._trying.done()
        if self._cut_off and not (self.breaker.closed or trying or self.full or self.pool.closing):
            self._trying = asyncio.get_running_loop().create_task(self._try())

    def close_idle(self) -> None:
        """Closes idle connections."""
        idle, self.idle = self.idle, []
        for connection, _ in idle:
            connection.close()

    def abort(self) -> None:
        """Closes every connection."""
        self.close_idle()
        self.addresses.close()
        if self._trying is not None:
            self._trying.cancel()
        for connection in list(self.connections):
            connection.close()

    def _idle(self, connection: UpstreamConnection) -> None:
        now_ns = self._clock.monotonic_ns()
        if self.pool.closing or now_ns < self._wary_until_ns or not self.addresses.holds(connection.address):
            connection.close()
            return
        if not self.pool.hand_to_waiter(connection):
            self.idle.append((connection, now_ns))

    def _unasked(self, data: bytes) -> None:
        """An idle connection said something. That it will close (408), or an empty line, is no reply to anybody."""
        self.failures["unasked"] = self.failures.get("unasked", 0) + 1
        if data[9:13] == b"408 " or not data.strip(b"\r\n"):
            return
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._wary_until_ns:
            name, wary_s = self.pool.upstream.name, WARY_NS // NS_PER_S
            _log.warning(
                "upstream %s: %s sends what nobody asked for; its connections are used once for %d s",
                name,
                self.target,
                wary_s,
            )
        self._wary_until_ns = now_ns + WARY_NS
        self.close_idle()

    def _lost(self, connection: UpstreamConnection) -> None:
        self.connections.discard(connection)
        if any(entry[0] is connection for entry in self.idle):
            self.idle = [entry for entry in self.idle if entry[0] is not connection]
        self.pool.room_made()
