"""Keeps accounts true: reads what Stripe says again, lets it follow, writes it down with what is to be told.

A save holds only when nobody saved since the account was loaded, and the reading came after that: so the last save is
always of the newest reading, whatever the order of events and however many nodes work.
"""

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Protocol

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
PAGE = 100
log = logging.getLogger("sidecar.billing")


class PaymentStore(BillingStore, TenantStore, Protocol):
    """What is needed of a store."""


class Keeper:
    """One per process. Reads at most five times a second."""

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
        self._pace = Pace(5, clock)

    async def refresh(self, tenant: str, customer: str) -> Account:
        """Reads the tenant's subscription and saves what follows. StripeFault, StoreError."""
        settings = self._snapshot().settings.billing
        prefix = settings.stripe.prefix if settings.stripe is not None else "sidecar"
        for _ in range(TRIES):
            old = await self._store.account(tenant) or Account(tenant, customer)
            try:
                seen = await read_seen(self._client, customer, tenant, prefix, self._snapshot().plans, self._pace)
            except StripeFault:
                self._counts.failures += 1
                raise
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

    async def everybody(self) -> AsyncIterator[tuple[str, str]]:
        """(tenant, customer) of every account and of every tenant that is declared with a customer."""
        declared = {one.name: one.stripe_customer for one in self._snapshot().tenants.values() if one.stripe_customer}
        for name, customer in declared.items():
            yield name, customer
        after = ""
        while page := await self._store.accounts(after=after, limit=PAGE):
            for account in page:
                if account.tenant not in declared:
                    yield account.tenant, account.customer
            after = page[-1].tenant

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
