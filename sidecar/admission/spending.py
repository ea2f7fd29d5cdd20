"""Budgets in money at the gate: a spend cap, and credits for plans that are paid beforehand.

An account (core.spend) is read from the ledger before a tenant's first call is decided, and counts on in process. It is
read again, behind the calls, whenever the tenant is seated anew: within 30 s, and within a second of a grant. So what
other nodes let pass, and what became of calls, comes in by the ledger, which is the truth.

An account is one tenant's under one set of terms: two plans of a tenant have one each, and what either uses counts in
both. A call that meets an account before it was read (a reload changed the terms) waits for that.

Bound: ``max_accounts`` (100,000; 2 kB each and their grants). When it is full the one that was longest without a seat
makes room, unless a call of it is under way; it is read again when its tenant comes back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakValueDictionary

from sidecar.admission.gate import Demand, Gate, Pending, Ticket
from sidecar.admission.refusals import PolicyUse, Refused
from sidecar.admission.scopes import HeaderOf
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import StoreError
from sidecar.core.money import format_micros
from sidecar.core.periods import period_bounds
from sidecar.core.policy import Meter, Plan, Price, Route, SpendCap
from sidecar.core.problems import problem
from sidecar.core.spend import CAPPED, PASSES, Spend, SpendState, SpendTerms, SpendUse, Used, spend_terms
from sidecar.core.values import Principal

SpendReader: TypeAlias = Callable[[str, SpendTerms], Awaitable[SpendState]]
_LONG_AGO_NS = 60 * NS_PER_S  # seats are made anew within 30 s, so nobody was there for a while
UNREADABLE = Refused(problem("store_unavailable", "What the account has left could not be read; try again."))
log = logging.getLogger("sidecar.admission")


class _Wanted(NamedTuple):
    """What an account is made of."""

    price: Price
    cycle: str
    cap: SpendCap | None
    prepaid: bool


def wanted(plan: Plan, principal: Principal) -> _Wanted | None:
    """None where calls are not counted in money: without a price, a cap or credits, and for test keys."""
    price = plan.price
    if principal.sandbox or price is None or not price.meters or (plan.spend_cap is None and not plan.prepaid):
        return None
    return _Wanted(price, principal.billing_cycle, plan.spend_cap, plan.prepaid)


class Account:
    """One tenant's money under one set of terms."""

    __slots__ = ("read_ns", "reading", "spend", "stale", "tenant")

    def __init__(self, tenant: str, asked: _Wanted, used: Used) -> None:
        self.tenant = tenant
        self.spend = Spend(spend_terms(*asked), used)
        self.reading: asyncio.Task[None] | None = None
        self.read_ns = 0  # when it was read last (monotonic)
        self.stale = False  # somebody asked for another reading while one was under way


class Spends:
    """All accounts, by tenant and terms."""

    def __init__(self, clock: Clock, read: SpendReader, max_accounts: int = 100_000) -> None:
        self._clock = clock
        self._read = read
        self._max = max_accounts
        self._accounts: dict[tuple[str, _Wanted], Account] = {}
        self._used: WeakValueDictionary[str, Used] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._accounts)

    def get(self, tenant: str, asked: _Wanted) -> Account:
        """The tenant's account under these terms."""
        found = self._accounts.get((tenant, asked))
        if found is None:
            if len(self._accounts) >= self._max:
                self._make_room()
            used = self._used.get(tenant)
            if used is None:
                used = self._used[tenant] = Used()
            found = self._accounts[tenant, asked] = Account(tenant, asked, used)
        return found

    async def ready(self, tenant: str, asked: _Wanted) -> None:
        """Reads the account; waits for it where too little is known, and where calls are refused: a grant may have
        come. StoreError then."""
        account = self.get(tenant, asked)
        self._accounts[tenant, asked] = self._accounts.pop((tenant, asked))  # the one seated last is the last to go
        await self.read(account)

    async def read(self, account: Account) -> None:
        """As ``ready``, for an account that somebody has."""
        for _ in range(2):
            under_way = account.reading is not None
            account.stale = under_way  # that one may have begun before what it is asked for
            reading = account.reading or self._begin(account)
            known = account.spend.ready and self._clock.monotonic_ns() - account.read_ns < _LONG_AGO_NS
            if known and not account.spend.refused:
                return
            await asyncio.shield(reading)
            if not under_way:
                return

    async def close(self) -> None:
        """Stops readings under way."""
        tasks = [account.reading for account in self._accounts.values() if account.reading is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _make_room(self) -> None:
        for key, account in self._accounts.items():
            if account.reading is None and not account.spend.busy:
                del self._accounts[key]
                return
        raise StoreError(f"the table of accounts in money is full ({self._max}, all in use)")

    def _begin(self, account: Account) -> asyncio.Task[None]:
        account.reading = asyncio.get_running_loop().create_task(self._load(account))
        account.reading.add_done_callback(lambda task: self._done(account, task))
        return account.reading

    def _done(self, account: Account, task: asyncio.Task[None]) -> None:
        account.reading = None
        if task.cancelled():
            return
        error = task.exception()  # whoever waits raises it; the next seat tries again
        if error is not None:
            log.warning("what %s has left could not be read: %s", account.tenant, error)
        if account.stale:
            account.stale = False
            self._begin(account)

    async def _load(self, account: Account) -> None:
        spend = account.spend
        before, began = spend.settled, self._clock.monotonic_ns()
        state = await self._read(account.tenant, spend.terms)
        spend.take(state, [now - then for now, then in zip(spend.settled, before, strict=True)])
        account.read_ns = began


class SpendRule(NamedTuple):
    """What a gate asks of an account. ``known``: units of the priced meters that are known before a call, which have to
    fit; ``use`` holds estimates of the others too. ``open_ended``: it may use more. ``asks`` False: the route stays
    open, and is counted."""

    account: Account
    use: SpendUse
    known: list[int]
    open_ended: bool
    asks: bool
    cap: SpendCap | None
    pay_url: str | None


def spend_rule(
    spends: Spends, principal: Principal, plan: Plan, route: Route, meters: Mapping[str, Meter], pay_url: str | None
) -> SpendRule | None:
    """None where a call of the route costs nothing: it stays open whatever is left (BerriAI/litellm#10973)."""
    asked = wanted(plan, principal)
    if asked is None:
        return None
    account = spends.get(principal.tenant, asked)
    estimates = estimates_of(plan, route)
    known, held, open_ended = [], [], False
    for name in account.spend.terms.tariff.meters:
        meter = meters[name]
        counts = meter.routes is None or route.name in meter.routes
        known.append({"requests": 1, "units": route.units}.get(meter.count, 0) if counts else 0)
        unsure = counts and meter.count not in ("requests", "units")
        held.append(estimates.get(name, 0) if unsure else known[-1])
        open_ended = open_ended or unsure
    if not open_ended and not any(known):
        return None
    asks = route.budget == "ask"
    return SpendRule(account, SpendUse(account.spend, held), known, open_ended, asks, plan.spend_cap, pay_url)


def estimates_of(plan: Plan, route: Route) -> dict[str, int]:
    """What a call at the route holds of meters that are known only at its end: as the route says, else the largest that
    a quota of the plan says."""
    found: dict[str, int] = {}
    for quota in plan.quotas:
        found[quota.meter] = max(found.get(quota.meter, 0), quota.estimate or 0)
    return found | dict(route.estimates or ())


class SpendGate(Gate):
    """Asks the account first, which takes nothing; what ``inner`` lets pass is then held of it."""

    __slots__ = ("_rule", "_spends", "_upgrade", "inner")

    def __init__(self, inner: Gate, rule: SpendRule, demand: Demand, clock: Clock, spends: Spends) -> None:
        super().__init__(Demand(demand.route, demand.plan), clock, inner._buckets, inner._quota_book, inner._tally)
        self.inner = inner
        self._rule = rule
        self._spends = spends
        self._upgrade = demand.upgrade

    def admit(self, method: str, ip: str, header: HeaderOf) -> Ticket | Refused | Pending:
        rule = self._rule
        if rule.asks:
            if not rule.use.spend.ready:
                return Unread(self, method, ip, header)
            verdict = rule.use.spend.verdict(rule.known, rule.open_ended, self._wall_ns())
            if verdict != PASSES:
                return self._refuse_for(verdict)
        decided = self.inner.admit(method, ip, header)
        if isinstance(decided, Ticket):
            rule.use.begin()
            decided.spend = rule.use
        elif isinstance(decided, Pending):
            return SpendPending(self, decided)
        return decided

    def uses(self) -> list[tuple[int, PolicyUse]]:
        return self.inner.uses()

    def look(self) -> tuple[str, Refused | None]:
        """How the account stands, for people, and what would be answered now; nothing is counted."""
        spend, currency = self._rule.use.spend, self._rule.use.spend.terms.tariff.currency
        wall = self._wall_ns()
        standing = spend.standing(wall)
        told = [] if standing.left is None else [f"{format_micros(standing.left, currency)} of credits left"]
        if standing.cap is not None:
            told.append(f"{format_micros(standing.spent, currency)} of {format_micros(standing.cap, currency)} spent")
        verdict = spend.verdict(self._rule.known, self._rule.open_ended, wall) if self._rule.asks else PASSES
        return ", ".join(told), None if verdict == PASSES else self.refusal(verdict)

    def after(self, decided: Ticket | Refused) -> Ticket | Refused:
        """Of a call that waited: others may have spent what was left."""
        rule = self._rule
        if not isinstance(decided, Ticket):
            return decided
        if rule.asks:
            verdict = rule.use.spend.verdict(rule.known, rule.open_ended, self._wall_ns())
            if verdict != PASSES:
                decided.release()
                return self._refuse_for(verdict)
        rule.use.begin()
        decided.spend = rule.use
        return decided

    async def read(self) -> None:
        """StoreError."""
        await self._spends.read(self._rule.account)

    def _refuse_for(self, verdict: int) -> Refused:
        name = "spend_cap" if verdict == CAPPED else "credits"
        counts = self._tally.refused
        counts[name] = counts.get(name, 0) + 1
        return self.refusal(verdict)

    def refusal(self, verdict: int) -> Refused:
        """The 402, built only when it happens."""
        rule = self._rule
        wall = self._wall_ns()
        standing, currency = rule.use.spend.standing(wall), rule.use.spend.terms.tariff.currency
        code = "spend_cap_reached" if verdict == CAPPED else "credits_exhausted"
        headers: tuple[tuple[str, str], ...] = ()
        if verdict == CAPPED and rule.cap is not None:
            end_ns = period_bounds(rule.use.spend.terms.cap_period, wall)[1]
            retry_s = max(1, -(-(end_ns - wall) // NS_PER_S))
            headers = (("Retry-After", str(retry_s)),)
            span = "billing period" if rule.cap.period == "billing" else rule.cap.period
            spent = format_micros(standing.spent, currency)
            detail = f"The spend cap allows {rule.cap.limit} per {span}; {spent} are spent, calls under way with them."
            detail = f"{detail} It starts anew in {retry_s} s. Calls that cost nothing pass."
            extra = {"limit": str(rule.cap.limit), "spent": spent}
        else:
            left = format_micros(standing.left or 0, currency)
            detail = f"The credits do not pay for this call: {left} are left. Calls that cost nothing pass."
            extra = {"left": left}
        if rule.pay_url is not None:
            detail, extra = f"{detail} Pay at {rule.pay_url}", extra | {"pay": rule.pay_url}
        if self._upgrade:
            extra = extra | {"upgrade": self._upgrade}
        return Refused(problem(code, detail, headers=headers, extra=extra))


class SpendPending(Pending):
    """A decision for which the store of shared limits must be asked first."""

    __slots__ = ("_gate", "_inner")

    def __init__(self, gate: SpendGate, inner: Pending) -> None:
        self._gate = gate
        self._inner = inner

    async def wait(self) -> Ticket | Refused:
        return self._gate.after(await self._inner.wait())


class Unread(Pending):
    """A decision for which an account must be read first."""

    __slots__ = ("_asked", "_gate")

    def __init__(self, gate: SpendGate, *asked: Any) -> None:
        self._gate = gate
        self._asked = asked

    async def wait(self) -> Ticket | Refused:
        try:
            await self._gate.read()
        except StoreError:
            return UNREADABLE
        decided = self._gate.admit(*self._asked)
        return await decided.wait() if isinstance(decided, Pending) else decided
