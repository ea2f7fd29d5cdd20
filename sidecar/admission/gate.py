"""The gate: one principal at one route. ``admit`` is the hot path: synchronous, no I/O, no allocation but the ticket.

All windows, all concurrency limits and all quotas are one decision: first everything is asked, then everything is
taken. Nothing can happen in between, because nothing awaits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from sidecar.admission.buckets import Buckets, Slots
from sidecar.admission.fields import Announcement, pairs
from sidecar.admission.purses import Money
from sidecar.admission.quotas import Hold, Period, QuotaRule, Quotas, settle
from sidecar.admission.refusals import PolicyUse, Refused, Violation, exceeded, seconds
from sidecar.admission.scopes import HeaderOf, Key, fill, is_bounded, is_dynamic, overflow
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.policy import Concurrency, Limit, Quota, Route
from sidecar.core.spend import SpendUse
from sidecar.core.units import format_duration_ns
from sidecar.core.values import SAFE_METHODS
from sidecar.core.windows import Window

_ALMOST_S: Final = NS_PER_S - 1  # added before a division that rounds up
_SAFE: Final = SAFE_METHODS
_CONCURRENCY_RETRY_S = 1  # nobody knows when a request will end
_Bound: TypeAlias = tuple[tuple[Window, ...], tuple[Slots, ...]]


@dataclass(slots=True)
class Tally:
    """What happened under one plan: units admitted, refusals by policy name, which come from the configuration,
    decisions without the store by policy name and what was decided, and, by policy name, what those in shadow mode
    would have refused."""

    units: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    blind: dict[tuple[str, str], int] = field(default_factory=dict)
    shadow_refused: dict[str, int] = field(default_factory=dict)

    def refuse(self, name: str) -> None:
        self.refused[name] = self.refused.get(name, 0) + 1


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit or a concurrency limit, with its counter's key as far as it is known before a request."""

    policy: Limit | Concurrency
    prefix: tuple[Any, ...]
    values: list[Any]

    def keys(self, ip: str, header: HeaderOf) -> tuple[Key, Key | None]:
        """The counter's key and that of the overflow, None when there is none."""
        scope = self.policy.scope
        values = fill(scope, self.values, ip, header) if is_dynamic(scope) else self.values
        spare = None if is_bounded(scope) else (self.prefix, *overflow(scope, values))
        return (self.prefix, *values), spare


class Ticket:
    """Passage for one request. ``headers``: complete field lines for the reply, each ended by CRLF, or empty.
    ``marks``: what the usage record says about the decision (core.records), empty for nothing.

    Only the first of ``settle`` and ``release`` counts; a ticket without either keeps its place in flight and holds.
    """

    __slots__ = ("_held", "_slots", "headers", "marks", "spend", "units")

    def __init__(self, headers: bytes, units: int, slots: tuple[Slots, ...], held: Sequence[Hold]) -> None:
        self.marks = b""
        self.headers = headers
        self.units = units
        self._slots: tuple[Slots, ...] | None = slots
        self.spend: SpendUse | None = None
        self._held = held

    @property
    def open(self) -> bool:
        """Whether the request is still under way."""
        return self._slots is not None

    def settle(self, meter_values: Mapping[str, int]) -> None:
        """At the request's end: replaces what was held of each quota by the meters' values (none: all of it goes back)
        and frees its place in flight. The quota's period is that of the admission."""
        slots = self._slots
        if slots is None:
            return
        self._slots = None
        for slot in slots:
            slot.used -= 1
        settle(self._held, meter_values)
        self._held = ()
        if self.spend is not None:
            self.spend.end(meter_values)

    def also(self, slots: tuple[Slots, ...], held: Sequence[Hold]) -> None:
        """Takes charge of more places and holds, which their owner has counted; before the ticket is settled."""
        assert self._slots is not None
        self._slots = (*self._slots, *slots)
        self._held = (*self._held, *held)

    def release(self) -> None:
        """For a request that was never forwarded: gives back quota and place. Units of windows stay taken."""
        self.settle({})


class Pending:
    """A decision for which the store of shared limits must be asked first."""

    async def wait(self) -> Ticket | Refused:
        """Asks, and decides; StoreError never comes out of it. Not called twice."""
        raise AssertionError("shared limits make their own")


@dataclass(frozen=True, slots=True)
class Demand:
    """What a gate asks, compiled from the snapshot. ``barred`` refuses every method, ``barred_writes`` unsafe ones.

    ``shadow``: the policies in shadow mode, None when there are none. ``money``: a budget in money that nodes share; by
    itself a process counts it in another gate."""

    route: Route
    plan: str = ""
    sandbox: bool = False
    upgrade: str | None = None
    barred: Refused | None = None
    barred_writes: Refused | None = None
    limits: tuple[Rule, ...] = ()
    concurrency: tuple[Rule, ...] = ()
    quotas: tuple[QuotaRule, ...] = ()
    shadow: "Demand | None" = None
    money: Money | None = None


class Gate:
    """Decides for one principal, or for anonymous callers, at one route."""

    __slots__ = (
        "_announcement",
        "_asked",
        "_barred",
        "_buckets",
        "_demand",
        "_dynamic",
        "_guarded",
        "_holds",
        "_monotonic_ns",
        "_quota_book",
        "_quotas",
        "_slots",
        "_tally",
        "_units",
        "_wall_ns",
        "_windows",
        "route",
    )

    def __init__(self, demand: Demand, clock: Clock, buckets: Buckets, quotas: Quotas, tally: Tally) -> None:
        self.route = demand.route
        self._demand = demand
        self._monotonic_ns: Callable[[], int] = clock.monotonic_ns
        self._wall_ns: Callable[[], int] = clock.wall_ns
        self._buckets = buckets
        self._quota_book = quotas
        self._tally = tally
        self._units = demand.route.units
        self._quotas = demand.quotas
        self._asked = demand.quotas if demand.money is None else (*demand.quotas, *demand.money.rules)
        self._guarded = demand.barred is not None or demand.barred_writes is not None
        self._dynamic = any(is_dynamic(rule.policy.scope) for rule in (*demand.limits, *demand.concurrency))
        self._windows: tuple[Window, ...] | None = None  # None: to be looked up
        self._slots: tuple[Slots, ...] = ()
        self._announcement = Announcement(
            tuple(rule.policy for rule in demand.limits if isinstance(rule.policy, Limit)),
            tuple(rule.policy for rule in demand.concurrency if isinstance(rule.policy, Concurrency)),
            tuple(rule.quota for rule in demand.quotas),
        )

    def admit(self, method: str, ip: str, header: HeaderOf) -> "Ticket | Refused | Pending":
        """Takes everything that this request needs, or nothing.

        Pending only where limits are shared and the store must be asked; ``wait`` then gives one of the others.
        ``header`` gives the value of a request header by its lower-case name, None when there is none; it is asked only
        for limits with a ``header:`` scope.
        """
        if self._guarded:
            demand = self._demand
            if demand.barred is not None:
                return demand.barred
            if demand.barred_writes is not None and method not in _SAFE:
                return demand.barred_writes
        now = self._monotonic_ns()
        windows = self._windows
        slots = self._slots
        if windows is None:
            windows, slots = self._bind(now, ip, header)
        units = self._units
        for window in windows:
            if now >= window.next_ns and not window.expire(now):
                self._windows = None
                return self.admit(method, ip, header)
            if window.used + units > window.limit:
                return self._short(now, self._wall_ns(), windows, slots, method, ip, header)
        for slot in slots:
            if slot.used >= slot.limit or now >= slot.lapse_ns:
                if slot.limit < 0:
                    self._windows = None
                    return self.admit(method, ip, header)
                if now >= slot.lapse_ns:
                    slot.lapse(now)
                if slot.used >= slot.limit:
                    return self._short(now, self._wall_ns(), windows, slots, method, ip, header)
        if not self._asked:
            return self._take(now, 0, windows, slots, ())
        wall = self._wall_ns()
        held: list[Hold] = []
        for rule in self._asked:
            counter = rule.counter
            period = counter.current
            if wall >= period.end_ns or wall < period.start_ns or not counter.ready or now >= period.lapse_ns:
                period = self._turn(rule, wall, now)
            amount = rule.hold
            if rule.block:
                left = rule.limit - period.used
                if period.room < left:
                    left = period.room
                if left < rule.needs:
                    if left < rule.least or not period.dry:
                        return self._short(now, wall, windows, slots, method, ip, header)
                    amount = left  # an estimate shrinks to what is left
            if rule.counts:
                held.append((period, rule.meter, amount))
        return self._take(now, wall, windows, slots, held)

    def uses(self) -> list[tuple[int, PolicyUse]]:
        """How each policy stands whose counter does not depend on the single request, with its counter's identity."""
        now = self._monotonic_ns()
        found: list[tuple[int, PolicyUse]] = []
        for rule in (*self._demand.limits, *self._demand.concurrency):
            if not is_dynamic(rule.policy.scope):
                bucket = self._bucket(rule, now, "", _no_header)
                found.append((id(bucket), self._bucket_use(rule, bucket, now)))
        wall = self._wall_ns()
        for quota in self._quotas:
            found.append((id(quota.counter), self._quota_use(quota, self._turn(quota, wall, now), wall)))
        return found

    def _short(
        self,
        now: int,
        wall: int,
        windows: tuple[Window, ...],
        slots: tuple[Slots, ...],
        method: str,
        ip: str,
        header: HeaderOf,
    ) -> "Ticket | Refused | Pending":
        """A window, a concurrency limit or a quota has no room: here that is the answer."""
        return self._refuse(now, wall, windows, slots)

    def _take(
        self, now: int, wall: int, windows: tuple[Window, ...], slots: tuple[Slots, ...], held: Sequence[Hold]
    ) -> Ticket:
        units = self._units
        self._tally.units += units
        for window in windows:
            window.take(now, units)
        for slot in slots:
            slot.used += 1
        for period, _, amount in held:
            period.hold(amount)
        return Ticket(self._announce(now, wall, windows, slots), units, slots, held)

    def _announce(self, now: int, wall: int, windows: tuple[Window, ...], slots: tuple[Slots, ...]) -> bytes:
        values: list[int] = []
        for rule in self._quotas:
            values.append(rule.counter.current.length_s)
        for window in windows:
            left = window.limit - window.used
            values.append(left if left > 0 else 0)
            values.append((window.next_ns - now + _ALMOST_S) // NS_PER_S)
        for slot in slots:
            left = slot.limit - slot.used
            values.append(left if left > 0 else 0)
        for rule in self._quotas:
            period = rule.counter.current
            left = rule.limit - period.used
            values.append(left if left > 0 else 0)
            values.append((period.end_ns - wall + _ALMOST_S) // NS_PER_S)
        return self._announcement.filled(values)

    def _bind(self, now: int, ip: str, header: HeaderOf) -> _Bound:
        """Every counter of this gate, none of them retired."""
        while True:
            bound = self._look_up(now, ip, header)
            # Making one counter may drop another that is idle. What was made now is not, so this ends after as many
            # rounds as there are counters.
            if all(bucket.limit >= 0 for part in bound for bucket in part):
                break
        if not self._dynamic:
            self._windows, self._slots = bound
        return bound

    def _look_up(self, now: int, ip: str, header: HeaderOf) -> _Bound:
        windows = []
        for rule in self._demand.limits:
            bucket = self._bucket(rule, now, ip, header)
            assert isinstance(bucket, Window)
            windows.append(bucket)
        slots = []
        for rule in self._demand.concurrency:
            bucket = self._bucket(rule, now, ip, header)
            assert isinstance(bucket, Slots)
            slots.append(bucket)
        return tuple(windows), tuple(slots)

    def _bucket(self, rule: Rule, now: int, ip: str, header: HeaderOf) -> Window | Slots:
        key, spare = rule.keys(ip, header)
        policy = rule.policy
        if isinstance(policy, Limit):
            return self._buckets.window(key, spare, policy.limit, policy.window_ns, now)
        return self._buckets.slots(key, spare, policy.limit, now)

    def _turn(self, rule: QuotaRule, wall: int, now: int) -> Period:
        """The quota's period, off the hot path: another period began, or the counter must be looked up or read, or what
        was in hand has lapsed."""
        if rule.counter.retired:
            rule.counter = self._quota_book.get(rule.key)
        if not rule.counter.ready:
            self._quota_book.kick(rule.counter)
        period = rule.counter.at(wall)
        if now >= period.lapse_ns:
            period.lapse(now)
        return period

    def _refuse(self, now: int, wall: int, windows: tuple[Window, ...], slots: tuple[Slots, ...]) -> Refused:
        # Asks again at the very moments of the decision, so that what refused is found again.
        violations = [
            *self._window_violations(now, windows),
            *self._slot_violations(now, slots),
            *self._quota_violations(now, wall),
        ]
        for violation in violations:
            self._tally.refuse(violation.use.name)
        announced = pairs(self._announce(now, wall, windows, slots))
        return exceeded(violations, self._units, self._demand.upgrade, announced)

    def _window_violations(self, now: int, windows: tuple[Window, ...]) -> list[Violation]:
        found = []
        for rule, window in zip(self._demand.limits, windows, strict=True):
            at = window.retry_at_ns(now, self._units)
            if at is None or at > now:
                retry_s = None if at is None else max(1, seconds(at - now))
                found.append(Violation(self._bucket_use(rule, window, now), retry_s))
        return found

    def _slot_violations(self, now: int, slots: tuple[Slots, ...]) -> list[Violation]:
        return [
            Violation(self._bucket_use(rule, slot, now), _CONCURRENCY_RETRY_S)
            for rule, slot in zip(self._demand.concurrency, slots, strict=True)
            if slot.full(now)
        ]

    def _quota_violations(self, now: int, wall: int) -> list[Violation]:
        found = []
        for rule in self._quotas:
            period = self._turn(rule, wall, now)
            if rule.block and period.used + rule.least > rule.limit:
                retry_s = None if rule.least > rule.limit else max(1, seconds(period.end_ns - wall))
                found.append(Violation(self._quota_use(rule, period, wall), retry_s))
        return found

    def _bucket_use(self, rule: Rule, bucket: Window | Slots, now: int) -> PolicyUse:
        policy = rule.policy
        if isinstance(bucket, Window):
            kind, span = "limit", format_duration_ns(bucket.window_ns)
            used, reset_s = bucket.used_at(now), seconds(bucket.reset_ns(now))
        else:
            kind, span, used, reset_s = "concurrency", "", bucket.in_use(), 0
        return self._use(policy, kind, policy.scope, span, used, reset_s)

    def _quota_use(self, rule: QuotaRule, period: Period, wall: int) -> PolicyUse:
        quota = rule.quota
        reset_s = seconds(period.end_ns - wall)
        return self._use(quota, "quota", ("tenant",), quota.period, period.used, reset_s)

    def _use(
        self, policy: Limit | Concurrency | Quota, kind: str, scope: tuple[str, ...], span: str, used: int, reset_s: int
    ) -> PolicyUse:
        demand, name, limit, origin = self._demand, policy.name, policy.limit, policy.origin
        where = f"{origin.file}:{origin.line}" if origin.line else origin.file
        left = max(0, limit - used)
        return PolicyUse(
            name, kind, demand.plan, demand.sandbox, scope, limit, span, used, left, reset_s, where, policy.mode
        )


def _no_header(name: bytes) -> bytes | None:
    return None
