"""A payee on a virtual clock: Stripe's meters as documented (demo.fakestripe), behind a network that lies."""

import heapq
import random
from dataclasses import dataclass, field

from demo.fakestripe import FakeStripe
from demo.fakestripe.state import Refusal
from sidecar.core.billing import OutboxRow, Outcome
from sidecar.core.clock import NS_PER_S, ManualClock
from sidecar.core.errors import SidecarError

HOUR_NS = 3600 * NS_PER_S
# What may happen to a request. ``kill_*``: the sender's process dies there.
FAULTS = (
    "lose",
    "take_and_lose",
    "zombie",
    "error",
    "take_and_error",
    "limit",
    "conflict",
    "kill_before",
    "kill_after",
)


class Killed(Exception):
    """The process is gone."""


class Unreadable(SidecarError):
    """The sums cannot be asked for."""


@dataclass
class Payee:
    """``Sink`` and ``Sums``. ``fault_share``: of requests. ``out``: nothing gets through."""

    clock: ManualClock
    random: random.Random
    fault_share: float = 0.0
    faults: tuple[str, ...] = FAULTS
    out: bool = False
    zombie_ns: int = 4 * HOUR_NS
    requests: int = 0
    _late: list[tuple[int, int, OutboxRow]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stripe = FakeStripe(self.clock)

    async def send(self, row: OutboxRow) -> Outcome:
        self.requests += 1
        if self.out:
            return Outcome("retry", code="connect")
        fault = self.random.choice(self.faults) if self.random.random() < self.fault_share else ""
        if fault in ("take_and_lose", "take_and_error", "kill_after"):
            self._take(row)
        if fault == "zombie":
            heapq.heappush(self._late, (self._now() + self.random.randrange(self.zombie_ns), self.requests, row))
        if fault.startswith("kill"):
            raise Killed
        if fault in ("limit", "conflict"):
            return Outcome("retry", http=429 if fault == "limit" else 409, retry_after_ns=NS_PER_S)
        if fault in ("error", "take_and_error"):
            return Outcome("unknown", http=500, used_key=True)
        return Outcome("unknown", code="connection") if fault else self._take(row)

    async def total(self, event_name: str, customer: str, begin: int, end: int) -> int:
        if self.out:
            raise Unreadable("no connection")
        return int(self.stripe.summary(event_name, customer, begin * 60, end * 60, self._now()))

    async def hours(self, event_name: str, customer: str, begin: int, end: int) -> dict[int, int]:
        found = {hour: await self.total(event_name, customer, hour * 60, hour * 60 + 60) for hour in range(begin, end)}
        return {hour: value for hour, value in found.items() if value}

    def advance(self, seconds: int) -> None:
        """Lets time pass; what was under way arrives at its own moment."""
        until = self._now() + seconds * NS_PER_S
        while self._late and self._late[0][0] <= until:
            at_ns, _, row = heapq.heappop(self._late)
            self.clock.advance((at_ns - self._now()) / NS_PER_S)
            self._take(row)
        self.clock.advance((until - self._now()) / NS_PER_S)

    def _take(self, row: OutboxRow) -> Outcome:
        try:
            self.stripe.meter_event(
                row.event_name, row.customer, str(row.value), row.identifier, row.timestamp_s, self._now()
            )
        except Refusal as refusal:
            duplicate = "already exists" in str(refusal)
            return Outcome("accepted" if duplicate else "rejected", http=refusal.status, message=str(refusal))
        return Outcome("accepted", http=200)

    def _now(self) -> int:
        return self.clock.wall_ns()
