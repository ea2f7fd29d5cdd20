"""What operators do about billing: the report, and rows that wait for a person.

As in Operations: dicts that JSON can hold; NotFound, Conflict and StoreError from the store, ValueError with a sentence
that says what to write instead.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sidecar.admin.usage import check_page
from sidecar.billing import Book, Reporter
from sidecar.core.accounts import Account
from sidecar.core.billing import OPEN_STATES, ROW_STATES, OutboxRow, Period, RowQuery
from sidecar.core.clock import Clock
from sidecar.core.errors import Conflict, NotFound, SidecarError

_PAGE = 200
_MOST_ACCOUNTS = 1_000  # of one report; the next page goes on
WAITING = ("rejected", "conflict", "expired", "held")


class Desk:
    """``reporter`` None: usage is reported to nobody."""

    def __init__(self, store: Book, reporter: Reporter | None, clock: Clock) -> None:
        self._store = store
        self._reporter = reporter
        self._clock = clock

    async def reconcile(
        self, *, period: str = "current", tenant: str | None = None, after: str = "", limit: int = 100
    ) -> dict[str, Any]:
        """Lines of at most ``limit`` tenants by name, starting after ``after``. ``period``: ``current``, ``previous``
        or the month (``2026-10``, UTC) in which it began."""
        if self._reporter is None:
            raise SidecarError("usage is reported to nobody; write billing: and the meters' stripe_event")
        check_page(limit)
        pick = _choice(period)
        seen: list[str] = []

        async def accounts() -> AsyncIterator[Account]:
            async for account in self._accounts(tenant, after, limit):
                seen.append(account.tenant)
                yield account

        report = (await self._reporter.report(accounts(), pick)).as_dict()
        more = seen[-1] if tenant is None and len(seen) == limit else None
        return report | {"next": more}

    async def outbox_list(
        self, *, state: str | None = None, tenant: str | None = None, after: str = "0", limit: int = 100
    ) -> dict[str, Any]:
        """Rows by id; of every state that waits for a person unless ``state`` names one."""
        check_page(limit)
        if state is not None and state not in ROW_STATES:
            raise ValueError(f"{state!r} is no state; write one of {', '.join(ROW_STATES)}")
        states = WAITING if state is None else (state,)
        rows = await self._store.rows(RowQuery(states=states, tenant=tenant, after=_number(after), limit=limit))
        more = rows[-1].id if len(rows) == limit else None
        return {"rows": [_shape(row) for row in rows], "next": more}

    async def outbox_retry(self, row: str, *, actor: str) -> dict[str, Any]:
        """It is sent again, with the same identifier and another idempotency key; where that is needed, what the payee
        has is read first."""
        found = await self._waiting(row)
        state = "pending" if found.first_attempt_ns is None else "sent"
        return await self._settle(found, state, f"tried again by {actor}", rounds=1)

    async def outbox_drop(self, row: str, *, reason: str, actor: str) -> dict[str, Any]:
        """It is written off: nobody is asked for this usage. ``reason`` is kept."""
        if not reason.strip():
            raise ValueError("a reason is missing; write why this usage is not billed")
        return await self._settle(await self._waiting(row), "dropped", f"{reason.strip()[:200]} ({actor})")

    async def outbox_carry(self, row: str, *, actor: str) -> dict[str, Any]:
        """Its usage is asked for by a new row: in its own period until that period's invoice is final, then in the
        running one. What the payee has is read first, so that nothing is asked for twice."""
        found = await self._waiting(row)
        if self._reporter is None:
            raise SidecarError("usage is reported to nobody; write billing: and the meters' stripe_event")
        period = await self._reporter.destination(found, await self._store.account(found.tenant))
        what = "anew" if period == found.period else f"from the period that ended at {found.period.end_s}"
        note = f"carried by {actor} {what}"
        return _shape(await self._store.carry(found.id, period, at_ns=self._clock.wall_ns(), note=note))

    async def _waiting(self, row: str) -> OutboxRow:
        number = _number(row)
        found = await self._store.rows(RowQuery(after=number - 1, limit=1))
        if not found or found[0].id != number:
            raise NotFound(f"the outbox has no row {row}")
        if found[0].state not in WAITING:
            what = "is on its way" if found[0].state in OPEN_STATES else f"is {found[0].state}"
            raise Conflict(f"row {row} {what}; only {', '.join(WAITING)} wait for a person")
        return found[0]

    async def _settle(self, row: OutboxRow, state: str, note: str, *, rounds: int = 0) -> dict[str, Any]:
        now_ns = self._clock.wall_ns()
        return _shape(await self._store.settle(row.id, state, at_ns=now_ns, rounds=rounds, note=note))

    async def _accounts(self, tenant: str | None, after: str, limit: int) -> AsyncIterator[Account]:
        if tenant is not None:
            account = await self._store.account(tenant)
            if account is None:
                raise NotFound(f"the tenant {tenant} has no account: nobody is asked for its usage")
            yield account
            return
        left = min(limit, _MOST_ACCOUNTS)
        while left and (page := await self._store.accounts(after=after, limit=min(_PAGE, left))):
            for account in page:
                yield account
            after, left = page[-1].tenant, left - len(page)


class _Choice:
    def __init__(self, written: str) -> None:
        self._written = written

    def __call__(self, account: Account, now_s: int) -> tuple[Period, ...]:
        begun = [period for period in account.periods if period.start_s <= now_s]
        if self._written == "current":
            return tuple(period for period in begun[-1:] if now_s < period.end_s)
        if self._written == "previous":
            return tuple([period for period in begun if period.end_s <= now_s][-1:])
        return tuple(period for period in begun if _month(period.start_s) == self._written)


def _choice(written: str) -> _Choice:
    if written not in ("current", "previous") and re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", written) is None:
        raise ValueError(f"{written!r} is no period; write current, previous or a month such as 2026-10")
    return _Choice(written)


def _month(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m")


def _shape(row: OutboxRow) -> dict[str, Any]:
    return asdict(row) | {"timestamp_s": row.timestamp_s}


def _number(written: str) -> int:
    if not (written.isascii() and written.isdigit() and len(written) <= 18):
        raise ValueError(f"{ascii(written)[:80]} is no number of a row; `sidecar outbox list` shows them")
    return int(written)
