"""Tells a person, by the channels of notices, that usage does not reach the payee: for those without a Prometheus."""

import hashlib
from collections.abc import Mapping, Sequence

from sidecar.billing.reconcile.differences import WAITING
from sidecar.core.accounts import Notice
from sidecar.core.billing import RowQuery
from sidecar.core.billing_store import BillingStore
from sidecar.core.clock import NS_PER_S, Clock

PATIENCE_S = 600  # a fault is told when it has lasted so long
DAY_S = 86_400  # and again so much later


class Alarms:
    """Of one node; whoever leads tells. One fact is told once a day at most, and again when it grew."""

    def __init__(self, store: BillingStore, channels: Sequence[str], clock: Clock) -> None:
        self._store = store
        self._channels = tuple(channels)
        self._clock = clock
        self._told: dict[str, int] = {}  # state to rows
        self._since_ns: int | None = None

    async def look(self, rows: Mapping[str, tuple[int, int]], faults: Sequence[str]) -> None:
        """``rows``: state to (how many, when the oldest was made); ``faults``: why nothing is reported. StoreError."""
        for state, kind in WAITING.items():
            count = rows.get(state, (0, 0))[0]
            if count > self._told.get(state, 0):
                await self._tell_waiting(state, kind, count)
            self._told[state] = count
        now_ns = self._clock.monotonic_ns()
        if not faults:
            self._since_ns = None
        elif self._since_ns is None:
            self._since_ns = now_ns
        elif now_ns - self._since_ns >= PATIENCE_S * NS_PER_S:
            digest = hashlib.sha256("\n".join(faults).encode()).hexdigest()[:12]
            await self._tell("billing.stopped", f"{digest}/{self._day()}", {"faults": "; ".join(faults)[:1000]})

    async def _tell_waiting(self, state: str, kind: str, count: int) -> None:
        shown = await self._store.rows(RowQuery(states=(state,), limit=1))
        facts: dict[str, str | int] = {"rows": count, "state": state, "difference": kind}
        if shown:
            facts |= {"row": shown[0].id, "of": shown[0].tenant, "meter": shown[0].meter, "note": shown[0].note[:200]}
        await self._tell("billing.waiting", f"{state}/{count}/{self._day()}", facts)

    async def _tell(self, kind: str, id: str, facts: dict[str, str | int]) -> None:
        now_ns = self._clock.wall_ns()
        await self._store.notify(
            [Notice(f"{kind}/{id}", channel, kind, "", facts, now_ns) for channel in self._channels]
        )

    def _day(self) -> int:
        return self._clock.wall_ns() // NS_PER_S // DAY_S
