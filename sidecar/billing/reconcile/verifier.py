"""Accepted is a claim, verified the fact: rows are compared with the payee's own sums, hour by hour.

The payee says "200" before it looks at an event, and drops what it does not like later. So its sums are read; where an
hour differs it is read again for an hour at least, for sums come late; then each of its rows is looked up in its own
minute. What is not there is sent again, what is there with another value waits for a person.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sidecar.billing.pace import together
from sidecar.core.billing import OPEN_STATES, OutboxRow, Period, RowQuery, Sums
from sidecar.core.billing_store import BillingStore
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import SidecarError, StoreError

SETTLE_S = 600  # after the end of an hour
AGAIN_S = (600, 1200, 1800)  # a differing hour is read again after so long each: an hour together
MOST_ATTEMPTS = 8  # of a row that the payee says it takes and never has
MOST_HOURS = 96  # of one reading: a page of the payee's sums
_MOST_SUSPECTS = 10_000
_PAGE = 1000
_MOST_ROWS = 200  # of one look before an invoice is final
_REFUSED = 400  # the status of an accepted row: the payee knows its identifier already
_T = TypeVar("_T")
_log = logging.getLogger("sidecar.billing")
Hour = tuple[str, str, int]  # event name, customer, Unix hour


@dataclass(slots=True)
class _Suspicion:
    """An hour that differed: how often, and when it is to be read again."""

    seen: int
    next_ns: int


class Verifier:
    """Of one store and one payee. ``foreign``: hours whose sum our rows do not explain, to (ours, theirs)."""

    def __init__(self, store: BillingStore, sums: Sums, clock: Clock) -> None:
        self._store = store
        self._sums = sums
        self._clock = clock
        self._suspects: dict[Hour, _Suspicion] = {}
        self._after = 0
        self.foreign: dict[Hour, tuple[int, int]] = {}
        self.more = False  # whether the last page was not the last
        self.missing = 0  # rows sent again because the payee did not have them
        self.unreadable = ""  # why the last reading failed

    async def verify(self) -> int:
        """A page of accepted rows, the next one each time, with all else that is open of their customers and meters:
        however far this is behind, each of them is read once. How many rows became verified. StoreError."""
        now_ns = self._clock.wall_ns()
        closed = (now_ns // NS_PER_S - SETTLE_S) // 3600
        rows = await self._store.rows(RowQuery(states=("accepted",), until=closed * 60, after=self._after, limit=_PAGE))
        self.more = len(rows) == _PAGE
        self._after = rows[-1].id if self.more else 0
        first: dict[tuple[str, str], int] = {}
        for row in rows:
            pair = row.event_name, row.customer
            first[pair] = min(first.get(pair, closed), row.minute // 60)
        return sum(
            await together(
                self._pair(event_name, customer, begin, min(begin + MOST_HOURS, closed))
                for (event_name, customer), begin in first.items()
            )
        )

    async def look_again(self, event_name: str, customer: str, period: Period) -> None:
        """Before the period's invoice is final, when its sum lacks something: rows are looked up at once, and those
        that are not there are sent again. That is safe at any time, and waiting an hour would be too late. StoreError.
        """
        stamps = period.stamps
        query = RowQuery(
            customer=customer,
            event_name=event_name,
            states=("accepted",),
            since=stamps.start,
            until=stamps.stop,
            limit=_MOST_ROWS,
        )
        for row in await self._store.rows(query):
            if row.hourly:
                continue
            found = await self._read(partial(self._sums.total, event_name, customer, row.minute, row.minute + 1))
            if found is None:
                return
            if found == 0 and row.http == _REFUSED:
                await self._settle(row, "conflict", "the payee refuses it as known and does not count it")
            else:
                await self._compare(row, found)

    async def _pair(self, event_name: str, customer: str, begin: int, end: int) -> int:
        """The hours [begin, end) of one customer and meter, by one reading; how many rows became verified."""
        now_ns = self._clock.wall_ns()
        query = RowQuery(
            customer=customer, event_name=event_name, since=begin * 60, until=end * 60, limit=60 * MOST_HOURS
        )
        by_hour: dict[int, list[OutboxRow]] = {}
        for row in await self._store.rows(query):
            by_hour.setdefault(row.minute // 60, []).append(row)
        wanted = [
            hour
            for hour, rows in sorted(by_hour.items())
            if any(row.state == "accepted" for row in rows)
            and not any(row.state in OPEN_STATES for row in rows)
            and self._is_due((event_name, customer, hour), now_ns)
        ]
        if not wanted:
            return 0
        theirs = await self._read(partial(self._sums.hours, event_name, customer, wanted[0], wanted[-1] + 1))
        if theirs is None:
            return 0
        verified = 0
        for hour in wanted:
            verified += await self._hour((event_name, customer, hour), by_hour[hour], theirs.get(hour, 0))
        return verified

    async def _hour(self, hour: Hour, rows: list[OutboxRow], theirs: int) -> int:
        ours = expected(rows)
        accepted = [row for row in rows if row.state == "accepted"]
        if theirs == ours:
            self._suspects.pop(hour, None)
            self.foreign.pop(hour, None)
            for row in accepted:
                await self._settle(row, "verified", row.note)
            return len(accepted)
        if self._suspect(hour):
            return 0
        return await self._drill(hour, rows, accepted, theirs)

    async def _drill(self, hour: Hour, rows: list[OutboxRow], accepted: list[OutboxRow], theirs: int) -> int:
        verified = 0
        explained = theirs == 0
        for row in accepted:
            if row.hourly:
                await self._settle(row, "conflict", f"the payee has {theirs} in this hour, not {row.value}")
                continue
            where = (row.event_name, row.customer, row.minute, row.minute + 1)
            found = await self._read(partial(self._sums.total, *where))
            if found is None:
                return verified
            verified += await self._compare(row, found)
            explained = explained or found != row.value
        if not explained:  # all of our rows are there: the rest is somebody else's
            self._note_foreign(hour, expected(rows), theirs)
        self._suspects.pop(hour, None)
        return verified

    async def _compare(self, row: OutboxRow, found: int) -> int:
        if found == row.value:
            await self._settle(row, "verified", row.note)
            return 1
        if found == 0 and row.attempts < MOST_ATTEMPTS:
            self.missing += 1
            _log.warning("the payee took the event %s and does not have it; it is sent again", row.identifier)
            # Another key: under the old one the payee would repeat its first answer for a day, and do nothing.
            await self._settle(row, "sent", "the payee took it and does not have it", rounds=1)
        else:
            await self._settle(row, "conflict", f"the payee has {found} in this minute, not {row.value}")
        return 0

    async def _settle(self, row: OutboxRow, state: str, note: str, *, rounds: int = 0) -> None:
        at_ns = self._clock.wall_ns()
        await self._store.settle(
            row.id, state, at_ns=at_ns, rounds=rounds, http=row.http, request_id=row.request_id, note=note
        )

    async def _read(self, reading: Callable[[], Awaitable[_T]]) -> _T | None:
        try:
            found = await reading()
        except StoreError:
            raise
        except SidecarError as error:
            self.unreadable = str(error)
            return None
        self.unreadable = ""
        return found

    def _is_due(self, hour: Hour, now_ns: int) -> bool:
        suspicion = self._suspects.get(hour)
        return suspicion is None or now_ns >= suspicion.next_ns

    def _suspect(self, hour: Hour) -> bool:
        """Whether the hour is to be read once more before anything is done."""
        suspicion = self._suspects.setdefault(hour, _Suspicion(0, 0))
        if len(self._suspects) > _MOST_SUSPECTS:
            self._suspects.pop(next(iter(self._suspects)))
        if suspicion.seen >= len(AGAIN_S):
            return False
        suspicion.next_ns = self._clock.wall_ns() + AGAIN_S[suspicion.seen] * NS_PER_S
        suspicion.seen += 1
        return True

    def _note_foreign(self, hour: Hour, ours: int, theirs: int) -> None:
        if len(self.foreign) < _MOST_SUSPECTS and self.foreign.get(hour) != (ours, theirs):
            _log.error("the payee has %d where %d was sent: event %s, customer %s, hour %d", theirs, ours, *hour)
            self.foreign[hour] = (ours, theirs)


def expected(rows: list[OutboxRow]) -> int:
    """What the payee should have of one hour's rows: of totals the newest alone."""
    there = [row for row in rows if row.state in ("accepted", "verified")]
    totals = [row for row in there if row.hourly]
    if totals:
        return max(totals, key=lambda row: row.version).value
    return sum(row.value for row in there)
