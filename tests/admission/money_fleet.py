"""Nodes that share budgets, on one store and one ledger, with the real rooms and keepers and a hand-moved clock.

A call that ends is in its node's journal, which outlives the node; the ledger has it when it is shipped: a second later
at most, or when this node reads the ledger.
"""

import asyncio
from dataclasses import replace
from fractions import Fraction
from typing import Any

from sidecar.admission import Admission, Pending, Refused, Ticket
from sidecar.core.clock import NS_PER_S, ManualClock
from sidecar.core.credits import Grant
from sidecar.core.errors import StoreError
from sidecar.core.leases import Answer, Ask
from sidecar.core.money import Money
from sidecar.core.policy import Meter, MeterPrice, Plan, Price, Route, Snapshot, SpendCap
from sidecar.core.spend import SpendState, SpendTerms
from sidecar.core.values import Principal
from sidecar.metering import Use, spend_state
from tests.admission.store import FlakyStore, idle

METERS = {
    "calls": Meter("calls", "requests", routes=frozenset({"paid", "chat"})),
    "tokens": Meter("tokens", "reply", routes=frozenset({"chat"})),
    "requests": Meter("requests", "requests"),
}
PAID, CHAT, FREE = (Route(name, f"/{name}", "api") for name in ("paid", "chat", "free"))
NOON_NS = 1_767_225_600_000_000_000 + 12 * 3_600 * NS_PER_S  # 2026-01-01


def usd(text: str) -> Money:
    return Money(Fraction(text), "USD")


def priced(calls: str | MeterPrice = "0.10", tokens: str | MeterPrice | None = None) -> Price:
    found = [calls if isinstance(calls, MeterPrice) else MeterPrice("calls", 0, 1, usd(calls))]
    if tokens is not None:
        found.append(tokens if isinstance(tokens, MeterPrice) else MeterPrice("tokens", 0, 1000, usd(tokens)))
    return Price(usd("0"), tuple(found))


def capped(limit: str = "1.00", price: Price | None = None, period: str = "month", **more: Any) -> Plan:
    return Plan("p", price=price or priced(), spend_cap=SpendCap(usd(limit), period), **more)


class MoneyFleet(FlakyStore):
    """``spent`` and ``used`` are the truth: of every call that ended, when it did."""

    def __init__(self, plan: Plan, count: int = 3) -> None:
        super().__init__(ManualClock(wall_ns=NOON_NS))
        self.ledger_down = False
        self.entries: list[tuple[int, str, int]] = []  # Unix microseconds, meter, value
        self.grants: list[Grant] = []
        self.plan = plan
        self.nodes = [MoneyNode(self) for _ in range(count)]

    async def lease(self, ask: Ask) -> Answer:
        """With time on both ways for others to do something."""
        await asyncio.sleep(0)
        answer = await super().lease(ask)
        await asyncio.sleep(0)
        return answer

    def total(self, meter: str, since_us: int, until_us: int) -> int:
        return sum(value for at, name, value in self.entries if name == meter and since_us <= at < until_us)

    def grant(self, amount: str, source: str = "a", **more: Any) -> None:
        self.grants.append(Grant("acme", source, usd(amount).micros, "USD", self.clock.wall_ns(), **more))

    def revoke(self, source: str) -> None:
        now = self.clock.wall_ns()
        self.grants = [replace(one, revoked_ns=now) if one.source == source else one for one in self.grants]

    def load(self, plan: Plan) -> None:
        self.plan = plan
        for node in self.nodes:
            node.load(plan)

    async def pass_time(self, seconds: float) -> None:
        """Second by second, with what the nodes do in the background."""
        for _ in range(max(1, round(seconds))):
            self.clock.advance(min(seconds, 1))
            for node in self.nodes:
                node.ship()
                assert node.room.keeper is not None
                node.room.keeper.sweep(self.clock.monotonic_ns())
            await idle()

    async def close_nodes(self) -> None:
        for node in self.nodes:
            await node.room.close()


class MoneyNode:
    """One process."""

    def __init__(self, fleet: MoneyFleet) -> None:
        self.fleet = fleet
        self.journal: list[tuple[int, str, int]] = []
        self.open: list[tuple[Ticket, dict[str, int]]] = []
        self.boot()

    def boot(self) -> None:
        """A new process; what was under way ends with the old one, and is not paid."""
        fleet = self.fleet
        self.open = []
        self.room = Admission(fleet.clock, self.meter_total, limit_store=fleet, spent=self.read)
        self.load(fleet.plan)

    def load(self, plan: Plan) -> None:
        self.room.load(Snapshot(plans={plan.name: plan}, meters=METERS))
        self.plan, self.seat = plan.name, None

    def ship(self) -> None:
        if not self.fleet.ledger_down:
            self.fleet.entries += self.journal
            self.journal = []

    async def meter_total(self, tenant: str, meter: str, since_us: int, until_us: int, sandbox: bool) -> int:
        self.ship()
        if self.fleet.ledger_down:
            raise StoreError("the ledger is down")
        return self.fleet.total(meter, since_us, until_us)

    async def read(self, tenant: str, terms: SpendTerms) -> SpendState:
        grants = self.fleet.grants if terms.prepaid else []
        use = Use(tenant, terms, self.meter_total)
        return (await spend_state(use, terms, (None, grants), self.fleet.clock.wall_ns()))[0]

    async def seated(self, plan: str | None = None) -> None:
        """A new seat: at most 30 s old, and at most a second after a grant."""
        self.seat: Any = await self.room.seat(Principal("acme", "k", plan or self.plan))
        await idle()

    async def ask(self, route: Route = PAID) -> Ticket | Refused:
        if self.seat is None:
            await self.seated()
        decided = self.seat.gate(route).admit("GET", "192.0.2.1", lambda _: None)
        return await decided.wait() if isinstance(decided, Pending) else decided

    async def begin(self, route: Route = PAID, **values: int) -> bool:
        """A call that goes on; ``end`` ends it with these values."""
        ticket = await self.ask(route)
        if isinstance(ticket, Ticket):
            self.open.append((ticket, values or {"calls": 1}))
        return isinstance(ticket, Ticket)

    def end(self, index: int = 0) -> None:
        ticket, values = self.open.pop(index)
        ticket.settle(values)
        now = self.fleet.clock.wall_ns() // 1000
        self.journal += [(now, meter, value) for meter, value in values.items()]

    async def use(self, times: int = 1, route: Route = PAID, **values: int) -> int:
        """Calls that end at once; how many passed."""
        passed = 0
        for _ in range(times):
            if await self.begin(route, **values):
                passed += 1
                self.end(len(self.open) - 1)
        return passed

    async def code(self, route: Route = PAID) -> str | None:
        """Of the refusal; None: it passed, and gave everything back."""
        decided = await self.ask(route)
        if isinstance(decided, Refused):
            return decided.problem.code
        decided.release()
        return None
