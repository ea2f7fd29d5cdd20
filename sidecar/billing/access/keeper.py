"""Keeps accounts true: reads what Stripe says again, lets it follow, writes it down with what is to be told.

A save holds only when nobody saved since the account was loaded, and the reading came after that: so the last save is
always of the newest reading, whatever the order of events and however many nodes work.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol
from weakref import WeakValueDictionary

from sidecar.billing.access.states import Seen, follow
from sidecar.billing.access.subscriptions import read_seen
from sidecar.billing.stripe import Pace, StripeClient, StripeFault
from sidecar.core.accounts import Account, Notice, PaymentCounts
from sidecar.core.billing_settings import DAY_NS
from sidecar.core.billing_store import BillingStore
from sidecar.core.clock import Clock
from sidecar.core.errors import StoreError
from sidecar.core.policy import Snapshot
from sidecar.core.ports import TenantStore

ACTOR = "stripe"
TRIES = 5
FAIL_OPEN_NS = DAY_NS  # a step that is due waits so long for Stripe to be asked once more
log = logging.getLogger("sidecar.billing")


class PaymentStore(BillingStore, TenantStore, Protocol):
    """What is needed of a store."""


class Keeper:
    """One per process. Reads at most ten times a second; Stripe allows 25, of everybody with the same key."""

    def __init__(
        self,
        store: PaymentStore,
        client: StripeClient,
        snapshot: Callable[[], Snapshot],
        clock: Clock,
        counts: PaymentCounts,
    ) -> None:
        self._store = store
        self._client = client
        self._snapshot = snapshot
        self._clock = clock
        self._counts = counts
        self._pace = Pace(10, clock)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # of refreshes under way

    async def refresh(self, tenant: str, customer: str) -> Account:
        """Reads the tenant's subscription and saves what follows. StripeFault, StoreError."""
        lock = self._locks.setdefault(tenant, asyncio.Lock())  # TRIES are for other nodes, not for this one
        async with lock:
            return await self._refresh(tenant, customer)

    async def _refresh(self, tenant: str, customer: str) -> Account:
        settings = self._snapshot().settings.billing
        prefix = settings.stripe.prefix if settings.stripe is not None else "sidecar"
        for _ in range(TRIES):
            old = await self._store.account(tenant) or Account(tenant, customer)
            try:
                seen = await read_seen(self._client, customer, tenant, prefix, self._snapshot().plans, self._pace)
            except StripeFault as fault:
                self._counts.failures += 1
                self._counts.faults["subscriptions"] = str(fault)
                raise
            self._counts.faults.pop("subscriptions", None)
            new = await self._save(old, seen)
            if new is not None:
                return new
        raise StoreError(f"the account of {tenant} is being changed by others all the time")

    async def refresh_customer(self, customer: str) -> int:
        """Every tenant of the customer; how many there are."""
        tenants = {account.tenant for account in await self._store.accounts_of(customer)}
        declared = self._snapshot().tenants
        tenants = {name for name in tenants if self._declared(name) in (None, customer)}
        tenants |= {tenant.name for tenant in declared.values() if tenant.stripe_customer == customer}
        for name in sorted(tenants):
            await self.refresh(name, customer)
        return len(tenants)

    async def step(self, account: Account) -> None:
        """A state's time is over: Stripe is asked once more first, so that nobody is cut off on old news. While it
        cannot be asked nothing happens for FAIL_OPEN_NS."""
        try:
            await self.refresh(account.tenant, self._declared(account.tenant) or account.customer)
        except StripeFault:
            now = self._clock.wall_ns()
            if account.until_ns is None or now < account.until_ns + FAIL_OPEN_NS:
                raise
            await self._save(account, _as_last_seen(account))

    async def some(self, *, after: str, limit: int) -> list[tuple[str, str]]:
        """(tenant, customer) of every account and of every tenant that is declared with a customer, by name."""
        stored = {one.tenant: one.customer for one in await self._store.accounts(after=after, limit=limit)}
        declared = self._snapshot().tenants.values()
        found = stored | {one.name: one.stripe_customer for one in declared if one.stripe_customer and one.name > after}
        return sorted(found.items())[:limit]

    def _declared(self, tenant: str) -> str | None:
        declared = self._snapshot().tenants.get(tenant)
        return declared.stripe_customer if declared is not None else None

    async def _save(self, old: Account, seen: Seen) -> Account | None:
        now = self._clock.wall_ns()
        settings = self._snapshot().settings.billing
        new, notices = follow(old, seen, settings.access, now, settings.notices.channels)
        new = replace(new, read_ns=max(now, old.read_ns + 1))
        saved = await self._store.save_account(new, actor=ACTOR, at_ns=now, notices=notices, if_read_ns=old.read_ns)
        if saved and (new.access, new.plan) != (old.access, old.plan):
            self._counts.changes[new.access.value] = self._counts.changes.get(new.access.value, 0) + 1
            log.info("%s is %s now (subscription %s)", new.tenant, new.access.value, new.status or "none")
        return new if saved else None


def _as_last_seen(account: Account) -> Seen:
    status, subscription = account.status, account.subscription
    ended = account.ends_s if status == "canceled" else None
    return Seen(account.customer, subscription, status, account.plan, (), account.trial_until_s, account.ends_s, ended)


def notices_of(
    id: str, kind: str, tenant: str, facts: dict[str, str | int], channels: tuple[str, ...], now_ns: int
) -> list[Notice]:
    """One for each channel."""
    return [Notice(id, channel, kind, tenant, facts, now_ns) for channel in channels]
