"""What the rooms above need from a store, in their own words. Adapters live in ``sidecar.storage``.

Every method raises StoreError when the store fails. Each adapter passes the contract suites in ``tests/contract``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sidecar.core.values import AccessState, ApiKey, Tenant


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

    ``routes`` and ``statuses`` (``2xx``, ``none`` for no reply) split ``totals``; ``meters`` holds each meter's sum.
    ``sandbox`` is the usage of test keys, which is in none of the others. ``indeterminate``: calls that ended unknown.
    """

    tenant: str
    since_us: int
    until_us: int
    totals: UsageTotals
    routes: dict[str, UsageTotals]
    statuses: dict[str, UsageTotals]
    meters: dict[str, int]
    sandbox: UsageTotals
    indeterminate: int


class TenantStore(Protocol):
    """Tenants and their keys."""

    async def tenant(self, name: str) -> Tenant | None: ...

    async def tenants(self, *, after: str = "", limit: int = 100) -> list[Tenant]:
        """By name, ascending, starting after ``after``."""
        ...

    async def add_tenant(self, tenant: Tenant, *, actor: str) -> None:
        """Conflict when the name is taken."""
        ...

    async def set_tenant(
        self, name: str, *, plan: str | None = None, state: AccessState | None = None, actor: str, at_ns: int
    ) -> Tenant:
        """Changes what is not None. NotFound when there is no such tenant."""
        ...

    async def key(self, key_id: str) -> ApiKey | None: ...

    async def keys(self, tenant: str, *, after: str = "", limit: int = 100) -> list[ApiKey]:
        """By id, ascending, revoked and expired ones too."""
        ...

    async def add_key(self, key: ApiKey, *, actor: str) -> None:
        """Conflict when the id is taken."""
        ...

    async def end_key(self, key_id: str, *, at_ns: int, revoked: bool, actor: str) -> ApiKey:
        """Revokes the key at ``at_ns``, or (``revoked`` False) lets it expire then; an earlier end stays. NotFound."""
        ...

    async def keys_version(self) -> int:
        """Grows with every change of a tenant or a key; caches poll it."""
        ...


class Ledger(Protocol):
    """Append-only entries and the sums over them."""

    async def position(self) -> Position: ...

    async def append(self, records: Sequence[bytes], position: Position) -> int:
        """In one transaction: stores done records (core.records), adds the really new ones to the rollups, and moves
        the journal position. Records whose event id is known are ignored; malformed ones are set aside and counted, so
        that they hold nothing up. Returns how many were new."""
        ...

    async def rejected(self) -> int:
        """How many malformed records were ever set aside."""
        ...

    async def usage(self, tenant: str, *, since_us: int, until_us: int) -> UsageReport: ...

    async def meter_total(self, tenant: str, meter: str, *, since_us: int, until_us: int, sandbox: bool) -> int:
        """The meter's sum over whole minutes in [since_us, until_us)."""
        ...

    async def forget_events(self, *, before_us: int, at_most: int) -> int:
        """Deletes at most ``at_most`` single events older than ``before_us``; rollups stay. Returns how many went."""
        ...
