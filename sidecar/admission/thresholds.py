"""Shares of quotas that tenants reached, told once each; off the hot path, which knows nothing of it.

A task looks at every watched counter in slices: a comparison each. Where a counter has come to the next threshold, the
ledger is asked, because a counter holds what calls under way may give back; what the ledger confirms is told. ``tell``
remembers for good, over restarts and for all nodes, and says whether it was news.

Bound: one entry per quota counter, gone with it (0.6 kB). MOST_LOOKS counters a second (a million in 20 s), MOST_READS
readings of the ledger a round.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from sidecar.admission.quotas import MeterTotal, Period, QuotaCounter, QuotaKey, QuotaRule
from sidecar.core.clock import NS_PER_S, NS_PER_US, Clock
from sidecar.core.crossings import Crossing
from sidecar.core.errors import StoreError
from sidecar.core.policy import Quota

Tell: TypeAlias = Callable[[Crossing, str, Quota], Awaitable[bool]]  # the plan's name; True: it was not known

ROUND_S = 1.0
MOST_LOOKS = 50_000
MOST_READS = 100
_SLICE = 1000  # counters between two turns of the loop, 0.3 ms
_RETRY_NS = 5 * NS_PER_S  # until a share that the ledger does not confirm yet is looked at again
_NEVER = 1 << 62
log = logging.getLogger("sidecar.admission")


class _Watched:
    """One counter, the quotas over it, and the amount at which the next threshold is."""

    __slots__ = ("alarm", "counter", "period", "plan", "quotas", "retry_ns", "told")

    def __init__(self, counter: QuotaCounter, plan: str) -> None:
        self.counter = counter
        self.plan = plan
        self.quotas: dict[str, Quota] = {}
        self.period = counter.current
        self.alarm = 0  # 0: to be reckoned
        self.retry_ns = 0
        self.told: set[tuple[str, int, int]] = set()


class Thresholds:
    """``told`` counts what was news here, by plan, quota and threshold."""

    def __init__(self, clock: Clock, meter_total: MeterTotal, tell: Tell) -> None:
        self._clock = clock
        self._meter_total = meter_total
        self._tell = tell
        self._watched: dict[QuotaKey, _Watched] = {}
        self._round: list[QuotaKey] = []
        self.told: dict[tuple[str, str, int], int] = {}

    def watch(self, plan: str, rule: QuotaRule) -> None:
        """The rule's quota counts for a tenant of the plan. Usage of test keys is nobody's news."""
        quota, key = rule.quota, rule.key
        if key.sandbox or not quota.thresholds or not quota.limit:
            return
        entry = self._watched.get(key)
        if entry is None or entry.counter is not rule.counter:
            entry = self._watched[key] = _Watched(rule.counter, plan)
        if entry.plan != plan:
            entry.plan, entry.quotas = plan, {}
        if entry.quotas.get(quota.name) != quota:
            entry.quotas[quota.name] = quota
            entry.alarm = 0

    def forget(self) -> None:
        """The policies are others: what counts is said anew by ``watch``."""
        self._watched = {}

    async def run(self) -> None:
        """Looks, until cancelled."""
        while True:
            await asyncio.sleep(ROUND_S)
            try:
                await self.look()
            except Exception:
                log.exception("looking at thresholds failed; it goes on")

    async def look(self) -> None:
        """One round: at most MOST_LOOKS counters and MOST_READS readings."""
        if not self._round:
            self._round = list(self._watched)
        reads = MOST_READS
        for _ in range(0, MOST_LOOKS, _SLICE):
            due = self._due(self._round[-_SLICE:])
            del self._round[-_SLICE:]
            for entry, period in due:
                if reads:
                    reads -= await self._reckon(entry, period)
            if not self._round:
                return
            await asyncio.sleep(0)

    def _due(self, keys: list[QuotaKey]) -> list[tuple[_Watched, Period]]:
        found = []
        now = self._clock.monotonic_ns()
        for key in keys:
            entry = self._watched.get(key)
            if entry is None:
                continue
            counter = entry.counter
            period = counter.current
            if period is not entry.period:
                if entry.period.used >= entry.alarm:
                    found.append((entry, entry.period))  # its last share, reached just before it ended
                entry.period, entry.alarm, entry.retry_ns, entry.told = period, 0, 0, set()
            if period.used >= entry.alarm and now >= entry.retry_ns:
                found.append((entry, period))
            if counter.retired:
                del self._watched[key]
        return found

    async def _reckon(self, entry: _Watched, period: Period) -> int:
        """Tells what was reached, sets the next alarm; how many readings it took."""
        reached = _reached(entry, period.used)
        total = 0
        if reached:
            key = entry.counter.key
            try:
                start_us, end_us = period.start_ns // NS_PER_US, period.end_ns // NS_PER_US
                total = await self._meter_total(key.tenant, key.meter, start_us, end_us, key.sandbox)
                for quota, threshold in _reached(entry, total):
                    await self._news(entry, period, quota, threshold, total)
            except StoreError as error:
                log.warning("what %s used of a quota could not be told, it is tried again: %s", key.tenant, error)
        if period is entry.period:
            entry.alarm = _next(entry)
            if entry.alarm <= period.used:
                entry.retry_ns = self._clock.monotonic_ns() + _RETRY_NS
        return 1 if reached else 0

    async def _news(self, entry: _Watched, period: Period, quota: Quota, threshold: int, total: int) -> None:
        crossing = Crossing(
            tenant=entry.counter.key.tenant,
            name=quota.name,
            start_s=period.start_ns // NS_PER_S,
            end_s=period.end_ns // NS_PER_S,
            threshold=threshold,
            limit=quota.limit,
            used=total,
            at_ns=self._clock.wall_ns(),
        )
        plan = entry.plan
        if await self._tell(crossing, plan, quota):
            label = plan, quota.name, threshold
            self.told[label] = self.told.get(label, 0) + 1
        if period is entry.period:
            entry.told.add((quota.name, threshold, quota.limit))


def _reached(entry: _Watched, used: int) -> list[tuple[Quota, int]]:
    """What of it was not told in this process, lowest first."""
    return [
        (quota, threshold)
        for quota in entry.quotas.values()
        for threshold in quota.thresholds
        if used * 100 >= threshold * quota.limit and (quota.name, threshold, quota.limit) not in entry.told
    ]


def _next(entry: _Watched) -> int:
    """The least amount at which one more threshold is reached."""
    amounts = [
        -(-threshold * quota.limit // 100)
        for quota in entry.quotas.values()
        for threshold in quota.thresholds
        if (quota.name, threshold, quota.limit) not in entry.told
    ]
    return min(amounts, default=_NEVER)
