"""What the rooms above need from a store, in their own words. Adapters live in ``sidecar.storage``.

Every method raises StoreError when the store fails. Each adapter passes the contract suites in ``tests/contract``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sidecar.core.leases import Answer, Ask
from sidecar.core.records import UsageRecord
from sidecar.core.values import AccessState, ApiKey, Tenant, Terms


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the journal: everything before byte ``offset`` of segment ``segment`` is in the ledger."""

    segment: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """Sums over some entries. ``cost`` in micro-units; times in microseconds; bytes are of bodies."""

    requests: int = 0
    units: int = 0
    cost: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    total_us: int = 0
    upstream_us: int = 0


@dataclass(frozen=True, slots=True)
class UsageReport:
    """A tenant's usage over [since_us, until_us), Unix microseconds, both on whole minutes.

    ``routes`` and ``statuses`` (``2xx``, ``none`` for no reply) split ``totals``; ``meters`` holds each meter's sum,
    those of anomalies (core.records) under their names with ``?``. ``latency`` is the histogram of ``total_us``:
    bucket (core.latency) to calls. ``sandbox`` is the usage of test keys, which is in none of the others.
    ``indeterminate``: calls that ended unknown, ``totals`` count them too.
    """

    tenant: str
    since_us: int
    until_us: int
    totals: UsageTotals
    routes: dict[str, UsageTotals]
    statuses: dict[str, UsageTotals]
    meters: dict[str, int]
    latency: dict[int, int]
    sandbox: UsageTotals
    indeterminate: int


# What usage can be grouped by: parts that are texts (``status`` is ``2xx`` or ``none``), and at most one of time, whose
# value is the Unix minute at which the hour, the day or the month (UTC) begins.
PARTS = ("tenant", "plan", "key", "route", "status", "sandbox")
TIMES = ("minute", "hour", "day", "month")
Group = tuple[str | int, ...]  # a value for each part that was asked for; ``sandbox`` is 0 or 1


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """A page of grouped usage over [since_us, until_us), Unix microseconds on whole minutes.

    ``by``: of PARTS and TIMES, each once, at most one time; its order is the order of the rows. ``tenant`` None is all
    of them; ``plan``, ``key`` and ``route`` narrow further; ``sandbox`` None is live and test keys. ``after``: the
    group of the last row of the page before; None for the first page.
    """

    by: tuple[str, ...]
    since_us: int
    until_us: int
    tenant: str | None = None
    plan: str | None = None
    key: str | None = None
    route: str | None = None
    sandbox: bool | None = False
    after: Group | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One group's sums; ``meters``, ``latency`` and ``indeterminate`` as in UsageReport."""

    group: Group
    totals: UsageTotals
    indeterminate: int
    meters: dict[str, int]
    latency: dict[int, int]


@dataclass(frozen=True, slots=True)
class EventPage:
    """Single events, by tenant and then by time; ``after`` leads to the next page, None at the end."""

    events: tuple[UsageRecord, ...]
    after: str | None


class Lookups(Protocol):
    """What is looked up to know a caller."""

    async def tenant(self, name: str) -> Tenant | None: ...

    async def key(self, key_id: str) -> ApiKey | None: ...

    async def keys_version(self) -> int:
        """Grows with every change of a tenant or a key; caches poll it."""
        ...


class TenantStore(Lookups, Protocol):
    """Tenants and their keys."""

    async def tenants(self, *, after: str = "", limit: int = 100) -> list[Tenant]:
        """By name, ascending, starting after ``after``."""
        ...

    async def add_tenant(self, tenant: Tenant, *, actor: str) -> None:
        """Conflict when the name is taken."""
        ...

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
        """Changes what is not None; ``terms`` as a whole. NotFound when there is no such tenant."""
        ...

    async def keys(self, tenant: str, *, after: str = "", limit: int = 100) -> list[ApiKey]:
        """By id, ascending, revoked and expired ones too."""
        ...

    async def add_key(self, key: ApiKey, *, actor: str) -> None:
        """Conflict when the id is taken."""
        ...

    async def end_key(self, key_id: str, *, at_ns: int, revoked: bool, actor: str) -> ApiKey:
        """Revokes the key at ``at_ns``, or (``revoked`` False) lets it expire then; an earlier end stays. NotFound."""
        ...


class JournalSink(Protocol):
    """Where one journal is shipped to: the ledger's side that takes entries and lets go of old ones."""

    async def position(self) -> Position:
        """How much of this node's journal is in the ledger."""
        ...

    async def append(self, records: Sequence[bytes], position: Position) -> int:
        """In one transaction: stores done records (core.records), adds the really new ones to the sums, and moves
        the journal position. Records whose event id is known are ignored; malformed ones are set aside and counted, so
        that they hold nothing up. Returns how many were new."""
        ...

    async def rejected(self) -> int:
        """How many malformed records were ever set aside."""
        ...

    async def forget_events(self, *, before_us: int, at_most: int) -> int:
        """Deletes about ``at_most`` single events older than ``before_us`` (a store with partitions: whole ones at
        once); sums stay. Returns how many went; less than ``at_most`` means that none is left."""
        ...

    async def forget_sums(self, *, minutes_before_us: int, hours_before_us: int, at_most: int) -> int:
        """Deletes at most ``at_most`` rows of sums per minute and per hour older than the given times. The sums per
        hour go on answering for whole hours of which the minutes are gone. Returns how many went."""
        ...


class Ledger(JournalSink, Protocol):
    """Append-only entries and the sums over them. One ledger takes the journals of several processes; an adapter is
    opened for one of them, whose position it keeps."""

    async def usage(self, tenant: str, *, since_us: int, until_us: int) -> UsageReport: ...

    async def usage_rows(self, query: UsageQuery) -> list[UsageRow]:
        """At most ``query.limit`` groups that have any usage, ascending by group, from sums and never from events."""
        ...

    async def meter_total(self, tenant: str, meter: str, *, since_us: int, until_us: int, sandbox: bool) -> int:
        """The meter's sum over whole minutes in [since_us, until_us)."""
        ...

    async def events(
        self, *, tenant: str | None, since_us: int, until_us: int, after: str | None, limit: int
    ) -> EventPage:
        """Single events that began in [since_us, until_us), as long as they are kept; ``tenant`` None: of all tenants.

        Paging sees every event that was there when it began exactly once. ValueError when ``after`` is not from here.
        """
        ...


class LimitStore(Protocol):
    """Who counts the limits that nodes share; ``core.leases`` says what is asked and what an answer means."""

    async def lease(self, ask: Ask) -> Answer:
        """Decides one call, all or nothing. StoreDown: no answer in time; the call may have been counted."""
        ...

    async def ready(self) -> None:
        """Whether it answers; finds it again where it has moved. StoreDown."""
        ...

    async def close(self) -> None: ...
