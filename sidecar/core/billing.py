"""Usage on its way to the payee: windows, rows of the outbox, and the ports to whoever takes and adds up events."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

# The states of a row. ``pending``: never attempted. ``sent``: attempted, the outcome is unknown or was to be retried.
# ``accepted``: the payee said so. ``verified``: seen in the payee's own sums. ``rejected``, ``conflict``, ``expired``
# and ``held`` wait for a person: refused by the payee; its sums contradict us; too old to be taken; its period is
# closed. ``superseded``: a newer total of the same hour, or the row that it was carried into, took its place.
# ``dropped``: a person wrote it off.
ROW_STATES = (
    "pending",
    "sent",
    "accepted",
    "verified",
    "rejected",
    "conflict",
    "expired",
    "held",
    "superseded",
    "dropped",
)
OPEN_STATES = ("pending", "sent")


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """A billing period as the payee has it, [start_s, end_s) in Unix seconds, on any second.

    Which minutes of usage belong to it is told by its account (``Account.minutes``): it depends on its neighbours.
    """

    start_s: int
    end_s: int

    @property
    def stamps(self) -> range:
        """The Unix minutes that lie wholly within the period: those that a row may be stamped with."""
        return range(-(-self.start_s // 60), self.end_s // 60)


@dataclass(frozen=True, slots=True)
class Window:
    """Usage to be asked for together: [begin, end) in Unix minutes, all of them of one period.

    ``free``: [since_us, until_us) in Unix microseconds, each within one minute: what ended there is asked of nobody,
    for no subscription ran then. ``hourly``: the events' meter keeps the newest total per hour (a set) instead of
    adding: then the window is one whole hour, the row holds the hour's whole total and its stamp is the half hour.
    """

    tenant: str
    customer: str
    begin: int
    end: int
    period: Period
    hourly: bool = False
    free: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One event for the payee. ``minute``: the Unix minute it is stamped in (at its 30th second); of rows that add, no
    other row of the same event name and customer has it. ``version`` counts the totals of an hour, 0 for rows that
    add. ``round`` counts the idempotency keys that were used up. ``next_ns``: not to be tried before; Unix nanoseconds.
    """

    id: int
    tenant: str
    customer: str
    meter: str
    event_name: str
    begin: int
    end: int
    period: Period
    minute: int
    version: int
    value: int
    identifier: str
    state: str
    created_ns: int
    first_attempt_ns: int | None = None
    attempts: int = 0
    round: int = 0
    next_ns: int = 0
    http: int = 0
    request_id: str = ""
    note: str = ""
    settled_ns: int | None = None
    verified_ns: int | None = None

    @property
    def timestamp_s(self) -> int:
        """Never on the edge of a minute: the payee's sums disagree with themselves about edges."""
        return self.minute * 60 + 30

    @property
    def hourly(self) -> bool:
        return self.version > 0


@dataclass(frozen=True, slots=True)
class RowQuery:
    """Which rows, by id, starting after ``after``. None: all. ``since``/``until``: of the stamped minute."""

    tenant: str | None = None
    customer: str | None = None
    event_name: str | None = None
    states: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    after: int = 0
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class Parity:
    """The book beside the invoice line, written down before the invoice is final: integers of the meter.

    ``billed`` None: the invoice has no line for it (yet). ``final``: the invoice could not be changed any more.
    """

    tenant: str
    customer: str
    meter: str
    period: Period
    invoice: str
    ledger: int
    assigned: int
    accepted: int
    verified: int
    payee: int
    billed: int | None
    final: bool
    at_ns: int

    @property
    def agrees(self) -> bool:
        return self.ledger == self.assigned == self.payee and self.billed in (None, self.payee)


@dataclass(frozen=True, slots=True)
class Bill:
    """An invoice over one period. ``quantities``: event name to units that it asks for; ``final``: no draft now.
    ``number``: the one that is printed on it, None: it has none yet."""

    invoice: str
    final: bool
    quantities: Mapping[str, int]
    number: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt. ``kind``: ``accepted`` (or known already); ``retry``: surely not taken, the same
    again later; ``unknown``: taken or not; ``rejected``: never to be taken as it is; ``stop``: nothing will be taken
    from us (key, permission). ``used_key``: the idempotency key is used up. ``server_s``: the payee's clock, Unix
    seconds."""

    kind: str
    http: int = 0
    code: str = ""
    message: str = ""
    request_id: str = ""
    retry_after_ns: int = 0
    used_key: bool = False
    server_s: int | None = None


class Sink(Protocol):
    """Takes events. Never raises but for a bug or cancellation: a failure is an Outcome."""

    async def send(self, row: OutboxRow) -> Outcome: ...


class Sums(Protocol):
    """The payee's own sums of what it took. SidecarError when it cannot be asked, or its answer is no integer.
    A sink without them (``None`` in place of one) leaves rows ``accepted``."""

    async def total(self, event_name: str, customer: str, begin: int, end: int) -> int:
        """Over whole Unix minutes [begin, end)."""
        ...

    async def hours(self, event_name: str, customer: str, begin: int, end: int) -> dict[int, int]:
        """Unix hour to sum, hours without any left out; begin and end are hours."""
        ...
