"""The room: every counter of this process, and the seats and gates made from the policy snapshot."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from weakref import WeakSet

from sidecar.admission.buckets import Buckets
from sidecar.admission.budgets import SharedPeriod
from sidecar.admission.compile import anonymous_demand, demand, money_plan, plan_of, quota_keys
from sidecar.admission.explaining import Asker, Check, Explanation, checks_of, explain
from sidecar.admission.gate import Demand, Gate, Tally
from sidecar.admission.keeper import Keeper
from sidecar.admission.pressure import Pressure
from sidecar.admission.purses import Money, SharedSpend
from sidecar.admission.quotas import MeterTotal, Period, QuotaKey, Quotas
from sidecar.admission.refusals import PolicyUse, Refused
from sidecar.admission.shadow import ShadowGate
from sidecar.admission.shared import SharedGate
from sidecar.admission.spending import SpendGate, SpendReader, SpendRule, Spends, look_at_money, spend_rule, wanted
from sidecar.admission.thresholds import Tell, Thresholds
from sidecar.core.clock import NS_PER_US, Clock
from sidecar.core.policy import Route, Snapshot
from sidecar.core.ports import LimitStore
from sidecar.core.spend import SpendTerms
from sidecar.core.values import Principal


@dataclass(frozen=True, slots=True)
class Readings:
    """Counts since the start, and sizes now. ``admitted_units`` by plan; ``refused`` by (plan, policy name): both have
    as many keys as the configurations loaded so far have plans and policies. ``quota_blind``: requests decided before
    what was used earlier could be read. ``overflows``: look-ups that ended at a shared counter. ``blind``: decisions
    without the store of shared limits, by (plan, limit, allow | deny | local | shadow); ``store_calls`` and
    ``store_failures``: calls of that store. ``shadow_refused``: what policies in shadow mode would have refused, by
    (plan, policy name). ``thresholds``: shares of quotas that tenants reached and that were told
    here first, by (plan, quota, percent).
    """

    buckets: int
    max_buckets: int
    overflows: int
    evictions: int
    quota_counters: int
    quota_blind: int
    admitted_units: dict[str, int]
    refused: dict[tuple[str, str], int]
    blind: dict[tuple[str, str, str], int] = field(default_factory=dict)
    store_calls: int = 0
    store_failures: int = 0
    shadow_refused: dict[tuple[str, str], int] = field(default_factory=dict)
    thresholds: dict[tuple[str, str, int], int] = field(default_factory=dict)


class Seat:
    """A principal's place in the room: its gates, by route. Cheap to keep for as long as the principal is valid."""

    __slots__ = ("__weakref__", "_gates", "_room", "_snapshot", "principal")

    def __init__(self, room: "Admission", principal: Principal) -> None:
        self.principal = principal
        self._room = room
        self._snapshot: Snapshot | None = None
        self._gates: dict[str, Gate] = {}

    def gate(self, route: Route) -> Gate:
        """The gate at ``route``, compiled at first use and again after a reload."""
        room = self._room
        if self._snapshot is not room.snapshot:
            self._snapshot = room.snapshot
            self._gates = {}
        gate = self._gates.get(route.name)
        if gate is None or gate.route is not route:
            gate = self._gates[route.name] = room.compile(self.principal, route)
        return gate

    def renew(self) -> None:
        """Lets go of the gates, and with them of the snapshot they were compiled from."""
        self._snapshot = None
        self._gates = {}

    def gates(self) -> list[Gate]:
        """The gates compiled so far from the current snapshot."""
        return list(self._gates.values()) if self._snapshot is self._room.snapshot else []


class Admission:
    """Local admission: limits, concurrency and quotas, decided in process.

    ``limit_store``: who counts limits and quotas that nodes share; None: they are counted in process. ``late``: whether
    the ledger does not take what this process used at the moment. ``tell``: who is told of shares of quotas that
    tenants reach, by the task ``thresholds.run``; None: nobody.
    ``spent``: reads an account in money from the ledger; None: calls are not counted in money.
    ``meter_total(tenant, meter, since_us, until_us, sandbox)`` sums the ledger over Unix microseconds [since, until).
    Bounds: ``max_buckets`` windows and concurrency counters (see ``buckets``), ``max_quotas`` quota counters (see
    ``quotas``); gates live with their seats, which belong to the caller.
    """

    def __init__(
        self,
        clock: Clock,
        meter_total: MeterTotal,
        *,
        limit_store: LimitStore | None = None,
        tell: Tell | None = None,
        spent: SpendReader | None = None,
        max_buckets: int = 1_000_000,
        max_quotas: int = 1_000_000,
        late: Callable[[], bool] = lambda: False,
    ) -> None:
        self.keeper = None if limit_store is None else Keeper(limit_store, clock, self._ledger_total, late)
        self._meter_total = meter_total
        self.snapshot = Snapshot()
        self._clock = clock
        self._buckets = Buckets(max_buckets)
        self._pressure = Pressure(self._buckets)
        self._quotas = Quotas(clock, meter_total, max_quotas, None if self.keeper is None else self._share)
        self.thresholds = None if tell is None else Thresholds(clock, meter_total, tell)
        share = None if self.keeper is None else self._share_spend
        self._spends = None if spent is None else Spends(clock, spent, share)
        self._tallies: dict[str, Tally] = {}
        self._seats: WeakSet[Seat] = WeakSet()
        self._anonymous: dict[str, Gate] = {}

    def load(self, snapshot: Snapshot) -> None:
        """Takes a new snapshot. Every counter lives on; seats compile their gates anew at the next request.

        A quota that this adds to tenants already seated is read in the background; until then it counts but does not
        know what was used before (``Readings.quota_blind``).
        """
        self.snapshot = snapshot
        self._anonymous = {}
        if self.thresholds is not None:
            self.thresholds.forget()

    async def seat(self, principal: Principal) -> Seat:
        """A seat for ``principal``, once what its quotas used so far is known. StoreError when that cannot be read."""
        await self._quotas.ready(quota_keys(plan_of(self.snapshot, principal), principal))
        plan = None if self._spends is None else money_plan(self.snapshot, principal)
        asked = None if plan is None else wanted(plan, principal)
        if self._spends is not None and asked is not None:
            await self._spends.ready(principal.tenant, asked)
        seat = Seat(self, principal)
        self._seats.add(seat)
        return seat

    def anonymous(self, route: Route) -> Gate:
        """The gate of callers without identity, for ``auth: none`` routes."""
        gate = self._anonymous.get(route.name)
        if gate is None or gate.route is not route:
            gate = self._anonymous[route.name] = self._gate(anonymous_demand(self.snapshot, route), "")
        return gate

    def compile(self, principal: Principal, route: Route) -> Gate:
        """A new gate from the current snapshot. Callers use ``Seat.gate``, which keeps it."""
        snapshot = self.snapshot
        needed = demand(snapshot, principal, route, self._quotas)
        if self.thresholds is not None:
            for rule in needed.quotas:
                self.thresholds.watch(needed.plan, rule)
        money = None if needed.barred is not None else self._money(snapshot, principal, route)
        if isinstance(money, Money):
            return self._gate(replace(needed, money=money), principal.tenant)
        gate = self._gate(needed, principal.tenant)
        if money is None or self._spends is None:
            return gate
        return SpendGate(gate, money, needed, self._clock, self._spends)

    def _money(self, snapshot: Snapshot, principal: Principal, route: Route) -> SpendRule | Money | None:
        plan = None if self._spends is None else money_plan(snapshot, principal)
        if self._spends is None or plan is None:
            return None
        return spend_rule(
            self._spends, principal, plan, route, snapshot.meters, snapshot.settings.billing.access.pay_url
        )

    async def explain(self, principal: Principal | None, route: Route, asker: Asker) -> Explanation:
        """What a request would be answered now, and how every policy stands that it meets; nothing is consumed.

        ``principal`` None: a caller without identity. StoreError when what quotas used cannot be read.
        """
        if principal is None:
            plan = None if route.plan is None else self.snapshot.plans.get(route.plan)
            gate = self._gate(anonymous_demand(self.snapshot, route), "")
            return Explanation(plan, (), *await explain(gate, asker, self.keeper))
        found, barred = checks_of(self.snapshot, principal, route, asker.method)
        owned = plan_of(self.snapshot, principal)
        if isinstance(owned, Refused):
            return Explanation(None, tuple(found), (), barred)
        gate = (await self.seat(principal)).gate(route)
        looked = await look_at_money(gate, self.keeper)
        if looked is not None:
            says, refused = looked
            found.append(Check("budget", says, None if refused is None else refused.problem.code))
            barred, gate = barred or refused, gate.inner if isinstance(gate, SpendGate) else gate
        standings, answer, there = await explain(gate, asker, self.keeper)
        return Explanation(owned, tuple(found), standings, barred or answer, there)

    def usage_of(self, tenant: str) -> list[PolicyUse]:
        """How the policies stand that this tenant's live seats have met; counters per address or header are left out.

        Walks all seats: for people, not for every request.
        """
        found: dict[int, PolicyUse] = {}
        for seat in list(self._seats):
            if seat.principal.tenant == tenant:
                for gate in seat.gates():
                    found.update(gate.uses())
        return sorted(found.values(), key=lambda use: (use.sandbox, use.plan, use.kind, use.name, use.scope))

    def readings(self) -> Readings:
        """What the metrics show."""
        tallies = self._tallies.items()
        return Readings(
            buckets=len(self._buckets),
            max_buckets=self._buckets.max_buckets,
            overflows=self._buckets.overflows,
            evictions=self._buckets.evictions,
            quota_counters=len(self._quotas),
            quota_blind=self._quotas.blind,
            admitted_units={plan: tally.units for plan, tally in tallies},
            refused={(plan, name): count for plan, tally in tallies for name, count in tally.refused.items()},
            blind={(plan, *what): count for plan, tally in tallies for what, count in tally.blind.items()},
            store_calls=0 if self.keeper is None else self.keeper.calls,
            store_failures=0 if self.keeper is None else self.keeper.failures,
            shadow_refused={
                (plan, name): count for plan, tally in tallies for name, count in tally.shadow_refused.items()
            },
            thresholds={} if self.thresholds is None else dict(self.thresholds.told),
        )

    def sweep(self, now: int) -> None:
        """To be called now and then, with the monotonic time: says what had to be given up."""
        self._pressure.look(now)

    async def close(self) -> None:
        """Stops background reads and gives back what is leased; counters are forgotten with the process."""
        if self.keeper is not None:
            await self.keeper.close()
        if self._spends is not None:
            await self._spends.close()
        await self._quotas.close()

    def _share(self, key: QuotaKey, start_ns: int, end_ns: int) -> Period:
        assert self.keeper is not None
        return SharedPeriod(key, start_ns, end_ns, self._buckets.page(key.tenant), self.keeper.active)

    def _share_spend(self, terms: SpendTerms, tenant: str) -> SharedSpend:
        assert self.keeper is not None
        page = self._buckets.page(tenant)
        return SharedSpend(terms, tenant, page, self.keeper.active, self._clock.wall_ns())

    async def _ledger_total(self, period: SharedPeriod) -> int:
        key, start, end = period.key, period.start_ns // NS_PER_US, period.close_ns // NS_PER_US
        return await self._meter_total(key.tenant, key.meter, start, end, key.sandbox)

    def _gate(self, needed: Demand, tenant: str) -> Gate:
        tally = self._tallies.setdefault(needed.plan, Tally())
        parts = self._clock, self._buckets, self._quotas, tally
        keeper, shadow = self.keeper, needed.shadow
        gate = Gate(needed, *parts) if keeper is None else SharedGate(needed, *parts, tenant, keeper)
        return gate if shadow is None else ShadowGate(gate, shadow, *parts, tenant, keeper)
