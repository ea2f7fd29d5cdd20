"""The billing side of the adapter (BillingStore in core.billing_store, whose docstrings hold here).

Changes and what is due have a connection of their own, so that no look-up of a key waits for a lock of theirs.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from sidecar.core.accounts import Account, Arrival, Notice
from sidecar.core.billing import OutboxRow, Parity, Period, RowQuery, Window
from sidecar.core.credits import Book, CreditHistory, Grant, Share
from sidecar.core.crossings import Crossing
from sidecar.core.values import ApiKey
from sidecar.storage.postgres import accounts, assigning, credits, inbox, outbox
from sidecar.storage.postgres.connection import OPERATOR, READER, Connection, Links

_P = ParamSpec("_P")
_T = TypeVar("_T")


class PostgresBilling(ABC):
    _lookups: Links
    _reports: Links
    _billing: Links

    @abstractmethod
    async def _read(
        self,
        links: Links,
        role: str,
        tenant: str | None,
        ask: Callable[Concatenate[Connection, _P], Awaitable[_T]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T: ...

    @abstractmethod
    async def _change(
        self,
        links: Links,
        make: Callable[Concatenate[Connection, _P], Awaitable[_T]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T: ...

    # Accounts ---------------------------------------------------------------------------------------------------------

    async def account(self, tenant: str) -> Account | None:
        return await self._read(self._lookups, READER, tenant, accounts.account, tenant)

    async def accounts(self, *, after: str = "", limit: int = 100) -> list[Account]:
        return await self._read(self._reports, OPERATOR, None, accounts.accounts, after, limit)

    async def accounts_of(self, customer: str) -> list[Account]:
        return await self._read(self._billing, OPERATOR, None, accounts.accounts_of, customer)

    async def accounts_due(self, *, at_ns: int, limit: int) -> list[Account]:
        return await self._read(self._billing, OPERATOR, None, accounts.accounts_due, at_ns, limit)

    async def save_account(
        self, account: Account, *, actor: str, at_ns: int, notices: Sequence[Notice] = (), if_read_ns: int | None = None
    ) -> bool:
        return await self._change(self._billing, accounts.save_account, account, actor, at_ns, notices, if_read_ns)

    # Credits ----------------------------------------------------------------------------------------------------------

    async def add_grant(self, grant: Grant, *, actor: str) -> tuple[Grant, bool]:
        return await self._change(self._billing, credits.add_grant, grant, actor)

    async def revoke_grant(self, tenant: str, source: str, *, at_ns: int, actor: str) -> Grant:
        return await self._change(self._billing, credits.revoke_grant, tenant, source, at_ns, actor)

    async def grants(self, tenant: str, *, after: str = "", limit: int = 100) -> list[Grant]:
        return await self._read(self._reports, READER, tenant, credits.grants, tenant, after, limit)

    async def credit(self, tenant: str) -> tuple[Book | None, list[Grant]]:
        return await self._read(self._lookups, READER, tenant, credits.credit, tenant)

    async def credit_history(self, tenant: str, *, begin: int, end: int) -> CreditHistory:
        return await self._read(self._reports, READER, tenant, credits.credit_history, tenant, begin, end)

    async def settle_credits(
        self, book: Book, burned: Mapping[str, int], *, if_until: int | None, shares: Sequence[Share] = ()
    ) -> bool:
        return await self._change(self._billing, credits.settle_credits, book, burned, if_until, shares)

    async def cross(self, crossing: Crossing, notices: Sequence[Notice]) -> bool:
        return await self._change(self._billing, credits.cross, crossing, notices)

    # Outbox -----------------------------------------------------------------------------------------------------------

    async def instance(self) -> str:
        return await self._read(self._billing, OPERATOR, None, assigning.instance)

    async def lead(self, what: str, node: str, *, ttl_ns: int, at_ns: int) -> bool:
        return await self._change(self._billing, inbox.lead, what, node, ttl_ns, at_ns)

    async def yield_lead(self, what: str, node: str) -> None:
        await self._change(self._billing, inbox.yield_lead, what, node)

    async def marks(
        self, *, before: int, after: tuple[str, int] = ("", -1), limit: int = 1000
    ) -> list[tuple[str, int]]:
        return await self._read(self._reports, OPERATOR, None, assigning.marks, before, after, limit)

    async def mark(self, tenant: str, *, begin: int, end: int) -> int:
        return await self._change(self._billing, assigning.mark, tenant, begin, end)

    async def unmark(self, tenant: str, *, begin: int, end: int) -> None:
        await self._change(self._billing, assigning.unmark, tenant, begin, end)

    async def assign(
        self, window: Window, events: Mapping[str, str], *, at_ns: int, state: str = "pending", note: str = ""
    ) -> list[OutboxRow]:
        return await self._change(self._billing, assigning.assign, window, events, at_ns, state, note)

    async def assigned(self, tenant: str, meter: str, *, begin: int, end: int) -> int:
        return await self._read(self._reports, READER, tenant, assigning.assigned, tenant, meter, begin, end)

    async def excused(self, tenant: str, meter: str, *, begin: int, end: int) -> int:
        return await self._read(self._reports, READER, tenant, assigning.excused, tenant, meter, begin, end)

    async def unassigned_minutes(self, tenant: str, meter: str, *, begin: int, end: int) -> dict[int, tuple[int, int]]:
        return await self._read(self._reports, READER, tenant, assigning.unassigned_minutes, tenant, meter, begin, end)

    async def due(self, *, at_ns: int, limit: int) -> list[OutboxRow]:
        return await self._read(self._billing, OPERATOR, None, outbox.due, at_ns, limit)

    async def attempt(self, row_id: int, *, at_ns: int) -> OutboxRow:
        return await self._change(self._billing, outbox.attempt, row_id, at_ns)

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
        return await self._change(
            self._billing, outbox.settle, row_id, state, at_ns, next_ns, rounds, http, request_id, note
        )

    async def carry(self, row_id: int, period: Period, *, at_ns: int, note: str) -> OutboxRow:
        return await self._change(self._billing, assigning.carry, row_id, period, at_ns, note)

    async def rows(self, query: RowQuery) -> list[OutboxRow]:
        return await self._read(self._reports, _role(query.tenant), query.tenant, outbox.rows, query)

    async def row_sums(
        self, *, customer: str, event_name: str, begin: int, end: int, states: tuple[str, ...]
    ) -> dict[int, int]:
        return await self._read(
            self._reports, OPERATOR, None, outbox.row_sums, customer, event_name, begin, end, states
        )

    async def row_counts(self) -> dict[str, tuple[int, int]]:
        return await self._read(self._reports, OPERATOR, None, outbox.row_counts)

    async def forget_billed(self, *, before: int, at_most: int) -> int:
        return await self._change(self._reports, outbox.forget_billed, before, at_most)

    async def save_parity(self, parity: Parity) -> None:
        await self._change(self._billing, outbox.save_parity, parity)

    async def parities(self, *, tenant: str | None = None, since_ns: int = 0, limit: int = 1000) -> list[Parity]:
        return await self._read(self._reports, _role(tenant), tenant, outbox.parities, tenant, since_ns, limit)

    # Inbox ------------------------------------------------------------------------------------------------------------

    async def receive(self, arrival: Arrival) -> bool:
        return await self._change(self._billing, inbox.receive, arrival)

    async def arrivals(self, *, at_ns: int, limit: int) -> list[Arrival]:
        return await self._read(self._billing, OPERATOR, None, inbox.arrivals, at_ns, limit)

    async def finish(self, arrival_id: str, *, at_ns: int, note: str = "") -> None:
        await self._change(self._billing, inbox.finish, arrival_id, at_ns, note)

    async def postpone(self, arrival_id: str, *, next_ns: int, note: str = "") -> None:
        await self._change(self._billing, inbox.postpone, arrival_id, next_ns, note)

    async def cursor(self, what: str) -> int | None:
        return await self._read(self._billing, OPERATOR, None, inbox.cursor, what)

    async def move_cursor(self, what: str, at_s: int) -> None:
        await self._change(self._billing, inbox.move_cursor, what, at_s)

    async def claim(self, what: str, tenant: str, *, at_ns: int) -> bool:
        return await self._change(self._billing, inbox.claim, what, tenant, at_ns)

    async def claimed_ns(self, what: str) -> int | None:
        return await self._read(self._billing, OPERATOR, None, inbox.claimed_ns, what)

    async def claim_first_key(self, key: ApiKey, *, actor: str) -> bool:
        return await self._change(self._billing, inbox.claim_first_key, key, actor)

    async def notify(self, notices: Sequence[Notice]) -> int:
        return await self._change(self._billing, inbox.notify, notices)

    async def due_notices(self, *, at_ns: int, limit: int) -> list[Notice]:
        return await self._read(self._billing, OPERATOR, None, inbox.due_notices, at_ns, limit)

    async def settle_notice(
        self, notice_id: str, channel: str, *, done: bool, at_ns: int, next_ns: int = 0, note: str = ""
    ) -> None:
        await self._change(self._billing, inbox.settle_notice, notice_id, channel, done, at_ns, next_ns, note)


def _role(tenant: str | None) -> str:
    return OPERATOR if tenant is None else READER
