"""What all connections share: the rules in force, the rooms below, and the sweep that ends what took too long."""

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final

from sidecar.admission import Admission
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.ids import EventIds
from sidecar.core.problems import Problem
from sidecar.core.turns import Turn
from sidecar.core.values import Principal
from sidecar.gateway.access.log import AccessLog, unread
from sidecar.gateway.accounts import Account, Passage, anonymous_passage
from sidecar.gateway.rules import RoutePlan, Rules
from sidecar.identity import Resolver, UpstreamSigner
from sidecar.ledger import Journal
from sidecar.metering import Tallies

SWEEP_S = 0.5  # how late a timeout may fire
LAST_NS: Final = NS_PER_S  # for what a client sent before it could know that we close
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LaneReading:
    """What metrics see of the lane."""

    connections: int
    draining: int
    unbilled: int


@dataclass(frozen=True, slots=True)
class JournalUse:
    """``sync``: a reply's end waits for the fsync. ``serve_unbilled``: a full journal does not stop the service."""

    sync: bool = False
    serve_unbilled: bool = False


class Lane:
    """The data path of one process. ``resolver`` is set once by the composition root, because it seats through us;
    ``access`` by whoever writes the access log."""

    resolver: Resolver[Account]

    def __init__(
        self,
        rules: Rules,
        *,
        admission: Admission,
        journal: Journal,
        tallies: Tallies,
        clock: Clock,
        own_paths: Callable[[], asyncio.Protocol],
        signer: UpstreamSigner | None = None,
        use: JournalUse = JournalUse(),
    ) -> None:
        self.rules = rules
        self.admission = admission
        self.journal: Journal | None = journal  # None: nothing is recorded, so that a benchmark can tell what it costs
        self.turn = Turn(journal.flush)  # who records a call awaits it, and whoever writes to a connection writes to it
        self.tallies = tallies
        self.own_paths = own_paths
        self.switches = use
        self.monotonic_ns: Callable[[], int] = clock.monotonic_ns
        self.wall_ns: Callable[[], int] = clock.wall_ns
        self.ids = EventIds()
        self.pseudonym = f"sidecar-{os.urandom(4).hex()}".encode()  # RFC 9110, 7.6.3; also finds loops
        self.connections: set[Any] = set()  # of ClientConnection
        self.per_ip: dict[str, int] = {}
        self.abandoned: set[Any] = set()  # of Exchange: replies that are read to their end for a client that has gone
        self.tunnels: set[Any] = set()  # of Tunnel: at most one per client connection, and those that still flush
        self.tasks: set[asyncio.Task[None]] = set()  # at most one per connection
        self.access: AccessLog | None = None
        self.unbilled = 0
        self._mark_ns = rules.snapshot.settings.journal.mark_ns
        self.closing = False
        self._anonymous: dict[RoutePlan, Passage] = {}
        self._signer = signer
        self._quiet = asyncio.Event()
        self._date = (0, b"")

    async def seat(self, principal: Principal) -> Account:
        """What the identity cache keeps for a principal. StoreError when its quotas cannot be read."""
        return Account(principal, await self.admission.seat(principal), self.tallies, self._signer)

    def anonymous(self, plan: RoutePlan) -> Passage:
        """Callers without a key on a route that needs none."""
        found = self._anonymous.get(plan)
        if found is None:
            found = self._anonymous[plan] = anonymous_passage(self.admission, plan, self.tallies)
        return found

    def use(self, rules: Rules) -> None:
        """Swaps the rules; requests under way keep theirs."""
        self.rules = rules
        self._anonymous = {}

    def unread(self, ip: str, refusal: Problem) -> bytes:
        """The id of a request whose head could not be read; the access log has it."""
        wall_ns = self.wall_ns()
        event_id = self.ids.next(wall_ns)
        if self.access is not None:
            self.access.note(unread(wall_ns // 1_000, event_id, ip, refusal.status, refusal.code))
        return event_id

    def date_line(self) -> bytes:
        """A Date field line (RFC 9110, 6.6.1), made once a second."""
        second = self.wall_ns() // NS_PER_S
        if self._date[0] != second:
            self._date = (second, f"Date: {formatdate(second, usegmt=True)}\r\n".encode())
        return self._date[1]

    def spawn(self, work: Any) -> asyncio.Task[None]:
        """Starts a task and keeps it until it ends."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def sweep(self) -> None:
        """Ends what is overdue. Called every SWEEP_S."""
        now = self.monotonic_ns()
        self.turn.settle()  # who is overdue depends on what has been written
        for connection in list(self.connections):
            if 0 < connection.deadline_ns <= now:
                connection.expire()
        for exchange in list(self.abandoned):
            if exchange.drain_until_ns <= now:
                exchange.stop_draining()
        for tunnel in list(self.tunnels):
            tunnel.sweep(now)
        self._mark(now - self._mark_ns)

    def _mark(self, due_ns: int) -> None:
        """Calls that have been replying for long say how far they are."""
        for connection in self.connections:
            exchange = connection.current
            if exchange is not None:
                exchange.mark(due_ns)
        for exchange in self.abandoned:
            exchange.mark(due_ns)

    async def sweeping(self, extra: Callable[[int], None]) -> None:
        """Sweeps until cancelled; ``extra`` is called with the monotonic time after each sweep."""
        while True:
            await asyncio.sleep(SWEEP_S)
            for work in (lambda now_ns: self.sweep(), extra):
                try:
                    work(self.monotonic_ns())
                except Exception:  # one bad sweep must not end all timeouts
                    _log.exception("a sweep failed")

    def entered(self, connection: Any, ip: str) -> bool:
        """A client connection began; False when there are too many, in all or from its address. ``left`` either way."""
        bounds = self.rules.bounds
        held = self.per_ip.get(ip, 0)
        self.per_ip[ip] = held + 1
        if len(self.connections) >= bounds.max_connections or held >= bounds.max_connections_per_ip:
            return False
        self.connections.add(connection)
        return True

    def left(self, connection: Any, ip: str) -> None:
        """A client connection ended."""
        self.connections.discard(connection)
        if self.per_ip[ip] <= 1:
            del self.per_ip[ip]
        else:
            self.per_ip[ip] -= 1
        self._settle()

    def tunnel_left(self, tunnel: Any) -> None:
        """Both sides of a tunnel ended."""
        self.tunnels.discard(tunnel)
        self._settle()

    def _settle(self) -> None:
        if self.closing and not (self.connections or self.tunnels):
            self._quiet.set()

    async def quiet(self) -> None:
        """Waits until no connection is left, nor the far side of a tunnel; only while ``closing``."""
        if self.connections or self.tunnels:
            await self._quiet.wait()

    def reading(self) -> LaneReading:
        """For metrics."""
        return LaneReading(len(self.connections), len(self.abandoned), self.unbilled)
