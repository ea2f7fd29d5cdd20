"""Policies in shadow mode: asked once the request may pass, counted and reported, never enforced.

Each is judged alone, as if it were the only one beside those that are enforced, and what it would have refused takes
nothing of it. A quota counts what is used all the same: the ledger does, too. Where limits are shared the store is
asked beside the request, which waits for nothing; while the store does not answer, nobody knows what the limit would
have said, and that is counted (``Tally.blind``, decision ``shadow``).

Bound: ``_MOST_ASIDE`` requests of one gate are judged at a time; beyond that they count as not known.
"""

from typing import Final

from sidecar.admission.buckets import Buckets, Slots
from sidecar.admission.budgets import Want
from sidecar.admission.gate import Demand, Gate, Pending, Rule, Tally, Ticket
from sidecar.admission.keeper import Keeper
from sidecar.admission.leases import Lease
from sidecar.admission.places import SharedSlots
from sidecar.admission.quotas import Hold, Quotas
from sidecar.admission.refusals import PolicyUse, Refused
from sidecar.admission.scopes import HeaderOf
from sidecar.admission.shared import shared_bucket
from sidecar.core.clock import Clock
from sidecar.core.records import shadow_mark
from sidecar.core.windows import Window

_ROUNDS: Final = 8  # how often others may take what was fetched for a request
_MOST_ASIDE: Final = 256


class ShadowGate(Gate):
    """Lets ``enforced`` decide; its own ``demand`` is what is in shadow mode. ``keeper`` None: limits are counted in
    process."""

    __slots__ = ("_aside", "_enforced", "_keeper", "_tenant")

    def __init__(
        self,
        enforced: Gate,
        demand: Demand,
        clock: Clock,
        buckets: Buckets,
        quotas: Quotas,
        tally: Tally,
        tenant: str,
        keeper: Keeper | None,
    ) -> None:
        super().__init__(demand, clock, buckets, quotas, tally)
        self._enforced = enforced
        self._tenant = tenant
        self._keeper = keeper
        self._aside = 0

    def admit(self, method: str, ip: str, header: HeaderOf) -> Ticket | Refused | Pending:
        """As the enforcing gate; what passes is then shown to the policies in shadow mode."""
        decided = self._enforced.admit(method, ip, header)
        if isinstance(decided, Ticket):
            self.watch(decided, ip, header)
        elif isinstance(decided, Pending):
            return Watched(self, decided, ip, header)
        return decided

    def uses(self) -> list[tuple[int, PolicyUse]]:
        """Those of the enforcing gate, and those in shadow mode."""
        return [*self._enforced.uses(), *super().uses()]

    def watch(self, ticket: Ticket, ip: str, header: HeaderOf) -> None:
        """Judges a request that passes."""
        now = self._monotonic_ns()
        windows, slots = self._windows, self._slots
        if windows is None or any(window.limit < 0 for window in windows) or any(slot.limit < 0 for slot in slots):
            windows, slots = self._bind(now, ip, header)
        for rule, window in zip(self._demand.limits, windows, strict=True):
            if window.fits(now, self._units):
                window.take(now, self._units)
                if isinstance(window, Lease) and self._keeper is not None and window.low(now):
                    self._keeper.prefetch([window], self._units)
            elif isinstance(window, Lease) and not window.closed(now, self._units):
                self._ask(rule.policy.name, window, ticket)
            else:
                self._note(rule.policy.name, ticket)
        places: list[Slots] = []
        for rule, slot in zip(self._demand.concurrency, slots, strict=True):
            if now >= slot.lapse_ns:
                slot.lapse(now)
            if slot.used < slot.limit:
                slot.used += 1
                places.append(slot)
            elif isinstance(slot, SharedSlots) and not slot.full(now):
                self._ask(rule.policy.name, slot, ticket)
            else:
                self._note(rule.policy.name, ticket)
        if places or self._quotas:
            ticket.also(tuple(places), self._hold(ticket, now))

    def _bucket(self, rule: Rule, now: int, ip: str, header: HeaderOf) -> Window | Slots:
        if self._keeper is None:
            return super()._bucket(rule, now, ip, header)
        return shared_bucket(self._buckets, rule, self._tenant, self._keeper, now, ip, header)

    def _hold(self, ticket: Ticket, now: int) -> list[Hold]:
        wall = self._wall_ns()
        held: list[Hold] = []
        for rule in self._quotas:
            period = self._turn(rule, wall, now)
            # A quota on the counter of an enforced one finds this request's hold there.
            counted = 0 if rule.counts else rule.hold
            if rule.block and period.used - counted + rule.needs > rule.limit:
                self._note(rule.quota.name, ticket)
            if rule.counts:
                period.hold(rule.hold)
                held.append((period, rule.meter, rule.hold))
        return held

    def _ask(self, name: str, counter: Lease | SharedSlots, ticket: Ticket) -> None:
        keeper = self._keeper
        if keeper is None or keeper.down or self._aside >= _MOST_ASIDE:
            self._unknown(name)
            return
        self._aside += 1
        keeper.beside(self._judge(keeper, name, counter, ticket))

    async def _judge(self, keeper: Keeper, name: str, counter: Lease | SharedSlots, ticket: Ticket) -> None:
        try:
            for _ in range(_ROUNDS):
                verdict = await (
                    self._has_units(keeper, counter)
                    if isinstance(counter, Lease)
                    else self._has_place(keeper, counter, ticket)
                )
                if verdict is None:
                    continue
                if not verdict:
                    self._note(name, ticket)
                return
        except _Unanswered:
            pass
        finally:
            self._aside -= 1
        self._unknown(name)

    async def _has_units(self, keeper: Keeper, lease: Lease) -> bool | None:
        """Whether the limit lets the request pass, which then takes its units; None: others took what was fetched."""
        if not await keeper.fetch([lease], self._units):
            raise _Unanswered
        now = self._monotonic_ns()
        if lease.fits(now, self._units):
            lease.take(now, self._units)
            return True
        return False if lease.closed(now, self._units) else None

    async def _has_place(self, keeper: Keeper, slot: SharedSlots, ticket: Ticket) -> bool | None:
        """The same of a concurrency limit. A request that has ended meanwhile leaves its place in hand."""
        if not await keeper.fetch([], self._units, (Want(slot.places, slot.ceiling, 1, 1),)):
            raise _Unanswered
        if slot.used < slot.limit:
            if ticket.open:
                slot.used += 1
                ticket.also((slot,), ())
            return True
        return False if slot.full(self._monotonic_ns()) else None

    def _note(self, name: str, ticket: Ticket) -> None:
        """Its mark comes too late for the record of a call that has ended by then; the count does not."""
        counts = self._tally.shadow_refused
        counts[name] = counts.get(name, 0) + 1
        ticket.marks += shadow_mark(name)

    def _unknown(self, name: str) -> None:
        counts = self._tally.blind
        counts[name, "shadow"] = counts.get((name, "shadow"), 0) + 1


class _Unanswered(Exception):
    """The store did not answer."""


class Watched(Pending):
    """A decision for which the store must be asked first, and which is to be watched."""

    __slots__ = ("_gate", "_header", "_ip", "_pending")

    def __init__(self, gate: ShadowGate, pending: Pending, ip: str, header: HeaderOf) -> None:
        self._gate = gate
        self._pending = pending
        self._ip = ip
        self._header = header

    async def wait(self) -> Ticket | Refused:
        decided = await self._pending.wait()
        if isinstance(decided, Ticket):
            self._gate.watch(decided, self._ip, self._header)
        return decided
