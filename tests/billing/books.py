"""One installation on a virtual clock: a real store, the real assigner and sender, a payee that may be cruel."""

import itertools
import random
from collections.abc import Iterable
from pathlib import Path

from sidecar.billing.outbox import Assigner, Events, Rules, Sender
from sidecar.core.accounts import Account
from sidecar.core.billing import OutboxRow, Period, RowQuery
from sidecar.core.clock import NS_PER_S, ManualClock
from sidecar.core.ports import Position
from sidecar.storage import PostgresStore, SqliteStore
from tests.billing.payee import Killed, Payee
from tests.billing.records import used
from tests.storage.postgres.server import Database, run

START_S = 1_760_000_000 // 60 * 60
PERIOD = Period(START_S - 1_111_111, START_S + 4_444_444)
EVENT = "acme_tokens"


Place = Path | Database  # where the books stand


class Books:
    """``now`` is a whole number of seconds; usage is that of the tenant ``acme`` unless told otherwise."""

    def __init__(
        self,
        place: Place,
        *,
        seed: int = 0,
        rules: Rules | None = None,
        events: Events | None = None,
        periods: tuple[Period, ...] = (PERIOD,),
        clock: ManualClock | None = None,
    ) -> None:
        self.clock = clock or ManualClock(wall_ns=START_S * NS_PER_S)
        self.random = random.Random(seed)
        self.payee = Payee(self.clock, self.random)
        self.rules = rules or Rules()
        self.events = events or Events(added={"tokens": EVENT})
        self.periods = periods
        self.place = place
        self.used: dict[tuple[str, str], list[tuple[int, int]]] = {}  # (when it ended, Unix microseconds; how much)
        self._numbers = itertools.count(1)
        self.customers: dict[str, str] = {}
        for event_name in self.events.added.values():
            self.payee.stripe.meter(event_name)
        for event_name in self.events.hourly.values():
            self.payee.stripe.meter(event_name, window="hour")
        self.begin()

    @property
    def now_s(self) -> int:
        return self.clock.wall_ns() // NS_PER_S

    def begin(self) -> None:
        """A process starts (again): nothing of the last one's memory is left."""
        self.store: SqliteStore | PostgresStore
        if isinstance(self.place, Path):
            self.store = SqliteStore.open(self.place)
        else:
            self.store = run(PostgresStore.open(self.place.url, journal="node"))
        self.assigner = Assigner(self.store, self.events, self.rules.terms, self.clock)
        self.sender = Sender(
            self.store,
            self.payee,
            self.payee if self.rules.gate_s is not None else None,
            self.clock,
            rules=self.rules,
            rate=1000,
            sleep=_at_once,
            jitter=self.random.random,
        )

    def end(self) -> None:
        closing = self.store.close()
        if closing is not None:
            run(closing)

    async def open_account(self, tenant: str = "acme", customer: str | None = None) -> None:
        found = customer or self.payee.stripe.customer(name=tenant)
        self.customers[tenant] = found
        await self.set_periods(tenant, self.periods)

    async def set_periods(self, tenant: str, periods: tuple[Period, ...], status: str = "active") -> None:
        account = Account(tenant, self.customers[tenant], "sub_1", status, periods=periods, read_ns=1)
        await self.store.save_account(account, actor="test", at_ns=self.clock.wall_ns())

    async def use(
        self,
        tokens: int,
        tenant: str = "acme",
        *,
        ago_s: int = 0,
        took_us: int = 5,
        meter: str = "tokens",
        sandbox: bool = False,
    ) -> None:
        """``ago_s``: when the call began."""
        at_s = self.now_s - ago_s
        what = {meter: tokens}
        record = used(next(self._numbers), at_s, tenant=tenant, sandbox=sandbox, took_us=took_us, **what)
        position = await self.store.position()
        await self.store.append([record], Position(position.segment + 1, 16))
        if not sandbox:
            self.used.setdefault((tenant, meter), []).append((at_s * 1_000_000 + took_us, tokens))

    async def round(self) -> None:
        """What the process does every now and then; it may die in it, and another one begins."""
        try:
            await self.assigner.assign()
            await self.sender.send()
        except Killed:
            self.end()
            self.begin()

    async def settle(self, rounds: int = 600) -> None:
        """Fair weather, until nothing is open any more."""
        self.payee.fault_share, self.payee.out = 0.0, False
        for _ in range(rounds):
            self.payee.advance(300)
            await self.round()
            if not await self.open_rows() and not await self.store.marks(before=self.now_s):
                return
        raise AssertionError(f"still open: {await self.open_rows()}")

    async def open_rows(self) -> list[OutboxRow]:
        return await self.rows("pending", "sent")

    async def rows(self, *states: str) -> list[OutboxRow]:
        return await self.store.rows(RowQuery(states=states, limit=100_000))

    def billed(self, tenant: str = "acme", periods: Iterable[Period] | None = None, event: str = EVENT) -> list[int]:
        """The payee's own sums per period, without any lag."""
        customer = self.customers[tenant]
        far_ns = self.clock.wall_ns() + 10**18
        summary = self.payee.stripe.summary
        return [int(summary(event, customer, p.start_s, p.end_s, far_ns)) for p in periods or self.periods]

    def served(self, tenant: str = "acme", periods: Iterable[Period] | None = None, meter: str = "tokens") -> list[int]:
        """What was used in any of the periods, each call in the first one that its minute touches."""
        found = dict.fromkeys(periods or self.periods, 0)
        for ended_us, tokens in self.used.get((tenant, meter), []):
            touched = [p for p in found if p.start_s // 60 <= ended_us // 60_000_000 < -(-p.end_s // 60)]
            if any(p.start_s * 10**6 <= ended_us < p.end_s * 10**6 for p in touched):
                found[touched[0]] += tokens
        return list(found.values())


async def _at_once(seconds: float) -> None:
    return None
