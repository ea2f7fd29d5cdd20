"""Quota counters: what a tenant used of a meter in the current period.

Where nodes share them, the store of limits counts (admission.budgets) and the ledger is read only when it must be.
In process a counter starts from the ledger's sum, read once before its first request is decided, and counts on. It is
kept until its period is over once a request was admitted by it: a dropped counter would come back without what is still
on its way to the ledger.

Bound: ``max_quotas`` counters (1,000,000; 0.5 kB each, 1.0 kB shared). Each new one examines two old ones, 64 when the
table is full; if all of them are needed, a new tenant is refused with StoreError (503), never decided on a wrong sum.
Only who is seated already gets a counter beyond the bound, so it is exceeded by the seats' quotas at most.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from sidecar.core.clock import NS_PER_S, NS_PER_US, Clock
from sidecar.core.errors import StoreError
from sidecar.core.periods import period_bounds
from sidecar.core.policy import Quota

MeterTotal: TypeAlias = Callable[[str, str, int, int, bool], Awaitable[int]]

FAR = 2**62
_SWEEP = 2
_SWEEP_FULL = 64
_RETRY_NS = NS_PER_S  # between two attempts to read what a running counter had used before


class QuotaKey(NamedTuple):
    """What a counter counts. The plan is not in it: a tenant that changes its plan keeps what it used. ``period``: the
    text of a cycle (core.periods)."""

    tenant: str
    sandbox: bool
    meter: str
    period: str


class Period:
    """One counter's period, [start_ns, end_ns) in Unix nanoseconds. ``used`` includes what is held.

    A request belongs to the period in which it was admitted: it keeps the object, and settles there even after the end.
    Where nodes share the counter, ``room`` is what this one may use without asking, until ``lapse_ns`` (monotonic), and
    ``dry`` says that there is no more than that.
    """

    __slots__ = ("dry", "end_ns", "lapse_ns", "length_s", "room", "start_ns", "touched", "used")

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.length_s = (end_ns - start_ns) // NS_PER_S
        self.used = 0
        self.touched = False  # a request was admitted in it by this process
        self.room = FAR
        self.lapse_ns = FAR
        self.dry = True

    @property
    def needed(self) -> bool:
        """Whether this process knows of usage that nobody else may know of."""
        return self.touched

    def hold(self, amount: int) -> None:
        """Counts what a request is expected to use."""
        self.used += amount
        self.touched = True

    def settle(self, amount: int, value: int) -> None:
        """Replaces a held amount by what was used."""
        self.used += value - amount

    def lapse(self, now: int) -> None:
        """Lets go of what was to be used by ``lapse_ns``."""


Hold: TypeAlias = tuple[Period, str, int]  # where an amount of a meter is held
MakePeriod: TypeAlias = Callable[[QuotaKey, int, int], Period]


class QuotaCounter:
    """The current period and the one before it, for a wall clock that jumps back over the boundary."""

    __slots__ = ("_make", "_previous", "current", "key", "ready", "retired", "retry_ns")

    def __init__(self, key: QuotaKey, wall_ns: int, make: MakePeriod | None = None) -> None:
        self.key = key
        self._make = make
        self.current = self._period(wall_ns)
        self._previous: Period | None = None
        self.ready = False  # the ledger was read, and the counter is in the table
        self.retired = False
        self.retry_ns = 0

    def at(self, wall_ns: int) -> Period:
        """The period that counts at ``wall_ns``. A clock before every known period counts in the oldest known."""
        current = self.current
        if wall_ns >= current.end_ns:
            self._previous = current
            self.current = current = self._period(wall_ns)
        elif wall_ns < current.start_ns and self._previous is not None:
            self.current, self._previous = self._previous, current
            current = self.current
        return current

    def disposable(self, wall_ns: int) -> bool:
        """Whether the ledger knows, or need not know, all that this counter holds."""
        return wall_ns >= self.current.end_ns or not self.current.needed

    def retire(self) -> None:
        """Makes whoever holds this counter look it up again."""
        self.retired = True
        self.ready = False

    def _period(self, wall_ns: int) -> Period:
        start, end = period_bounds(self.key.period, wall_ns)
        return Period(start, end) if self._make is None else self._make(self.key, start, end)


@dataclass(slots=True)
class QuotaRule:
    """A quota with its counter. ``hold`` is taken at admission, or less, down to ``least``, when no more is left.

    ``counts`` is False for a second quota on the same counter, which is asked and not counted twice. ``open`` 1: of a
    meter in a purse (admission.purses), a call may use more than it holds.
    """

    quota: Quota
    key: QuotaKey
    counter: QuotaCounter
    hold: int
    counts: bool
    estimated: bool = False
    open: int = 0

    def __post_init__(self) -> None:
        self.meter = self.quota.meter
        self.block = self.quota.overage == "block"
        self.needs = self.hold or 1
        self.least = 1 if self.estimated else self.needs
        self.limit = self.quota.limit

    meter: str = field(init=False)
    block: bool = field(init=False)
    needs: int = field(init=False)
    least: int = field(init=False)
    limit: int = field(init=False)


class Quotas:
    """All quota counters. ``blind`` counts decisions taken before what was used earlier could be read. ``make``: makes
    the periods of counters that nodes share, whose store knows what was used."""

    def __init__(self, clock: Clock, meter_total: MeterTotal, max_quotas: int, make: MakePeriod | None = None) -> None:
        if max_quotas < 1:
            raise ValueError("max_quotas must be at least 1")
        self._clock = clock
        self._meter_total = meter_total
        self._max = max_quotas
        self._make = make
        self._table: dict[QuotaKey, QuotaCounter] = {}
        self._ring: deque[QuotaKey] = deque()
        self._loading: dict[QuotaKey, asyncio.Task[None]] = {}
        self.blind = 0

    def __len__(self) -> int:
        return len(self._table)

    def get(self, key: QuotaKey) -> QuotaCounter:
        """The counter, made if needed, whatever the bound: for those who are seated."""
        found = self._table.get(key)
        if found is None:
            found = self._table[key] = QuotaCounter(key, self._clock.wall_ns(), self._make)
            found.ready = self._make is not None
            self._ring.append(key)
        return found

    async def ready(self, keys: Iterable[QuotaKey]) -> None:
        """Makes each counter and reads what its period used so far; one read per counter, however many ask.

        StoreError when a read fails or the table is full; the next call tries again.
        """
        for key in keys:
            if key not in self._table:
                self._sweep(self._clock.wall_ns())
                if len(self._table) >= self._max:
                    raise StoreError(f"the table of quota counters is full ({self._max} counters, all in use)")
            if not self.get(key).ready:
                # Shielded: one caller that gives up must not fail the others that wait for the same read.
                await asyncio.shield(self._load(key))

    def kick(self, counter: QuotaCounter) -> None:
        """Reads in the background what a counter used that came into being under running requests (a quota added by a
        reload). Until then requests pass and are counted. At most one attempt a second."""
        self.blind += 1
        now = self._clock.monotonic_ns()
        if counter.key not in self._loading and now >= counter.retry_ns:
            counter.retry_ns = now + _RETRY_NS
            self._load(counter.key)

    async def close(self) -> None:
        """Stops reads under way."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _load(self, key: QuotaKey) -> asyncio.Task[None]:
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.get_running_loop().create_task(self._read(key))
            task.add_done_callback(lambda done: self._loaded(key, done))
        return task

    def _loaded(self, key: QuotaKey, task: asyncio.Task[None]) -> None:
        del self._loading[key]
        if not task.cancelled():
            task.exception()  # whoever waits raises it; a background read is tried again

    async def _read(self, key: QuotaKey) -> None:
        counter = self.get(key)
        period = counter.at(self._clock.wall_ns())
        total = await self._meter_total(
            key.tenant, key.meter, period.start_ns // NS_PER_US, period.end_ns // NS_PER_US, key.sandbox
        )
        # Added, not set: what was admitted while the read was under way is in ``used`` already.
        period.used += total
        counter.ready = True

    def _sweep(self, wall_ns: int) -> None:
        ring = self._ring
        full = len(self._table) >= self._max
        for _ in range(min(_SWEEP_FULL if full else _SWEEP, len(ring))):
            key = ring.popleft()
            if key not in self._loading and self._table[key].disposable(wall_ns):
                self._table.pop(key).retire()
            else:
                ring.append(key)


def settle(held: Iterable[Hold], values: Mapping[str, int]) -> None:
    """Replaces each held amount by the meter's value; a meter that is not in ``values`` counted nothing."""
    for period, meter, amount in held:
        period.settle(amount, values.get(meter, 0))
