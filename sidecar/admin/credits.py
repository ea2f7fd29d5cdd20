"""What operators do with prepaid credits. As in Operations: dicts that JSON can hold, and the same errors.

Money is integer micro-units of ``currency`` with the amount for people beside it.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from uuid import uuid4

from sidecar.admin.margins import currency
from sidecar.admin.owners import tenant_named
from sidecar.admin.periods import OWN, calendar_cycle, own_bounds
from sidecar.admin.shapes import time_text
from sidecar.admin.usage import check_page
from sidecar.core.accounts import AccountSource, billing_cycle, standing
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.credit_store import CreditStore
from sidecar.core.credits import MOST_MICROS, NS_PER_MINUTE, Grant
from sidecar.core.money import MICROS, format_micros
from sidecar.core.overrides import overridden
from sidecar.core.periods import period_bounds
from sidecar.core.policy import Plan, Snapshot
from sidecar.core.ports import Ledger, TenantStore
from sidecar.core.spend import Spend, spend_terms
from sidecar.core.units import parse_duration_ns, parse_money
from sidecar.metering import Burns, Use, burned, spend_state, usable

_SOURCE = re.compile(r"[!-~]{1,200}")
_CENTURY_NS = 5_200 * 604_800_000_000_000
_PRIORITIES = range(1_000_001)


class CreditBooks(CreditStore, TenantStore, AccountSource, Protocol):
    """Grants, tenants and accounts."""


class CreditDesk:
    def __init__(
        self,
        store: CreditBooks,
        ledger: Ledger,
        snapshot: Callable[[], Snapshot],
        clock: Clock,
        changed: Callable[[str | None, str | None], Awaitable[None]],
        flush: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._snapshot = snapshot
        self._clock = clock
        self._changed = changed
        self._flush = flush

    async def grant(
        self,
        tenant: str,
        amount: str,
        *,
        source: str | None = None,
        priority: str = "100",
        expires: str | None = None,
        note: str = "",
        paid: str | None = None,
        actor: str,
    ) -> dict[str, Any]:
        """Gives the tenant ``amount`` (``"20.00 USD"``). The same ``source`` is granted once, however often it comes:
        ``new`` says whether it was. ``expires``: a duration from now, None is never; lower ``priority`` burns first.
        ``paid``: what of it came in as money, None is all; ``"0 USD"`` is a present."""
        found, _ = await tenant_named(self._snapshot(), self._store, tenant)
        now = self._clock.wall_ns()
        micros, unit = self._amount(amount)
        given = source if source is not None else f"manual-{uuid4().hex}"
        if _SOURCE.fullmatch(given) is None:
            raise ValueError("source is no id; write up to 200 printable characters without spaces, such as pi_123")
        if len(note) > 200 or not (note.isprintable() or not note):
            raise ValueError("note is too long or not printable; write at most 200 characters")
        ends = None if expires is None else now + _duration(expires)
        bonus = 0 if paid is None else micros - self._paid(paid, micros)
        grant = Grant(found.name, given, micros, unit, now, _priority(priority), ends, None, note, 0, bonus)
        stored, new = await self._store.add_grant(grant, actor=actor)
        await self._changed(found.name, None)
        return {"new": new} | _shape(stored, now)

    async def revoke(self, tenant: str, source: str, *, actor: str) -> dict[str, Any]:
        """Nothing of the grant is burned from now on; what was burned stays. NotFound."""
        now = self._clock.wall_ns()
        revoked = await self._store.revoke_grant(tenant, source, at_ns=now, actor=actor)
        await self._changed(tenant, None)
        return _shape(revoked, now)

    async def listing(self, tenant: str, *, after: str = "", limit: int = 100) -> dict[str, Any]:
        """``grants`` by source, ended ones too, with what is burned of each; ``next`` as in ``tenants_list``."""
        check_page(limit)
        await tenant_named(self._snapshot(), self._store, tenant)
        grants = await self._store.grants(tenant, after=after, limit=limit + 1)
        burns, _ = await self._burns(tenant)
        known = {grant.source: grant for grant in burns.grants}
        now = self._clock.wall_ns()
        shown = [_shape(known.get(grant.source, grant), now) for grant in grants[:limit]]
        return {"grants": shown, "next": grants[limit - 1].source if len(grants) > limit else None}

    async def balance(self, tenant: str) -> dict[str, Any]:
        """What can be burned now, of the running period what was spent, and what no grant paid for."""
        burns, unit = await self._burns(tenant)
        now = self._clock.wall_ns()
        left = usable(burns.grants, now // NS_PER_MINUTE)
        plan = await self._plan(tenant)
        open_grants = [
            grant for grant in burns.grants if grant.amount > grant.burned and grant.end > now // NS_PER_MINUTE
        ]
        shown = [_shape(grant, now) for grant in sorted(open_grants, key=lambda grant: grant.order)[:100]]
        return {
            "tenant": tenant,
            "prepaid": plan is not None and plan.prepaid,
            "currency": unit,
            "available": left,
            "available_text": format_micros(left, unit),
            "uncovered": burns.uncovered,
            "grants": shown,
        }

    async def period(self, tenant: str, text: str) -> tuple[str, str | None]:
        """``since`` and ``until`` of a period of the tenant, None while it runs: ``billing``, ``previous`` (the billing
        period before it), or ``hour``, ``day``, ``week``, ``month``, in UTC or as ``day:Europe/Berlin``. ValueError."""
        now = self._clock.wall_ns()
        if text in OWN:
            start, end = own_bounds(text, await self._cycle(tenant), now)
        else:
            start, end = period_bounds(calendar_cycle(text), now)
        return time_text(start), time_text(end) if end <= now else None

    async def spending(self, tenant: str) -> dict[str, Any]:
        """``spend``: what the running billing period's metered use costs so far, how the spend cap stands, and what was
        burned of credits in the period and is left. Empty where nothing has a price. NotFound."""
        plan, cycle = await self._plan(tenant), await self._cycle(tenant)
        if plan is None or plan.price is None or not plan.price.meters:
            return {}
        await self._flush()
        terms = spend_terms(plan.price, cycle, plan.spend_cap, plan.prepaid)
        now, unit, use = self._clock.wall_ns(), terms.tariff.currency, Use(tenant, terms, self._total)
        book, grants = await self._store.credit(tenant) if plan.prepaid else (None, [])
        grants = [grant for grant in grants if grant.currency == unit]
        state, burns = await spend_state(use, terms, (book, grants), now)
        spend = Spend(terms)
        spend.take(state, [0] * len(state.totals))
        start, end = period_bounds(cycle, now)
        found: dict[str, Any] = {
            "since": time_text(start),
            "until": time_text(end),
            "currency": unit,
            "metered": terms.tariff.micros(list(state.totals)),
            "cap": None,
            "credits": None,
        }
        if plan.spend_cap is not None:
            begun, ends = (time_text(ns) for ns in period_bounds(terms.cap_period, now))
            spent, limit = spend.standing(now).spent, plan.spend_cap.limit.micros
            overage = plan.spend_cap.overage
            found["cap"] = {"since": begun, "until": ends, "limit": limit, "spent": spent, "overage": overage}
        if plan.prepaid:
            before = await burned(use, book, grants, start // NS_PER_MINUTE - 1)
            spent = sum(grant.burned for grant in burns.grants) - sum(grant.burned for grant in before.grants)
            left = usable(burns.grants, now // NS_PER_MINUTE)
            found["credits"] = {"burned": spent, "left": left, "uncovered": burns.uncovered}
        return {"spend": found}

    async def _burns(self, tenant: str) -> tuple[Burns, str]:
        """As the ledger has it now; a plan without prepaid burns nothing."""
        unit = currency(self._snapshot())
        plan, cycle = await self._plan(tenant), await self._cycle(tenant)
        book, grants = await self._store.credit(tenant)
        grants = [grant for grant in grants if grant.currency == unit]
        if plan is None or plan.price is None or not plan.prepaid:
            return Burns(tuple(grants), 0 if book is None else book.uncovered, None), unit
        await self._flush()
        terms = spend_terms(plan.price, cycle, None, True)
        use = Use(tenant, terms, self._total)
        return await burned(use, book, grants, self._clock.wall_ns() // NS_PER_MINUTE), unit

    async def _total(self, tenant: str, meter: str, since_us: int, until_us: int, sandbox: bool) -> int:
        return await self._ledger.meter_total(tenant, meter, since_us=since_us, until_us=until_us, sandbox=sandbox)

    async def _plan(self, tenant: str) -> Plan | None:
        found, _ = await tenant_named(self._snapshot(), self._store, tenant)
        named = standing(found, await self._store.account(tenant)).plan
        plan = self._snapshot().plans.get(named)
        return None if plan is None else overridden(plan, found.overrides)

    async def _cycle(self, tenant: str) -> str:
        found, _ = await tenant_named(self._snapshot(), self._store, tenant)
        return billing_cycle(found, await self._store.account(tenant), self._clock.wall_ns() // NS_PER_S)

    def _amount(self, text: str) -> tuple[int, str]:
        money = parse_money(text)
        exact = money.amount * MICROS
        unit = currency(self._snapshot())
        if money.currency != unit:
            raise ValueError(f"{text!r} is in {money.currency}, the prices are in {unit}; write the amount in {unit}")
        if exact.denominator != 1 or not 0 < exact.numerator <= MOST_MICROS:
            most = format_micros(MOST_MICROS, unit)
            raise ValueError(f"{text!r} is no amount to grant; write one from 0.000001 {unit} to {most}")
        return exact.numerator, unit

    def _paid(self, text: str, amount: int) -> int:
        unit = currency(self._snapshot())
        money = parse_money(text)
        exact = money.amount * MICROS
        if (money.currency != unit and money.amount) or exact.denominator != 1 or not 0 <= exact.numerator <= amount:
            most = format_micros(amount, unit)
            raise ValueError(f"{text!r} was not paid for it; write paid from 0.00 {unit} to the amount, {most}")
        return exact.numerator


def _priority(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 7 and int(text) in _PRIORITIES):
        raise ValueError(f"{text!r} is no priority; write a whole number from 0 to 1,000,000, lower ones burn first")
    return int(text)


def _duration(text: str) -> int:
    duration = parse_duration_ns(text)
    if not NS_PER_MINUTE <= duration <= _CENTURY_NS:
        raise ValueError(f"expires is {text}; write 1m to 5200w")
    return duration


def _shape(grant: Grant, now_ns: int) -> dict[str, Any]:
    minute = now_ns // NS_PER_MINUTE
    left = max(0, grant.amount - grant.burned)
    ended = grant.end <= minute
    state = (
        "revoked" if ended and grant.revoked_ns is not None else "expired" if ended else "open" if left else "burned"
    )
    return {
        "tenant": grant.tenant,
        "source": grant.source,
        "amount": grant.amount,
        "paid": grant.paid,
        "burned": grant.burned,
        "left": 0 if ended else left,
        "currency": grant.currency,
        "amount_text": format_micros(grant.amount, grant.currency),
        "paid_text": format_micros(grant.paid, grant.currency),
        "left_text": format_micros(0 if ended else left, grant.currency),
        "priority": grant.priority,
        "granted": time_text(grant.granted_ns),
        "expires": None if grant.expires_ns is None else time_text(grant.expires_ns),
        "revoked": None if grant.revoked_ns is None else time_text(grant.revoked_ns),
        "state": state,
        "note": grant.note,
    }
