"""Nodes that share quotas, on one store and one ledger, with the real rooms and keepers."""

from typing import Any

from sidecar.admission import Admission, Pending, Refused, Ticket
from sidecar.core.clock import ManualClock
from sidecar.core.errors import StoreError
from sidecar.core.policy import Meter, Plan, Quota, Route, Snapshot
from sidecar.core.values import Principal
from tests.admission.store import FlakyStore, idle

ROUTE = Route("search", "/search", "api")
METERS = {
    "requests": Meter("requests", "requests"),
    "tokens": Meter("tokens", "reply"),
    "units": Meter("units", "units"),
}
NOON_NS = 1_767_225_600_000_000_000 + 12 * 3_600_000_000_000


class Fleet(FlakyStore):
    """Nodes on one store and one ledger, and a hand-moved clock."""

    def __init__(self, plan: Plan, count: int = 2) -> None:
        super().__init__(ManualClock(wall_ns=NOON_NS))
        self.ledger = 0
        self.ledger_down = False
        self.reads = 0
        self.late = False
        self.plan = plan
        self.nodes = [Node(self) for _ in range(count)]

    async def meter_total(self, *_: Any) -> int:
        self.reads += 1
        if self.ledger_down:
            raise StoreError("the ledger is down")
        return self.ledger

    async def pass_time(self, seconds: float, *nodes: "Node") -> None:
        """Second by second, with what the nodes do in the background."""
        for _ in range(max(1, round(seconds))):
            self.clock.advance(min(seconds, 1))
            await self.work(*nodes)

    async def work(self, *nodes: "Node") -> None:
        for node in nodes or self.nodes:
            assert node.room.keeper is not None
            node.room.keeper.sweep(self.clock.monotonic_ns())
        await idle()

    @property
    def counter(self) -> Any:
        return next(iter(self.book._pages["t.acme"].budgets.values()))


class Node:
    """One process."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.room = Admission(fleet.clock, fleet.meter_total, limit_store=fleet, late=lambda: fleet.late)
        self.load(fleet.plan)

    def load(self, plan: Plan) -> None:
        self.room.load(Snapshot(plans={plan.name: plan}, meters=METERS))
        self.plan = plan.name
        self.seat: Any = None

    async def ask(self, route: Route = ROUTE) -> Ticket | Refused:
        self.seat = self.seat or await self.room.seat(Principal("acme", "k", self.plan))
        decided = self.seat.gate(route).admit("GET", "192.0.2.1", lambda _: None)
        return await decided.wait() if isinstance(decided, Pending) else decided

    async def use(self, times: int = 1, **values: int) -> int:
        """Requests that end at once, with these values of the meters; how many passed. The ledger gets them."""
        values = values or {"requests": 1}
        passed = 0
        for _ in range(times):
            ticket = await self.ask()
            if isinstance(ticket, Ticket):
                passed += 1
                ticket.settle(values)
                self.fleet.ledger += sum(values.values())
        return passed

    async def tickets(self, times: int) -> list[Ticket]:
        return [each for each in [await self.ask() for _ in range(times)] if isinstance(each, Ticket)]

    @property
    def use_now(self) -> tuple[int, int]:
        """Used and remaining, as this node knows it."""
        found = [each for each in self.room.usage_of("acme") if each.kind == "quota"]
        return found[0].used, found[0].remaining


def plan(limit: int = 10, meter: str = "requests", **more: Any) -> Plan:
    return Plan("p", quotas=(Quota("monthly", meter, limit, "month", **more),))


def code(refused: Ticket | Refused) -> tuple[int, str]:
    assert isinstance(refused, Refused)
    return refused.problem.status, refused.problem.code
