"""What billing needs from a store. Adapters live in ``sidecar.storage``, beside those of the ledger.

Usage is assigned to **rows** of the outbox, minute by minute of the ledger, in one transaction: what a minute of the
ledger holds beyond what was assigned of it becomes (part of) one new row. A row is immutable from its first attempt on:
its identifier always means the same value.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from sidecar.core.accounts import Account, Arrival, Notice
from sidecar.core.billing import OutboxRow, Parity, Period, RowQuery, Window
from sidecar.core.values import ApiKey


class Accounts(Protocol):
    """Accounts by tenant."""

    async def account(self, tenant: str) -> Account | None: ...

    async def accounts(self, *, after: str = "", limit: int = 100) -> list[Account]:
        """By tenant, ascending."""
        ...

    async def accounts_of(self, customer: str) -> list[Account]: ...

    async def accounts_due(self, *, at_ns: int, limit: int) -> list[Account]:
        """Those whose ``until_ns`` has come, the oldest first."""
        ...

    async def save_account(
        self, account: Account, *, actor: str, at_ns: int, notices: Sequence[Notice] = (), if_read_ns: int | None = None
    ) -> bool:
        """Inserts or replaces it, with its audit row (``account.set``, old and new access, plan and status) when one of
        these changed, the notices, and a new keys_version when access or plan changed; all in one transaction.
        ``if_read_ns``: only while the stored one was read then (0: there is none); False and nothing otherwise."""
        ...


class Outbox(Protocol):
    """Usage, assigned to rows, and what became of them.

    Appending to the ledger leaves a **mark** (tenant, minute) for usage of live keys of tenants that have an account,
    in its own transaction; minutes are those in which calls ended, as in the ledger's sums. Usage of minutes before the
    **floor** is never marked, assigned or stamped: what was assigned of them may be forgotten.
    """

    async def instance(self) -> str:
        """8 characters of base 32 that name this set of books for ever; made with the database."""
        ...

    async def lead(self, what: str, node: str, *, ttl_ns: int, at_ns: int) -> bool:
        """Whether ``node`` is the one that does ``what`` now: it was already, or the last one's time is over."""
        ...

    async def yield_lead(self, what: str, node: str) -> None: ...

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
        minutes beyond what was assigned of them or is excused becomes one new row (none when that is 0), the minutes
        count as assigned, and the window's marks go. The stamp is the first minute of ``window.period.stamps`` that no
        row of the event name and customer has: from ``window.begin`` on, then from the period's beginning. Conflict
        when none is left or the window begins before the floor. Identifiers: ``<instance>:<first 8 hex of sha256 of
        the event name>:<customer>:<minute>``, hourly ones with ``:v<version>`` behind; an hourly row holds the hour's
        whole total and supersedes its predecessors that were never attempted.

        What ended in ``window.free`` is **excused**, by the single entries of that minute. Where these do not add up to
        the minute's sum (they are kept for a time only) nothing more of the minute is asked for."""
        ...

    async def assigned(self, tenant: str, meter: str, *, begin: int, end: int) -> int:
        """The sum of what was assigned of these minutes."""
        ...

    async def excused(self, tenant: str, meter: str, *, begin: int, end: int) -> int:
        """The sum of what is asked of nobody in these minutes."""
        ...

    async def unassigned_minutes(self, tenant: str, meter: str, *, begin: int, end: int) -> dict[int, tuple[int, int]]:
        """Minute to (in the ledger and not excused, assigned), only of minutes where the two differ."""
        ...

    async def due(self, *, at_ns: int, limit: int) -> list[OutboxRow]:
        """Open rows whose ``next_ns`` has come, the oldest stamp first."""
        ...

    async def attempt(self, row_id: int, *, at_ns: int) -> OutboxRow:
        """Written before the first byte goes out: ``first_attempt_ns`` (once), attempts + 1, state ``sent``. NotFound;
        Conflict when the row is not open."""
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
        """What became of an attempt or of a reading; ``rounds`` are added to ``round``. ``settled_ns`` is set by states
        that are not open, ``verified_ns`` by ``verified``. Audit row for the states that wait for a person and
        for ``dropped``. NotFound.
        """
        ...

    async def carry(self, row_id: int, period: Period, *, at_ns: int, note: str) -> OutboxRow:
        """In one transaction: the row, which has to wait for a person, is superseded by a new one of the same usage
        with a stamp in ``period``. NotFound; Conflict when it does not wait, is an hour's total, or no stamp is left.
        """
        ...

    async def rows(self, query: RowQuery) -> list[OutboxRow]: ...

    async def row_sums(
        self, *, customer: str, event_name: str, begin: int, end: int, states: tuple[str, ...]
    ) -> dict[int, int]:
        """Unix hour (minute // 60) to the sum of the rows' values, stamped minutes in [begin, end); of hourly rows the
        newest version's value alone."""
        ...

    async def row_counts(self) -> dict[str, tuple[int, int]]:
        """State to (rows, ``created_ns`` of the oldest)."""
        ...

    async def forget_billed(self, *, before: int, at_most: int) -> int:
        """Raises the floor to the Unix minute ``before`` and deletes at most ``at_most`` of what lies wholly before it:
        verified, superseded and dropped rows, assigned and excused minutes, marks, parities. How many."""
        ...

    async def save_parity(self, parity: Parity) -> None:
        """Inserts or replaces it by (tenant, meter, period, invoice); a final one stays as it is."""
        ...

    async def parities(self, *, tenant: str | None = None, since_ns: int = 0, limit: int = 1000) -> list[Parity]:
        """The newest first."""
        ...


class Inbox(Protocol):
    """What came from the payee, and what is to be told."""

    async def receive(self, arrival: Arrival) -> bool:
        """Durable when it returns (fsync); False when the event id is known. At most 1,000,000 are kept, finished ones
        go first; StoreFull when all of them are still to be dealt with."""
        ...

    async def arrivals(self, *, at_ns: int, limit: int) -> list[Arrival]:
        """Those that were not dealt with and whose time has come, oldest first."""
        ...

    async def finish(self, arrival_id: str, *, at_ns: int, note: str = "") -> None: ...

    async def postpone(self, arrival_id: str, *, next_ns: int, note: str = "") -> None:
        """One attempt more, not before ``next_ns``; after 20 it is finished with the note."""
        ...

    async def cursor(self, what: str) -> int | None:
        """How far ``what`` was read, Unix seconds; None: never."""
        ...

    async def move_cursor(self, what: str, at_s: int) -> None: ...

    async def claim(self, what: str, tenant: str, *, at_ns: int) -> bool:
        """True for the first caller with this ``what`` only."""
        ...

    async def claimed_ns(self, what: str) -> int | None:
        """When it was claimed; None: it was not."""
        ...

    async def claim_first_key(self, key: ApiKey, *, actor: str) -> bool:
        """In one transaction: the tenant's first key ever is added, with its audit row, and its place is taken for
        good. False, and nothing, when the tenant has or had one. Conflict when the id is taken by another's."""
        ...

    async def notify(self, notices: Sequence[Notice]) -> int:
        """Those whose (id, channel) is not known yet; how many. At most 100,000 are kept: the oldest go first."""
        ...

    async def due_notices(self, *, at_ns: int, limit: int) -> list[Notice]:
        """The oldest first."""
        ...

    async def settle_notice(
        self, notice_id: str, channel: str, *, done: bool, at_ns: int, next_ns: int = 0, note: str = ""
    ) -> None:
        """Delivered (or given up, ``note`` says why), or one attempt more at ``next_ns``."""
        ...


class BillingStore(Accounts, Outbox, Inbox, Protocol):
    """All of it; an adapter is an adapter of Ledger (core.ports) too. Every method raises StoreError."""
