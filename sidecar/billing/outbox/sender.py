"""Sends what is due: many customers at a time, one event per event name and customer."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sidecar.billing.outbox.delivery import Result, Rules, Step, next_step, result_of, seen
from sidecar.billing.pace import Pace
from sidecar.core.billing import OutboxRow, Outcome, RowQuery, Sink, Sums
from sidecar.core.billing_store import BillingStore
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import SidecarError, StoreError

IN_FLIGHT = 64
_BATCH = 1000
_STOPPED_S = (5, 600)  # after an answer that would be the same for every row: the first wait, the longest
_SKEW_S = 60
_log = logging.getLogger("sidecar.billing")


@dataclass(slots=True)
class Readings:
    """For metrics and warnings. ``outcomes``: kind to how many; ``stopped``: why nothing is sent, empty: it is.
    ``skew_s``: the payee's clock less ours, when it was last told."""

    outcomes: dict[str, int] = field(default_factory=dict)
    read_back: int = 0
    stopped: str = ""
    skew_s: int = 0
    last_accepted_ns: int = 0


class Sender:
    """One sink's. Several may work on one store: rows do not change, so that what two of them send counts once."""

    def __init__(
        self,
        store: BillingStore,
        sink: Sink,
        sums: Sums | None,
        clock: Clock,
        *,
        rules: Rules,
        rate: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``sums`` None: the payee has none, so that rules.gate_s has to be None. ``rate``: events per second."""
        if sums is None and rules.gate_s is not None:
            raise ValueError("without the payee's sums nothing can be read back")
        self._store = store
        self._sink = sink
        self._sums = sums
        self._clock = clock
        self._rules = rules
        self._pace = Pace(rate, clock, sleep=sleep)
        self._jitter = jitter
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._stops = 0
        self._quiet_until_ns = 0
        self.readings = Readings()

    async def send(self) -> int:
        """Deals with what is due now, at most _BATCH rows; how many. StoreError. A row whose outcome could not be
        written down stays ``sent`` and is sent again, with the same identifier."""
        now_ns = self._clock.wall_ns()
        if self._clock.monotonic_ns() < self._quiet_until_ns:
            return 0
        chains: dict[tuple[str, str], list[OutboxRow]] = {}
        due = await self._store.due(at_ns=now_ns, limit=_BATCH)
        for row in due:
            chains.setdefault((row.event_name, row.customer), []).append(row)
        ended = await asyncio.gather(*map(self._chain, chains.values()), return_exceptions=True)
        for error in ended:  # one that failed does not cut the others off in the middle of a request
            if error is not None:
                raise error
        return len(due)

    async def _chain(self, rows: list[OutboxRow]) -> None:
        """One after the other; what follows one that has to be tried again waits for the next round with it."""
        async with self._slots:
            for row in rows:
                if self._quiet_until_ns > self._clock.monotonic_ns() or not await self._deal(row):
                    return

    async def _deal(self, row: OutboxRow) -> bool:
        """Whether the next one of the chain may follow."""
        if row.hourly and await self._overtaken(row):
            await self._settle(row, Result("superseded"))
            return True
        step = next_step(row, self._clock.wall_ns(), self._rules)
        if step.kind == "read":
            step = await self._read(row)
        if step.kind == "send":
            return await self._attempt(row)
        if step.kind == "wait":
            await self._settle(row, Result(row.state, next_ns=step.at_ns, note=step.note))
            return False
        await self._settle(row, Result(step.state, note=step.note))
        return True

    async def _overtaken(self, row: OutboxRow) -> bool:
        """A newer total of the hour is there: the older one, arriving behind it, would take its place."""
        query = RowQuery(customer=row.customer, event_name=row.event_name, since=row.minute, until=row.minute + 1)
        return any(other.version > row.version for other in await self._store.rows(query))

    async def _read(self, row: OutboxRow) -> Step:
        assert self._sums is not None
        self.readings.read_back += 1
        try:
            total = await self._sums.total(row.event_name, row.customer, row.minute, row.minute + 1)
        except StoreError:
            raise
        except SidecarError as error:
            wait_ns = self._clock.wall_ns() + 60 * NS_PER_S
            return Step("wait", note=f"the payee's sums cannot be read: {error}", at_ns=wait_ns)
        return seen(row, total, self._clock.wall_ns(), self._rules)

    async def _attempt(self, row: OutboxRow) -> bool:
        await self._pace.wait()
        attempted = await self._store.attempt(row.id, at_ns=self._clock.wall_ns())
        outcome = await self._sink.send(attempted)
        self._count(outcome)
        result = result_of(attempted, outcome, self._clock.wall_ns(), self._jitter)
        await self._settle(attempted, result)
        if outcome.kind == "stop":
            self._stop(outcome)
        elif outcome.kind in ("accepted", "rejected") and self._quiet_until_ns <= self._clock.monotonic_ns():
            self._stops = 0
            self.readings.stopped = ""
        return outcome.kind in ("accepted", "rejected")

    async def _settle(self, row: OutboxRow, result: Result) -> None:
        await self._store.settle(
            row.id,
            result.state,
            at_ns=self._clock.wall_ns(),
            next_ns=result.next_ns,
            rounds=result.rounds,
            http=result.http,
            request_id=result.request_id,
            note=result.note,
        )

    def _count(self, outcome: Outcome) -> None:
        outcomes = self.readings.outcomes
        outcomes[outcome.kind] = outcomes.get(outcome.kind, 0) + 1
        now_ns = self._clock.wall_ns()
        if outcome.kind == "accepted":
            self.readings.last_accepted_ns = now_ns
        if outcome.server_s is not None:
            skew_s = outcome.server_s - now_ns // NS_PER_S
            if abs(skew_s) > _SKEW_S and abs(self.readings.skew_s) <= _SKEW_S:
                _log.warning("the payee's clock differs from this machine's by %d s", skew_s)
            self.readings.skew_s = skew_s

    def _stop(self, outcome: Outcome) -> None:
        first, longest = _STOPPED_S
        wait_s = min(longest, first * 2 ** min(self._stops, 10))
        if not self._stops:
            _log.error("usage cannot be reported: %s; rows wait", outcome.message)
        self._stops += 1
        self.readings.stopped = outcome.message or outcome.code
        self._quiet_until_ns = self._clock.monotonic_ns() + wait_s * NS_PER_S
