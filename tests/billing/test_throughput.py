"""How many customers one reporter serves, at Stripe's limits and on a virtual clock.

The store, the assigner, the sender and the verifier are the real ones; the payee takes as many calls per second as
Stripe does, refuses a second event of a customer and meter while one is under way, and answers after 0.2 s.
"""

import asyncio
import heapq
import itertools
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from demo.fakestripe import FakeStripe
from sidecar.billing.outbox import Assigner, Events, Rules, Sender
from sidecar.billing.pace import Pace
from sidecar.billing.payees import LIVE_RATE, LIVE_READS
from sidecar.billing.reconcile import Verifier
from sidecar.core.accounts import Account
from sidecar.core.billing import OutboxRow, Outcome
from sidecar.core.clock import NS_PER_S, ManualClock
from sidecar.core.ports import Position
from sidecar.storage import SqliteStore
from tests.billing.books import PERIOD, START_S
from tests.billing.records import used

METERS = ("requests", "tokens", "bytes")
STRIPE_EVENTS_PER_S, STRIPE_READS_PER_S = 1_000, 25
ANSWER_S = 0.2
WINDOW_S = 300


class Busy:
    """The store, and how many of its calls are under way."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.calls = 0
        self.idle = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*given: Any, **named: Any) -> Any:
            self.calls += 1
            self.idle.clear()
            try:
                return await method(*given, **named)
            finally:
                self.calls -= 1
                if not self.calls:
                    self.idle.set()

        return call


class Time:
    """``sleep`` on a virtual clock: it moves on when everybody sleeps."""

    def __init__(self, clock: ManualClock, store: Busy) -> None:
        self.clock, self.store = clock, store
        self._numbers = itertools.count()
        self._asleep: list[tuple[int, int, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        at_ns = self.clock.monotonic_ns() + round(seconds * NS_PER_S)
        heapq.heappush(self._asleep, (at_ns, next(self._numbers), event))
        await event.wait()

    async def run(self, work: Coroutine[Any, Any, int]) -> float:
        """Does the work; how many seconds it took."""
        begun_ns, task = self.clock.monotonic_ns(), asyncio.ensure_future(work)
        while not task.done():
            for _ in range(6):  # whoever was woken goes on until it sleeps or asks the store
                await asyncio.sleep(0)
            if self.store.calls:
                await self.store.idle.wait()
            elif self._asleep:
                at_ns, _, event = heapq.heappop(self._asleep)
                self.clock.advance(max(0, at_ns - self.clock.monotonic_ns()) / NS_PER_S)
                event.set()
        task.result()
        return (self.clock.monotonic_ns() - begun_ns) / NS_PER_S


class Limited:
    """``Sink`` and ``Sums`` of the fake Stripe behind Stripe's limits. ``refused``: calls above them."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.time: Time | None = None
        self.stripe = FakeStripe(clock)
        self.under_way: set[tuple[str, str]] = set()
        self.refused = 0
        self._in_second: dict[tuple[str, int], int] = {}

    async def send(self, row: OutboxRow) -> Outcome:
        pair = row.event_name, row.customer
        if pair in self.under_way or not self._is_admitted("events", STRIPE_EVENTS_PER_S):
            self.refused += 1
            return Outcome("retry", http=429)
        self.under_way.add(pair)
        await self._answer()
        self.under_way.remove(pair)
        now_ns = self.clock.wall_ns()
        self.stripe.meter_event(*pair, str(row.value), row.identifier, row.timestamp_s, now_ns)
        return Outcome("accepted", http=200)

    async def hours(self, event_name: str, customer: str, begin: int, end: int) -> dict[int, int]:
        assert self._is_admitted("sums", STRIPE_READS_PER_S)
        await self._answer()
        now_ns = self.clock.wall_ns()
        summary = self.stripe.summary
        found = {h: int(summary(event_name, customer, h * 3600, h * 3600 + 3600, now_ns)) for h in range(begin, end)}
        return {hour: value for hour, value in found.items() if value}

    async def total(self, event_name: str, customer: str, begin: int, end: int) -> int:
        raise AssertionError("nothing differs: no minute is to be read")

    def _is_admitted(self, what: str, most: int) -> bool:
        key = what, self.clock.wall_ns() // NS_PER_S
        self._in_second[key] = self._in_second.get(key, 0) + 1
        return self._in_second[key] <= most

    async def _answer(self) -> None:
        assert self.time is not None
        await self.time.sleep(ANSWER_S)


class Paced:
    """The sums, as often as the sidecar asks for them."""

    def __init__(self, payee: Limited, pace: Pace) -> None:
        self.payee, self.pace = payee, pace
        self.total = payee.total

    async def hours(self, event_name: str, customer: str, begin: int, end: int) -> dict[int, int]:
        await self.pace.wait()
        return await self.payee.hours(event_name, customer, begin, end)


async def filled(store: SqliteStore, customers: int) -> None:
    """Each customer used each meter in one window."""
    records = []
    for number in range(customers):
        tenant = f"t{number:05}"
        account = Account(tenant, f"cus_{number:05}", "sub_1", "active", periods=(PERIOD,), read_ns=1)
        await store.save_account(account, actor="test", at_ns=1)
        records.append(used(number, START_S, tenant=tenant, requests=1, tokens=2 + number, bytes=7))
    for at in range(0, len(records), 5_000):
        await store.append(records[at : at + 5_000], Position(at + 1, 16))


@pytest.mark.parametrize("customers", [200, pytest.param(10_000, marks=pytest.mark.chaos)])
async def test_customers_with_three_meters_are_reported_within_their_window(tmp_path: Path, customers: int) -> None:
    """At the default rate a window's usage is at Stripe long before the next window closes, and an hour's is verified
    before the next hour is to be; no call is above a limit of Stripe's."""
    clock = ManualClock(wall_ns=START_S * NS_PER_S)
    payee = Limited(clock)
    names = {meter: f"acme_{meter}" for meter in METERS}
    for name in names.values():
        payee.stripe.meter(name)
    payee.stripe.world.customers.update({f"cus_{number:05}": {} for number in range(customers)})
    real = SqliteStore.open(tmp_path / "a.db")
    await filled(real, customers)
    store: Any = Busy(real)
    payee.time = time = Time(clock, store)
    clock.advance(WINDOW_S)
    rules = Rules()
    sender = Sender(store, payee, Unused(), clock, rules=rules, rate=LIVE_RATE, sleep=time.sleep)

    async def report() -> int:
        made = await Assigner(store, Events(added=names), rules.terms, clock).assign()
        while await sender.send():
            pass
        return made

    took_s = await time.run(report())
    assert {state: count for state, (count, _) in (await real.row_counts()).items()} == {"accepted": 3 * customers}
    assert payee.refused == 0
    assert took_s <= WINDOW_S * customers / 10_000 + 5
    clock.advance(2 * 3600)
    verifier = Verifier(store, Paced(payee, Pace(LIVE_READS, clock, sleep=time.sleep)), clock)

    async def verify() -> int:
        verified = await verifier.verify()
        while verifier.more:
            verified += await verifier.verify()
        return verified

    took_s = await time.run(verify())
    assert {state: count for state, (count, _) in (await real.row_counts()).items()} == {"verified": 3 * customers}
    assert took_s <= 3_600 * customers / 10_000 + 5
    real.close()


class Unused:
    """Sums that nobody needs: nothing is old here."""

    async def total(self, event_name: str, customer: str, begin: int, end: int) -> int:
        raise AssertionError("nothing is read back")

    async def hours(self, event_name: str, customer: str, begin: int, end: int) -> dict[int, int]:
        raise AssertionError("nothing is read back")
