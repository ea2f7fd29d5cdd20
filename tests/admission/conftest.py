"""A room with a hand-moved clock and a ledger that is a dictionary."""

import asyncio
from collections.abc import Callable

import pytest

from sidecar.admission import Admission, Gate, Refused, Ticket
from sidecar.core.clock import ManualClock
from sidecar.core.errors import StoreError
from sidecar.core.policy import Meter, Plan, Route, Snapshot
from sidecar.core.values import Principal

METERS = {
    "requests": Meter("requests", "requests"),
    "units": Meter("units", "units"),
    "bytes": Meter("bytes", "bytes_out"),
    "paid": Meter("paid", "requests", routes=frozenset({"search"})),
}


class FakeLedger:
    """Answers ``meter_total`` from ``totals``; waits while ``held``, fails while ``down``."""

    def __init__(self) -> None:
        self.totals: dict[tuple[str, str, bool], int] = {}
        self.asked: list[tuple[str, str, int, int, bool]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.down = False

    async def meter_total(self, tenant: str, meter: str, since_us: int, until_us: int, sandbox: bool) -> int:
        self.asked.append((tenant, meter, since_us, until_us, sandbox))
        await self.go.wait()
        if self.down:
            raise StoreError("the ledger is down")
        return self.totals.get((tenant, meter, sandbox), 0)


class TickingClock(ManualClock):
    """A clock that moves on by a microsecond whenever it is read."""

    def monotonic_ns(self) -> int:
        self.advance(1e-6)
        return super().monotonic_ns()


class Desk:
    """An Admission with its fakes, and short ways to use it."""

    def __init__(self, max_buckets: int = 1000, max_quotas: int = 1000, *, ticking: bool = False) -> None:
        self.clock = (TickingClock if ticking else ManualClock)(
            wall_ns=1_767_225_600_000_000_000 + 12 * 3_600_000_000_000
        )  # 2026-01-01 12:00 UTC
        self.ledger = FakeLedger()
        self.room = Admission(self.clock, self.ledger.meter_total, max_buckets=max_buckets, max_quotas=max_quotas)
        self.route = Route("search", "/search", "api")

    async def turn(self) -> None:
        """Lets tasks that are ready run, a few steps each."""
        for _ in range(4):
            await asyncio.sleep(0)

    def load(self, *plans: Plan) -> None:
        self.room.load(Snapshot(meters=METERS, plans={plan.name: plan for plan in plans}))

    async def gate(self, plan: str = "p", tenant: str = "acme", key: str = "k", route: Route | None = None) -> Gate:
        seat = await self.room.seat(Principal(tenant, key, plan))
        return seat.gate(route or self.route)

    def passes(self, gate: Gate, *, ip: str = "192.0.2.1", header: bytes | None = None, method: str = "GET") -> bool:
        return isinstance(gate.admit(method, ip, lambda name: header), Ticket)

    def refusal(self, gate: Gate, *, method: str = "GET") -> Refused:
        refused = gate.admit(method, "192.0.2.1", lambda name: None)
        assert isinstance(refused, Refused)
        return refused

    def ticket(self, gate: Gate) -> Ticket:
        ticket = gate.admit("GET", "192.0.2.1", lambda name: None)
        assert isinstance(ticket, Ticket)
        return ticket


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@pytest.fixture
async def make_desk() -> Callable[..., Desk]:
    return Desk
