"""What billing keeps and needs: accounts, usage that is to be asked for, and the ports to the store and to the payee.

Usage is assigned to **rows** of the outbox, minute by minute of the ledger, in one transaction: what a minute of the
ledger holds beyond what was assigned of it becomes (part of) one new row. A row is immutable from its first attempt on:
its identifier always means the same value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sidecar.core.values import AccessState, Tenant

# The states of a row. ``pending``: never attempted. ``sent``: attempted, the outcome is unknown or was to be retried.
# ``accepted``: the payee said so. ``verified``: seen in the payee's own sums. ``rejected``, ``conflict``, ``expired``
# and ``held`` wait for a person: refused by the payee; its sums contradict us; too old to be taken; its period is
# closed. ``superseded``: a newer total of the same hour took its place.
ROW_STATES = ("pending", "sent", "accepted", "verified", "rejected", "conflict", "expired", "held", "superseded")
OPEN_STATES = ("pending", "sent")


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """A billing period as the payee has it, [start_s, end_s) in Unix seconds, on any second.

    For usage it begins and ends on whole minutes: the minute in which it ends still belongs to it wholly.
    """

    start_s: int
    end_s: int

    @property
    def first_minute(self) -> int:
        """The first Unix minute whose usage belongs here."""
        return -(-self.start_s // 60)

    @property
    def end_minute(self) -> int:
        """The first Unix minute whose usage does not."""
        return -(-self.end_s // 60)

    @property
    def stamps(self) -> range:
        """The Unix minutes that lie wholly within the period: those that a row may be stamped with."""
        return range(-(-self.start_s // 60), self.end_s // 60)


@dataclass(frozen=True, slots=True)
class Account:
    """What the payee said of a tenant when it was last read, and what follows from it.

    ``status``: the subscription's, in the payee's words; empty before there is one. ``plan``: what the subscription
    bought, None: the tenant's own. ``access``: what follows from payment (the tenant has the worse of this and its own
    state); ``until_ns``: when it ends by itself (of a grace, a read-only time), None: never. ``periods``: ascending,
    the newest few. ``ends_s``: when the subscription is going to end, if that is known. Times in Unix nanoseconds.
    """

    tenant: str
    customer: str
    subscription: str | None = None
    status: str = ""
    plan: str | None = None
    access: AccessState = AccessState.ACTIVE
    since_ns: int = 0
    until_ns: int | None = None
    trial_until_s: int | None = None
    ends_s: int | None = None
    periods: tuple[Period, ...] = ()
    read_ns: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """Usage to be asked for together: [begin, end) in Unix minutes, wholly within one period.

    ``hourly``: the events' meter keeps the newest total per hour (a set) instead of adding: then the window is one
    whole hour, the row holds the hour's whole total and its stamp is the half hour.
    """

    tenant: str
    customer: str
    begin: int
    end: int
    period: Period
    hourly: bool = False


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
class Arrival:
    """A webhook's event as it was stored. ``object_id``: what it is about; ``payload``: the verified JSON text."""

    id: str
    type: str
    object_id: str
    payload: str
    at_ns: int
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell the operator or the tenant, once. ``id`` dedupes: the same fact has the same id.

    ``kind``: ``access.read_only``, ``billing.parity`` and so on; ``tenant`` empty: the operator's alone. ``facts``:
    what the texts are made of; no secret. ``channel``: ``webhook`` or ``email``, one row each.
    """

    id: str
    kind: str
    tenant: str
    facts: Mapping[str, str | int]
    at_ns: int
    channel: str = ""
    attempts: int = 0
    next_ns: int = 0


class BillingStore(Protocol):
    """Accounts, outbox and inbox; an adapter of it is an adapter of Ledger too. Every method raises StoreError.

    Appending to the ledger leaves a **mark** (tenant, minute) for usage of live keys of tenants that have an account,
    in its own transaction; minutes are those in which calls ended, as in the ledger's sums.
    """

    async def instance(self) -> str:
        """8 characters of base 32 that name this set of books for ever; made with the database."""
        ...

    async def lead(self, what: str, node: str, *, ttl_ns: int, at_ns: int) -> bool:
        """Whether ``node`` is the one that does ``what`` now: it was already, or the last one's time is over."""
        ...

    async def yield_lead(self, what: str, node: str) -> None: ...

    # Accounts

    async def account(self, tenant: str) -> Account | None: ...

    async def accounts(self, *, after: str = "", limit: int = 100) -> list[Account]:
        """By tenant, ascending."""
        ...

    async def accounts_of(self, customer: str) -> list[Account]: ...

    async def save_account(
        self, account: Account, *, actor: str, at_ns: int, notices: Sequence[Notice] = (), if_read_ns: int | None = None
    ) -> bool:
        """Inserts or replaces it, with its audit row (``account.set``, old and new access, plan and status) when one of
        these changed, the notices, and a new keys_version when access or plan changed; all in one transaction.
        ``if_read_ns``: only while the stored one was read then (0: there is none); False and nothing otherwise."""
        ...

    # Assigning

    async def marks(
        self, *, before: int, after: tuple[str, int] = ("", -1), limit: int = 1000
    ) -> list[tuple[str, int]]:
        """(tenant, minute) of usage that may not be assigned yet, ascending, minutes before ``before``."""
        ...

    async def mark(self, tenant: str, *, begin: int, end: int) -> int:
        """Marks every minute in [begin, end) that has usage of the tenant's live keys. How many."""
        ...

    async def unmark(self, tenant: str, *, begin: int, end: int) -> None:
        """Takes marks away: this usage is not billed."""
        ...

    async def assign(
        self, window: Window, events: Mapping[str, str], *, at_ns: int, state: str = "pending", note: str = ""
    ) -> list[OutboxRow]:
        """In one transaction: for each meter of ``events`` (meter to event name) what the ledger holds of the window's
        minutes beyond what was assigned of them becomes one new row (none when that is 0), the minutes count as
        assigned, and the window's marks go. The stamp is the first minute of ``window.period.stamps`` that no row of
        the event name and customer has: from ``window.begin`` on, then from the period's beginning; StoreError when
        none is left. Identifiers: ``<instance>:<first 8 hex of sha256 of the event name>:<customer>:<minute>``, hourly
        ones with ``:v<version>`` behind; an hourly row supersedes its open predecessors."""
        ...

    async def assigned(self, tenant: str, meter: str, *, begin: int, end: int) -> int:
        """The sum of what was assigned of these minutes."""
        ...

    async def assigned_minutes(self, tenant: str, meter: str, *, begin: int, end: int) -> dict[int, tuple[int, int]]:
        """Minute to (in the ledger, assigned), only of minutes where the two differ."""
        ...

    # Sending

    async def due(self, *, at_ns: int, limit: int) -> list[OutboxRow]:
        """Open rows whose ``next_ns`` has come, the oldest stamp first."""
        ...

    async def attempt(self, row_id: int, *, at_ns: int) -> OutboxRow:
        """Written before the first byte goes out: ``first_attempt_ns`` (once), attempts + 1, state ``sent``."""
        ...

    async def settle(
        self,
        row_id: int,
        state: str,
        *,
        at_ns: int,
        next_ns: int = 0,
        rounds: int = 0,
        http: int = 0,
        request_id: str = "",
        note: str = "",
    ) -> OutboxRow:
        """What became of an attempt or of a reading; ``rounds`` are added to ``round``. Audit row for the states that
        wait for a person. NotFound."""
        ...

    async def rows(self, query: RowQuery) -> list[OutboxRow]: ...

    async def row_sums(
        self, *, customer: str, event_name: str, begin: int, end: int, states: tuple[str, ...]
    ) -> dict[int, int]:
        """Unix hour (minute // 60) to the sum of the rows' values; of hourly rows the newest version's value alone."""
        ...

    async def row_counts(self) -> dict[str, tuple[int, int]]:
        """State to (rows, ``created_ns`` of the oldest)."""
        ...

    async def forget_rows(self, *, before_ns: int, at_most: int) -> int:
        """Deletes verified and superseded rows, assigned minutes, parities and finished arrivals older than that."""
        ...

    # Parity

    async def save_parity(self, parity: Parity) -> None:
        """Inserts or replaces it by (tenant, meter, period, invoice); a final one stays as it is."""
        ...

    async def parities(self, *, tenant: str | None = None, since_ns: int = 0, limit: int = 1000) -> list[Parity]: ...

    # Inbox

    async def receive(self, arrival: Arrival) -> bool:
        """Durable when it returns (fsync); False when the event id is known. At most 1,000,000 are kept."""
        ...

    async def arrivals(self, *, limit: int) -> list[Arrival]:
        """Those that were not dealt with, oldest first."""
        ...

    async def finish(self, arrival_id: str, *, at_ns: int, note: str = "") -> None: ...

    async def postpone(self, arrival_id: str) -> None:
        """One attempt more; after 20 it is finished with a note."""
        ...

    async def claim(self, what: str, tenant: str, *, at_ns: int) -> bool:
        """True for the first caller with this ``what`` only, ever: shown once."""
        ...

    # Notices

    async def notify(self, notices: Sequence[Notice]) -> int:
        """Those whose (id, channel) is not known yet, in order; how many. At most 100,000 are kept."""
        ...

    async def due_notices(self, *, at_ns: int, limit: int) -> list[Notice]: ...

    async def settle_notice(
        self, notice_id: str, channel: str, *, done: bool, at_ns: int, next_ns: int = 0, note: str = ""
    ) -> None:
        """Delivered (or given up, ``note`` says why), or to be tried again at ``next_ns``."""
        ...


class Standing(Protocol):
    """What payment makes of a tenant."""

    async def standing(self, tenant: Tenant) -> Tenant:
        """The tenant with the account's plan, where it has one, and the worse of both access states."""
        ...


# The payee ------------------------------------------------------------------------------------------------------------


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
