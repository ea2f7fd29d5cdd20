"""The admin room on dictionaries: a store and a ledger that keep the ports' promises in memory."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.admin import (
    AdmissionReading,
    Build,
    Connections,
    CreditDesk,
    JournalReading,
    Operations,
    Sources,
    UpstreamReading,
)
from sidecar.core.clock import NS_PER_S, ManualClock
from sidecar.core.errors import Conflict, NotFound
from sidecar.core.money import Money
from sidecar.core.policy import Costs, MeterPrice, Plan, Price, Route, Snapshot
from sidecar.core.ports import EventPage, Position, UsageQuery, UsageReport, UsageRow, UsageTotals
from sidecar.core.records import UsageRecord, encode_record
from sidecar.core.values import AccessState, ApiKey, Tenant, Terms
from sidecar.metering import Tallies
from sidecar.storage import SqliteStore


class DictStore:
    """A TenantStore in memory that notes who did what in ``audit``. Nobody pays."""

    def __init__(self) -> None:
        self._tenants: dict[str, Tenant] = {}
        self._keys: dict[str, ApiKey] = {}
        self.audit: list[tuple[str, str]] = []

    async def tenant(self, name: str) -> Tenant | None:
        return self._tenants.get(name)

    async def account(self, tenant: str) -> None:
        return None

    async def tenants(self, *, after: str = "", limit: int = 100) -> list[Tenant]:
        return [self._tenants[name] for name in sorted(self._tenants) if name > after][:limit]

    async def add_tenant(self, tenant: Tenant, *, actor: str) -> None:
        if tenant.name in self._tenants:
            raise Conflict(f"tenant {tenant.name} exists already")
        self._tenants[tenant.name] = tenant
        self.audit.append((actor, "add_tenant"))

    async def set_tenant(
        self,
        name: str,
        *,
        plan: str | None = None,
        state: AccessState | None = None,
        terms: Terms | None = None,
        actor: str,
        at_ns: int,
    ) -> Tenant:
        if name not in self._tenants:
            raise NotFound(f"there is no tenant {name}")
        old = self._tenants[name]
        own = old.terms if terms is None else terms
        changed = {"anchor": own.anchor, "time_zone": own.time_zone, "overrides": own.overrides}
        self._tenants[name] = replace(old, plan=plan or old.plan, state=state or old.state, **changed)
        self.audit.append((actor, "set_tenant"))
        return self._tenants[name]

    async def key(self, key_id: str) -> ApiKey | None:
        return self._keys.get(key_id)

    async def keys(self, tenant: str, *, after: str = "", limit: int = 100) -> list[ApiKey]:
        ours = [key for _, key in sorted(self._keys.items()) if key.tenant == tenant and key.id > after]
        return ours[:limit]

    async def add_key(self, key: ApiKey, *, actor: str) -> None:
        if key.id in self._keys:
            raise Conflict(f"key {key.id} exists already")
        self._keys[key.id] = key
        self.audit.append((actor, "add_key"))

    async def end_key(self, key_id: str, *, at_ns: int, revoked: bool, actor: str) -> ApiKey:
        key = self._keys.get(key_id)
        if key is None:
            raise NotFound(f"there is no key {key_id}")
        field = "revoked_ns" if revoked else "expires_ns"
        present = getattr(key, field)
        self._keys[key_id] = replace(key, **{field: at_ns if present is None else min(present, at_ns)})
        self.audit.append((actor, "end_key"))
        return self._keys[key_id]

    async def keys_version(self) -> int:
        return len(self.audit)


class DictLedger:
    """A Ledger that answers with what a test put in; it notes what it was asked."""

    def __init__(self) -> None:
        self.totals = UsageTotals()
        self.sandbox = UsageTotals()
        self.meters: dict[str, int] = {}
        self.latency: dict[int, int] = {}
        self.asked: list[tuple[int, int]] = []

    async def position(self) -> Position:
        return Position()

    async def append(self, records: Sequence[bytes], position: Position) -> int:
        return len(records)

    async def usage(self, tenant: str, *, since_us: int, until_us: int) -> UsageReport:
        self.asked.append((since_us, until_us))
        split = {"search": self.totals} if self.totals.requests else {}
        statuses = {"2xx": self.totals} if self.totals.requests else {}
        return UsageReport(
            tenant, since_us, until_us, self.totals, split, statuses, self.meters, self.latency, self.sandbox, 0
        )

    async def usage_rows(self, query: UsageQuery) -> list[UsageRow]:
        return []

    async def events(
        self, *, tenant: str | None, since_us: int, until_us: int, after: str | None, limit: int
    ) -> EventPage:
        return EventPage((), None)

    async def rejected(self) -> int:
        return 0

    async def meter_total(self, tenant: str, meter: str, *, since_us: int, until_us: int, sandbox: bool) -> int:
        return 0 if sandbox else self.meters.get(meter, 0)

    async def forget_events(self, *, before_us: int, at_most: int) -> int:
        return 0

    async def forget_sums(self, *, minutes_before_us: int, hours_before_us: int, at_most: int) -> int:
        return 0


def make_mint() -> Callable[..., Any]:
    """Keys whose ids count up; the text stands for a secret."""
    numbers = itertools.count(1)

    def mint(
        *,
        tenant: str,
        name: str,
        sandbox: bool,
        scopes: tuple[str, ...] | None,
        expires_ns: int | None,
        now_ns: int,
    ) -> tuple[ApiKey, Any]:
        key_id = f"k{next(numbers):03}"
        row = ApiKey(key_id, tenant, name, sandbox, b"\0" * 32, "p1", scopes, now_ns, expires_ns)
        return row, SimpleNamespace(text=f"sc_{'test' if sandbox else 'live'}_{key_id}secret")

    return mint


PRO_PRICE = Price(Money(Fraction(29), "USD"), (MeterPrice("requests", 100, 10, Money(Fraction("0.50"), "USD")),))
SNAPSHOT = Snapshot(
    plans={
        "free": Plan("free"),
        "pro": Plan("pro", price=PRO_PRICE, test_keys="sandbox"),
        "sandbox": Plan("sandbox"),
    },
    tenants={"declared": Tenant("declared", "free")},
    costs=Costs("EUR"),
)


class World:
    """Operations with everything they stand on."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = DictStore()
        self.ledger = DictLedger()
        self.changes: list[tuple[str | None, str | None]] = []
        self.flushes = 0
        self.tallies = Tallies()
        self.reasons: list[str] = []
        self.warnings: list[str] = []
        self.operations = Operations(
            self.store,
            self.ledger,
            lambda: SNAPSHOT,
            make_mint(),
            self.clock,
            self.changed,
            self.flush,
        )
        self.sources = Sources(
            tallies=self.tallies.read,
            admission=lambda: AdmissionReading(
                buckets=3,
                buckets_bound=9,
                admitted_units={"pro": 5},
                limit_refused={("pro", "steady"): 2},
                quota_refused={("free", "monthly"): 1},
            ),
            journal=lambda: JournalReading(bytes=10, bytes_bound=100, lag_s=0.5, unshipped=2),
            upstreams=lambda: (
                UpstreamReading("api", "http://127.0.0.1:9000", True, 1, 2, 0, "closed", {"connect": 4}),
            ),
            connections=lambda: Connections(7, 20_000),
            build=lambda: Build("0.1.0", "3.11.7", "abcd"),
            currency=lambda: "USD",
        )

    async def flush(self) -> None:
        self.flushes += 1

    async def changed(self, tenant: str | None, key_id: str | None) -> None:
        self.changes.append((tenant, key_id))


@pytest.fixture
def world() -> World:
    return World()


class Book:
    """Operations on a real store in a file, and what was put into its ledger."""

    def __init__(self, path: Path) -> None:
        # 2026-11-23T12:34:56Z
        self.clock = ManualClock(wall_ns=1_795_437_296 * NS_PER_S)
        self.store = SqliteStore.open(path)
        routes = tuple(Route(name, f"/{name}", "api") for name in ("search", "chat"))
        self.snapshot = replace(SNAPSHOT, routes=routes, costs=Costs("USD", per_ms=Fraction(1, 1000)))
        self.flushes = 0
        self.credits = CreditDesk(self.store, self.store, lambda: self.snapshot, self.clock, self.changed, self.flush)
        self.operations = Operations(
            self.store,
            self.store,
            lambda: self.snapshot,
            make_mint(),
            self.clock,
            self.changed,
            self.flush,
            credits=self.credits,
        )
        self._position = Position()

    async def changed(self, tenant: str | None, key_id: str | None) -> None:
        """Nobody has cached anything."""

    async def flush(self) -> None:
        self.flushes += 1

    @property
    def now_us(self) -> int:
        return self.clock.wall_ns() // 1_000

    async def add(self, *records: UsageRecord) -> None:
        """Moves records into the ledger."""
        self._position = Position(0, self._position.offset + 1)
        await self.store.append([encode_record(record) for record in records], self._position)

    async def tenant(self, name: str, plan: str, created_us: int = 1) -> None:
        await self.store.add_tenant(Tenant(name, plan, created_ns=created_us * 1_000), actor="me")

    def record(self, number: int, **changes: Any) -> UsageRecord:
        """A call of acme an hour ago, with an event id made of ``number``."""
        made = UsageRecord(
            f"00000000-0000-7000-8000-{number:012x}", self.now_us - 3_600_000_000, "acme", "k1", "pro", False, "search",
            "GET", 200, "ok", 5, 1_000, 10, 20, 1_000, 900, 500, {"requests": 1},
        )  # fmt: skip
        return replace(made, **changes)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path / "sidecar.db")
    yield made
    made.store.close()
