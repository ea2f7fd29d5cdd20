"""The gate where limits are shared: takes from what this node holds of them, and else lets the keeper ask.

While the store does not answer, each limit that has nothing in hand does what its ``on_store_error`` says: ``allow``
passes, ``deny`` answers 503, ``local`` passes this node's share of the limit and answers 503 beyond it.
"""

from collections.abc import Sequence

from sidecar.admission.buckets import Buckets, Slots
from sidecar.admission.gate import Demand, Gate, Pending, Rule, Tally, Ticket
from sidecar.admission.keeper import Keeper
from sidecar.admission.leases import Lease
from sidecar.admission.quotas import Hold, Quotas
from sidecar.admission.refusals import Refused
from sidecar.admission.scopes import HeaderOf
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.policy import Limit
from sidecar.core.problems import problem
from sidecar.core.records import BLIND_MARK
from sidecar.core.windows import Window

_ALMOST_S = NS_PER_S - 1
_ROUNDS = 8  # how often others may take what was fetched for a request
UNAVAILABLE = Refused(
    problem(
        "limits_unavailable",
        "The store that counts this limit does not answer; nothing was counted. Try again.",
        headers=(("Retry-After", "1"),),
    )
)


class SharedGate(Gate):
    """Decides for one principal at one route with limits that nodes share."""

    __slots__ = ("_keeper", "_tenant")

    def __init__(
        self,
        demand: Demand,
        clock: Clock,
        buckets: Buckets,
        quotas: Quotas,
        tally: Tally,
        tenant: str,
        keeper: Keeper,
    ) -> None:
        super().__init__(demand, clock, buckets, quotas, tally)
        self._keeper = keeper
        self._tenant = tenant

    def _bucket(self, rule: Rule, now: int, ip: str, header: HeaderOf) -> Window | Slots:
        policy = rule.policy
        if not isinstance(policy, Limit):
            return super()._bucket(rule, now, ip, header)
        return lease_of(self._buckets, rule, policy, self._tenant, now, ip, header)

    def _short(
        self,
        now: int,
        windows: tuple[Window, ...],
        slots: tuple[Slots, ...],
        method: str,
        ip: str,
        header: HeaderOf,
    ) -> Ticket | Refused | Pending:
        units = self._units
        short: list[Lease] = []
        for window in windows:
            assert isinstance(window, Lease)
            if now >= window.next_ns and not window.expire(now):
                self._windows = None
                return self.admit(method, ip, header)
            if window.limit - window.used < units:
                if window.closed(now, units):
                    return self._refuse(now, self._wall_ns(), windows, slots)
                short.append(window)
        if self._keeper.down:
            return self.blind(short, method, ip, header)
        return Waiting(self, short, method, ip, header)

    def blind(self, short: Sequence[Lease], method: str, ip: str, header: HeaderOf) -> Ticket | Refused:
        """Decides without the store about the leases that have nothing in hand."""
        now, units = self._monotonic_ns(), self._units
        policies = self._policies(short, now, ip, header)
        for lease, policy in policies:
            if policy.on_store_error == "deny" or (
                policy.on_store_error == "local" and not _share(lease, policy, now).fits(now, units)
            ):
                self._count_blind(policy.name, "deny")
                return UNAVAILABLE
        for lease, policy in policies:
            self._count_blind(policy.name, policy.on_store_error)
            if policy.on_store_error == "local":
                _share(lease, policy, now).take(now, units)
            lease.lend(now, units)
        ticket = self.admit(method, ip, header)
        if isinstance(ticket, Ticket):
            ticket.marks += BLIND_MARK
            return ticket
        return ticket if isinstance(ticket, Refused) else UNAVAILABLE

    async def fetched(self, short: Sequence[Lease], method: str, ip: str, header: HeaderOf) -> Ticket | Refused:
        """Asks the store and decides."""
        for _ in range(_ROUNDS):
            if not await self._keeper.fetch(short, self._units):
                break
            decided = self.admit(method, ip, header)
            if not isinstance(decided, Waiting):
                assert isinstance(decided, Ticket | Refused)
                return decided
            short = decided.short
        return self.blind(short, method, ip, header)

    def _take(
        self, now: int, wall: int, windows: tuple[Window, ...], slots: tuple[Slots, ...], held: Sequence[Hold]
    ) -> Ticket:
        ticket = super()._take(now, wall, windows, slots, held)
        for window in windows:
            assert isinstance(window, Lease)
            if window.low(now):
                self._keeper.prefetch([window], self._units)
        return ticket

    def _announce(self, now: int, wall: int, windows: tuple[Window, ...], slots: tuple[Slots, ...]) -> bytes:
        values: list[int] = []
        add = values.append
        for rule in self._quotas:
            add(rule.counter.current.length_s)
        for window in windows:
            assert isinstance(window, Lease)
            add(max(0, window.store_left + window.limit - window.used))
            add((max(0, window.reset_at_ns - now) + _ALMOST_S) // NS_PER_S)
        for slot in slots:
            add(max(0, slot.limit - slot.used))
        for rule in self._quotas:
            period = rule.counter.current
            add(max(0, rule.limit - period.used))
            add((period.end_ns - wall + _ALMOST_S) // NS_PER_S)
        return self._headers % tuple(values)

    def _policies(self, short: Sequence[Lease], now: int, ip: str, header: HeaderOf) -> list[tuple[Lease, Limit]]:
        windows = self._windows
        if windows is None:
            windows, _ = self._bind(now, ip, header)
        return [
            (window, rule.policy)
            for rule, window in zip(self._demand.limits, windows, strict=True)
            if isinstance(window, Lease) and isinstance(rule.policy, Limit) and window in short
        ]

    def _count_blind(self, name: str, decided: str) -> None:
        counts = self._tally.blind
        counts[name, decided] = counts.get((name, decided), 0) + 1


class Waiting(Pending):
    """A request for which a gate needs units that are not in hand."""

    __slots__ = ("_gate", "_header", "_ip", "_method", "short")

    def __init__(self, gate: SharedGate, short: Sequence[Lease], method: str, ip: str, header: HeaderOf) -> None:
        self._gate = gate
        self.short = short
        self._method = method
        self._ip = ip
        self._header = header

    async def wait(self) -> Ticket | Refused:
        return await self._gate.fetched(self.short, self._method, self._ip, self._header)


def lease_of(buckets: Buckets, rule: Rule, policy: Limit, tenant: str, now: int, ip: str, header: HeaderOf) -> Lease:
    """The shared counter of ``rule``, whose policy is the limit ``policy``."""
    key, spare = rule.keys(ip, header)
    # A limit across tenants cannot stand on the page of one.
    owner = tenant if "tenant" in policy.scope or "key" in policy.scope else None
    return buckets.lease(key, spare, policy.limit, policy.window_ns, policy.exact, owner, now)


def _share(lease: Lease, policy: Limit, now: int) -> Window:
    """This node's share of the limit while nobody counts for all: at least one unit."""
    if lease.share is None:
        lease.share = Window(max(1, policy.limit * policy.local_share // 100), policy.window_ns, now)
    return lease.share
