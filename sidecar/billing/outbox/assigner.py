"""Usage that the ledger holds becomes rows of the outbox, window by window."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from sidecar.billing.outbox.events import Events
from sidecar.billing.outbox.windows import (
    Share,
    Terms,
    closed_hour,
    closed_minute,
    divide,
    divide_hours,
    ends_within_hour,
)
from sidecar.core.accounts import Account
from sidecar.core.billing_store import BillingStore
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import Conflict

_PAGE = 5000  # marks of one reading; a tenant's are at most 1,440 a day, and no more are looked at in one go
_MOST_STUCK = 100
_SHARED = "the customer has several tenants: one total of an hour cannot stand for both"


class Assigner:
    """Of one store. Not more than one at a time works on a store (``lead``); two would still take nothing twice."""

    def __init__(self, store: BillingStore, events: Events, terms: Terms, clock: Clock) -> None:
        self._store = store
        self._events = events
        self._terms = terms
        self._clock = clock
        self._looked = -1  # up to which minute, with hourly meters
        self.stuck: dict[str, str] = {}  # tenant to why its usage cannot become rows; at most _MOST_STUCK

    async def assign(self) -> int:
        """Assigns all that is closed; how many rows were made. StoreError; what was done until then stays."""
        now_ns = self._clock.wall_ns()
        now_s = now_ns // NS_PER_S
        before = closed = closed_minute(now_s, self._terms)
        if self._events.hourly and closed == self._looked:
            before = closed_hour(now_s, self._terms)  # what is younger was looked at when its window closed
        made, after = 0, ("", -1)
        while page := await self._store.marks(before=before, after=after, limit=_PAGE):
            for tenant, marks in groupby(page, key=lambda mark: mark[0]):
                made += await self._assign(tenant, [minute for _, minute in marks], now_ns)
            after = page[-1]
            if len(page) < _PAGE:
                break
        self._looked = closed
        return made

    async def _assign(self, tenant: str, minutes: Sequence[int], now_ns: int) -> int:
        account = await self._store.account(tenant)
        if account is None:  # marks are made with an account; without one there is nobody to ask
            return 0
        now_s = now_ns // NS_PER_S
        if self._events.hourly and not ends_within_hour(account, now_s, self._terms):
            # Everything waits for the hour: a window's marks go for all its meters at once.
            closed = closed_hour(now_s, self._terms)
            minutes = [minute for minute in minutes if minute < closed]
        division = divide(account, minutes, now_s, self._terms)
        made = 0
        for begin, end in division.unbilled:
            await self._store.unmark(tenant, begin=begin, end=end)
        if self._events.hourly:
            known = [m for m in minutes if not any(begin <= m < end for begin, end in division.unbilled)]
            made += await self._assign_hours(account, known, now_ns)
        for share in division.shares:
            made += await self._take(share, self._events.added, now_ns)
        return made

    async def _assign_hours(self, account: Account, minutes: Sequence[int], now_ns: int) -> int:
        made = 0
        shared = len(await self._store.accounts_of(account.customer)) > 1
        for share in divide_hours(account, minutes, now_ns // NS_PER_S, self._terms):
            taken = replace(share, state="held", note=_SHARED) if shared else share
            made += await self._take(taken, self._events.hourly, now_ns)
            if self._events.added:  # these are still to be taken out of the same minutes
                await self._store.mark(account.tenant, begin=share.window.begin, end=share.window.end)
        return made

    async def _take(self, share: Share, events: Mapping[str, str], now_ns: int) -> int:
        tenant = share.window.tenant
        try:
            rows = await self._store.assign(share.window, events, at_ns=now_ns, state=share.state, note=share.note)
        except Conflict as error:  # the marks stay, so that it is tried again
            if len(self.stuck) < _MOST_STUCK:
                self.stuck[tenant] = str(error)
            return 0
        self.stuck.pop(tenant, None)
        return len(rows)
