"""The gate where limits and quotas are shared: takes from what this node holds, and else lets the keeper ask.

While the store does not answer, each limit and each quota that has nothing in hand does what its ``on_store_error``
says: ``allow`` passes, ``deny`` answers 503, ``local`` passes this node's share of the limit and answers 503 beyond it.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from sidecar.admission.buckets import Buckets, Slots
from sidecar.admission.budgets import SharedPeriod, Want
from sidecar.admission.gate import Demand, Gate, Pending, Rule, Tally, Ticket
from sidecar.admission.keeper import Keeper
from sidecar.admission.leases import Lease
from sidecar.admission.places import SharedSlots
from sidecar.admission.quotas import Hold, QuotaRule, Quotas
from sidecar.admission.refusals import UNREADABLE, Refused
from sidecar.admission.scopes import HeaderOf
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import StoreError
from sidecar.core.policy import Concurrency, Limit
from sidecar.core.problems import passing_problem
from sidecar.core.records import BLIND_MARK
from sidecar.core.spend import CAPPED, PASSES
from sidecar.core.windows import Window

_ALMOST_S: Final = NS_PER_S - 1
_ROUNDS = 8  # how often others may take what was fetched for a request
_Short: TypeAlias = tuple[list[Lease], list[Want]]  # what there is too little in hand of
UNAVAILABLE = Refused(
    passing_problem(
        "limits_unavailable", "The store that counts this limit does not answer; nothing was counted. Try again."
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
        return shared_bucket(self._buckets, rule, self._tenant, self._keeper, now, ip, header)

    def _short(
        self,
        now: int,
        wall: int,
        windows: tuple[Window, ...],
        slots: tuple[Slots, ...],
        method: str,
        ip: str,
        header: HeaderOf,
    ) -> Ticket | Refused | Pending:
        units = self._units
        paid = self._pay(now, wall)
        if isinstance(paid, Refused):
            return paid
        if paid is None:
            assert self._demand.money is not None
            return Unread(self, self._demand.money.read, method, ip, header)
        leases: list[Lease] = []
        for window in windows:
            assert isinstance(window, Lease)
            if now >= window.next_ns and not window.expire(now):
                self._windows = None
                return self.admit(method, ip, header)
            if window.limit - window.used < units:
                if window.closed(now, units):
                    return self._refuse(now, wall, windows, slots)
                leases.append(window)
        wants = paid
        for slot in slots:
            assert isinstance(slot, SharedSlots)
            if slot.full(now):
                return self._refuse(now, wall, windows, slots)
            if slot.used >= slot.limit:
                wants.append(Want(slot.places, slot.ceiling, 1, 1))
        for rule in self._quotas:
            if rule.block and not self._add_want(wants, rule, now, wall):
                return self._refuse(now, wall, windows, slots)
        if self._keeper.down:
            return self.blind((leases, wants), method, ip, header)
        return Waiting(self, (leases, wants), method, ip, header)

    def _pay(self, now: int, wall: int) -> list[Want] | Refused | None:
        """What the budget in money needs from the store, if anything; its refusal; None: it has to be read first."""
        money = self._demand.money
        if money is None or not money.asks or all(self._has(rule, wall, now) for rule in money.rules):
            return []
        if not money.spend.ready:
            return None
        verdict = money.verdict(now)
        if verdict == PASSES:
            return money.wants()
        self._tally.refuse("spend_cap" if verdict == CAPPED else "credits")
        return money.refusal(verdict, wall, self._demand.upgrade)

    def _has(self, rule: QuotaRule, wall: int, now: int) -> bool:
        """Whether what a request holds is in hand, or all that there is to be had."""
        period = self._turn(rule, wall, now)
        left = min(rule.limit - period.used, period.room)
        return left >= rule.needs or (left >= rule.least and period.dry)

    def _add_want(self, wants: list[Want], rule: QuotaRule, now: int, wall: int) -> bool:
        """Notes what the quota needs from the store, if that. False when it is known to refuse."""
        if self._has(rule, wall, now):
            return True
        period = rule.counter.current
        assert isinstance(period, SharedPeriod)
        if rule.least > rule.limit or period.closed(now, rule.limit, rule.least):
            return False
        want = Want(period, rule.limit, rule.hold, rule.least)
        for i, other in enumerate(wants):
            if other.period is period:  # two quotas on one counter: the tighter one asks for both
                wants[i] = min(want, other, key=_limit_of)
                return True
        wants.append(want)
        return True

    def blind(self, short: _Short, method: str, ip: str, header: HeaderOf) -> Ticket | Refused:
        """Decides without the store about what has nothing in hand."""
        now, units = self._monotonic_ns(), self._units
        leases, wants = short
        policies = self._policies(leases, now, ip, header)
        quotas = [(want.period, rule) for want in wants for rule in self._asked if _is_of(rule, want)]
        places = self._concurrency(wants, now, ip, header)
        for lease, policy in policies:
            if policy.on_store_error == "deny" or (
                policy.on_store_error == "local" and not _share(lease, policy, now).fits(now, units)
            ):
                return self._deny(policy.name)
        for slot, limit in places:
            if not seats(slot, limit):
                return self._deny(limit.name)
        for period, rule in quotas:
            if not lends(period, rule):
                return self._deny(rule.quota.name)
        for lease, policy in policies:
            self._count_blind(policy.name, policy.on_store_error)
            if policy.on_store_error == "local":
                _share(lease, policy, now).take(now, units)
            lease.lend(now, units)
        for slot, limit in places:
            self._count_blind(limit.name, limit.on_store_error)
            slot.lend()
        for period, rule in quotas:
            self._count_blind(rule.quota.name, rule.quota.on_store_error)
            period.lend(min(rule.needs, rule.limit - period.used))
        ticket = self.admit(method, ip, header)
        if isinstance(ticket, Ticket):
            ticket.marks += BLIND_MARK
            return ticket
        return ticket if isinstance(ticket, Refused) else UNAVAILABLE

    def _deny(self, name: str) -> Refused:
        self._count_blind(name, "deny")
        return UNAVAILABLE

    async def fetched(self, short: _Short, method: str, ip: str, header: HeaderOf) -> Ticket | Refused:
        """Asks the store and decides."""
        for _ in range(_ROUNDS):
            leases, wants = short
            if not await self._keeper.fetch(leases, self._units, wants):
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
        for rule in self._asked:
            period = rule.counter.current
            if rule.block and isinstance(period, SharedPeriod) and period.low(now):
                self._keeper.aside(Want(period, rule.limit, rule.hold, rule.least, rule.open))
        return ticket

    def _announce(self, now: int, wall: int, windows: tuple[Window, ...], slots: tuple[Slots, ...]) -> bytes:
        values: list[int] = []
        for rule in self._quotas:
            values.append(rule.counter.current.length_s)
        for window in windows:
            assert isinstance(window, Lease)
            values.append(max(0, window.store_left + window.limit - window.used))
            values.append((max(0, window.reset_at_ns - now) + _ALMOST_S) // NS_PER_S)
        for slot in slots:
            values.append(slot.left())
        for rule in self._quotas:
            period = rule.counter.current
            values.append(max(0, rule.limit - period.used))
            values.append((period.end_ns - wall + _ALMOST_S) // NS_PER_S)
        return self._announcement.filled(values)

    def _policies(self, short: Sequence[Lease], now: int, ip: str, header: HeaderOf) -> list[tuple[Lease, Limit]]:
        windows = self._windows
        if windows is None:
            windows, _ = self._bind(now, ip, header)
        return [
            (window, rule.policy)
            for rule, window in zip(self._demand.limits, windows, strict=True)
            if isinstance(window, Lease) and isinstance(rule.policy, Limit) and window in short
        ]

    def _concurrency(
        self, wants: Sequence[Want], now: int, ip: str, header: HeaderOf
    ) -> list[tuple[SharedSlots, Concurrency]]:
        slots = self._slots if self._windows is not None else self._bind(now, ip, header)[1]
        return [
            (slot, rule.policy)
            for rule, slot in zip(self._demand.concurrency, slots, strict=True)
            if isinstance(slot, SharedSlots)
            and isinstance(rule.policy, Concurrency)
            and any(want.period is slot.places for want in wants)
        ]

    def _count_blind(self, name: str, decided: str) -> None:
        counts = self._tally.blind
        counts[name, decided] = counts.get((name, decided), 0) + 1


class Waiting(Pending):
    """A request for which a gate needs units that are not in hand."""

    __slots__ = ("_gate", "_header", "_ip", "_method", "short")

    def __init__(self, gate: SharedGate, short: _Short, method: str, ip: str, header: HeaderOf) -> None:
        self._gate = gate
        self.short = short
        self._method = method
        self._ip = ip
        self._header = header

    async def wait(self) -> Ticket | Refused:
        return await self._gate.fetched(self.short, self._method, self._ip, self._header)


class Unread(Pending):
    """A request for which an account in money has to be read first. ``read`` does: StoreError."""

    __slots__ = ("_asked", "_gate", "_read")

    def __init__(self, gate: Gate, read: Callable[[], Awaitable[None]], *asked: Any) -> None:
        self._gate = gate
        self._read = read
        self._asked = asked

    async def wait(self) -> Ticket | Refused:
        try:
            await self._read()
        except StoreError:
            return UNREADABLE
        decided = self._gate.admit(*self._asked)
        return await decided.wait() if isinstance(decided, Pending) else decided


def shared_bucket(
    buckets: Buckets, rule: Rule, tenant: str, keeper: Keeper, now: int, ip: str, header: HeaderOf
) -> Lease | SharedSlots:
    """The counter of ``rule`` that nodes share."""
    key, spare = rule.keys(ip, header)
    policy, owner = rule.policy, owner_of(rule.policy.scope, tenant)
    if isinstance(policy, Limit):
        return buckets.lease(key, spare, policy.limit, policy.window_ns, policy.exact, owner, now)
    return buckets.shared_slots(key, spare, policy.limit, owner, keeper.active, now)


def owner_of(scope: Sequence[str], tenant: str) -> str | None:
    """The tenant on whose page a counter stands; None: a limit across tenants cannot stand on the page of one."""
    return tenant if "tenant" in scope or "key" in scope else None


def _share(lease: Lease, policy: Limit, now: int) -> Window:
    """This node's share of the limit while nobody counts for all: at least one unit."""
    if lease.share is None:
        lease.share = Window(max(1, policy.limit * policy.local_share // 100), policy.window_ns, now)
    return lease.share


def _limit_of(want: Want) -> int:
    return want.limit


def _is_of(rule: QuotaRule, want: Want) -> bool:
    return rule.block and rule.counter.current is want.period and rule.limit == want.limit


def seats(slot: SharedSlots, limit: Concurrency) -> bool:
    """Whether a request may be in flight without the store."""
    if limit.on_store_error == "local":
        return slot.used < max(1, limit.limit * limit.local_share // 100)
    return limit.on_store_error == "allow"


def lends(period: SharedPeriod, rule: QuotaRule) -> bool:
    """Whether the quota lets a request pass without its store: never beyond what is known to be used."""
    quota = rule.quota
    if quota.on_store_error == "deny" or rule.limit - period.used < rule.least:
        return False
    share = max(1, quota.limit * quota.local_share // 100)
    return quota.on_store_error == "allow" or period.blind_used + rule.needs <= share
