"""What the metrics are made of: small immutable readings, taken on the loop's thread just before a scrape is written.

Every reading is bounded by the configuration (routes, plans, limits, targets), never by traffic or tenants.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from sidecar.billing import BillingReading
from sidecar.core.accounts import PaymentCounts
from sidecar.metering import TallyReading


@dataclass(frozen=True, slots=True)
class AdmissionReading:
    """The state of limits and quotas. ``admitted_units`` by plan; refusals by plan and name of the limit or quota.

    ``buckets``: counters held in memory of at most ``buckets_bound``; ``overflows``: look-ups that ended at a shared
    counter because none was left; ``quota_counters``: tenants' quotas held; ``quota_blind``: requests decided before
    what was used earlier could be read. ``limit_blind``: by plan, limit and what was decided, while the store that
    counts limits for all nodes did not answer; ``store_calls``, ``store_failures``: of that store. ``shadow_refused``:
    by plan and name, what limits and quotas in shadow mode would have refused.
    ``thresholds``: by plan, quota and percent.
    """

    buckets: int = 0
    buckets_bound: int = 0
    overflows: int = 0
    evictions: int = 0
    quota_counters: int = 0
    quota_blind: int = 0
    admitted_units: Mapping[str, int] = field(default_factory=dict)
    limit_refused: Mapping[tuple[str, str], int] = field(default_factory=dict)
    quota_refused: Mapping[tuple[str, str], int] = field(default_factory=dict)
    limit_blind: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    store_calls: int = 0
    store_failures: int = 0
    shadow_refused: Mapping[tuple[str, str], int] = field(default_factory=dict)
    thresholds: Mapping[tuple[str, str, int], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JournalReading:
    """The way of usage to the ledger. ``bytes``: held by the journal's files, of at most ``bytes_bound``.

    ``unshipped``: records that are not yet in the ledger; ``lag_s``: the age of the oldest, 0 when there is none.
    ``refused``: calls that found the journal full. ``shipped``: records handed to the ledger, ``new``: those it did not
    know, ``rejected``: those that could not be read, ``failures``: batches it could not take. Of the start:
    ``recovered`` records, ``indeterminate`` calls without an end, ``torn_bytes`` cut off, ``corrupt_segments`` kept
    aside.
    """

    bytes: int = 0
    bytes_bound: int = 0
    open_intents: int = 0
    unshipped: int = 0
    lag_s: float = 0.0
    fsync_failures: int = 0
    refused: int = 0
    shipped: int = 0
    new: int = 0
    rejected: int = 0
    failures: int = 0
    recovered: int = 0
    indeterminate: int = 0
    torn_bytes: int = 0
    corrupt_segments: int = 0


@dataclass(frozen=True, slots=True)
class UpstreamReading:
    """One target of one upstream. ``breaker``: ``closed``, ``half_open`` or ``open``.

    ``waiting``: requests that wait for a connection. ``failures`` maps the kinds of core.errors.UpstreamError to
    counts. ``replies``: heads by status class, 1 for 1xx. ``retries`` maps why (``connect``, ``race``) to counts.
    """

    upstream: str
    target: str
    up: bool
    in_use: int = 0
    idle: int = 0
    waiting: int = 0
    breaker: str = "closed"
    failures: Mapping[str, int] = field(default_factory=dict)
    replies: tuple[int, ...] = ()
    retries: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Connections:
    """Client connections that are open, of at most ``bound``."""

    open: int = 0
    bound: int = 0


@dataclass(frozen=True, slots=True)
class MarginReading:
    """Revenue, cost, and of the revenue what credits brought in and of prepaid use what nobody paid, in micro-units by
    plan and route: ``sides`` of the running month so far, ``periods`` of each tenant's running billing period. Of the
    month the price floor per successful request in micro-units (None: there was none), and the tenants below it.
    ``age_s``: None before it was first reckoned."""

    sides: Mapping[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    periods: Mapping[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    currency: str = ""
    floor: Fraction | None = None
    below: int = 0
    age_s: float | None = None

    def aged(self, seconds: float) -> "MarginReading":
        """The same, found so long ago."""
        return replace(self, age_s=seconds)


@dataclass(frozen=True, slots=True)
class Build:
    """``version`` of the sidecar, ``python`` it runs on, ``policy``: a short digest of the snapshot in use."""

    version: str
    python: str
    policy: str


@dataclass(frozen=True, slots=True)
class ReloadReading:
    """How often a new configuration was taken, and refused; ``refused_last``: what is on the disk is not in force."""

    taken: int = 0
    refused: int = 0
    refused_last: bool = False

    def taken_once(self) -> "ReloadReading":
        return ReloadReading(self.taken + 1, self.refused, False)

    def refused_once(self) -> "ReloadReading":
        return ReloadReading(self.taken, self.refused + 1, True)


@dataclass(frozen=True, slots=True)
class WorkersReading:
    """Processes that serve calls, of those that should; ``replaced``: how many ended by themselves."""

    serving: int = 1
    bound: int = 1
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class Readings:
    """Everything one scrape shows, at one moment."""

    tallies: TallyReading
    admission: AdmissionReading
    journal: JournalReading
    upstreams: tuple[UpstreamReading, ...]
    connections: Connections
    build: Build
    currency: str
    margin: MarginReading = MarginReading()
    payments: PaymentCounts = field(default_factory=PaymentCounts)
    billing: BillingReading | None = None
    reloads: ReloadReading = ReloadReading()
    workers: WorkersReading = WorkersReading()


async def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the readings come from. Each callable but ``refresh`` returns at once, without I/O; they run on the loop's
    thread."""

    tallies: Callable[[], TallyReading]
    admission: Callable[[], AdmissionReading]
    journal: Callable[[], JournalReading]
    upstreams: Callable[[], tuple[UpstreamReading, ...]]
    connections: Callable[[], Connections]
    build: Callable[[], Build]
    currency: Callable[[], str]  # of the costs
    margin: Callable[[], MarginReading] = MarginReading
    payments: Callable[[], PaymentCounts] = PaymentCounts
    billing: Callable[[], BillingReading | None] = lambda: None  # None: usage is reported to nobody
    reloads: Callable[[], ReloadReading] = ReloadReading
    workers: Callable[[], WorkersReading] = WorkersReading
    refresh: Callable[[], Awaitable[None]] = _nothing  # before a scrape, where others have to be asked

    def read(self) -> Readings:
        """All readings, now."""
        return Readings(
            self.tallies(),
            self.admission(),
            self.journal(),
            self.upstreams(),
            self.connections(),
            self.build(),
            self.currency(),
            self.margin(),
            self.payments(),
            self.billing(),
            self.reloads(),
            self.workers(),
        )
