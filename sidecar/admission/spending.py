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
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias
from weakref import WeakValueDictionary

from sidecar.admission.gate import Demand, Gate, Pending, Ticket
from sidecar.admission.keeper import Keeper
from sidecar.admission.purses import Money, SharedSpend
from sidecar.admission.quotas import QuotaRule
from sidecar.admission.refusals import PolicyUse, Refused, unpaid_for
from sidecar.admission.scopes import HeaderOf
from sidecar.admission.shadow import ShadowGate
from sidecar.admission.shared import UNAVAILABLE, Unread
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import StoreError
from sidecar.core.money import format_micros
from sidecar.core.policy import Meter, Plan, Price, Quota, Route, SpendCap
from sidecar.core.purses import MOST
from sidecar.core.spend import CAPPED, PASSES, Spend, SpendState, SpendTerms, SpendUse, spend_terms
from sidecar.core.used import Used
from sidecar.core.values import Principal

ShareSpend: TypeAlias = Callable[[SpendTerms, str], SharedSpend]  # makes an account that nodes share
SpendReader: TypeAlias = Callable[[str, SpendTerms], Awaitable[SpendState]]
_LONG_AGO_NS = 60 * NS_PER_S  # seats are made anew within 30 s, so nobody was there for a while
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

    def __init__(self, tenant: str, spend: Spend) -> None:
        self.tenant = tenant
        self.spend = spend
        self.reading: asyncio.Task[None] | None = None
        self.read_ns = 0  # when it was read last (monotonic)
        self.stale = False  # somebody asked for another reading while one was under way


class Spends:
    """All accounts, by tenant and terms."""

    def __init__(
        self, clock: Clock, read: SpendReader, share: ShareSpend | None = None, max_accounts: int = 100_000
    ) -> None:
        self._clock = clock
        self._share = share
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
            found = self._accounts[tenant, asked] = Account(tenant, self._spend(tenant, asked))
        return found

    def _spend(self, tenant: str, asked: _Wanted) -> Spend:
        terms = spend_terms(*asked)
        if self._share is not None and (terms.prepaid or terms.cap_blocks):
            return self._share(terms, tenant)
        used = self._used.get(tenant)
        if used is None:
            used = self._used[tenant] = Used()
        return Spend(terms, used)

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


class _Need(NamedTuple):
    """Units of one priced meter that a call holds. ``known`` of them are known; ``open``: it may use others."""

    known: int
    held: int
    open: bool


def spend_rule(
    spends: Spends, principal: Principal, plan: Plan, route: Route, meters: Mapping[str, Meter], pay_url: str | None
) -> "SpendRule | Money | None":
    """None where a call of the route costs nothing: it stays open whatever is left (BerriAI/litellm#10973)."""
    asked = wanted(plan, principal)
    if asked is None:
        return None
    account = spends.get(principal.tenant, asked)
    needs = _needs(plan, route, [meters[name] for name in account.spend.terms.tariff.meters])
    if not any(need.known or need.open for need in needs):
        return None
    asks, spend = route.budget == "ask", account.spend
    if isinstance(spend, SharedSpend):
        rules = tuple(_money_rules(spend, needs, asks, asked))
        return Money(spend, rules, asks, plan.spend_cap, pay_url, lambda: spends.read(account))
    known, held = [need.known for need in needs], [need.held for need in needs]
    open_ended = any(need.open for need in needs)
    return SpendRule(account, SpendUse(spend, held), known, open_ended, asks, plan.spend_cap, pay_url)


def _needs(plan: Plan, route: Route, priced: Sequence[Meter]) -> list[_Need]:
    estimates, needs = estimates_of(plan, route), []
    for meter in priced:
        counts = meter.routes is None or route.name in meter.routes
        unsure = counts and meter.count not in ("requests", "units")
        known = {"requests": 1, "units": route.units}.get(meter.count, 0) if counts else 0
        needs.append(_Need(known, estimates.get(meter.name, 0) if unsure else known, unsure))
    return needs


def _money_rules(spend: SharedSpend, needs: Sequence[_Need], asks: bool, asked: _Wanted) -> Iterator[QuotaRule]:
    """Each meter that a call uses, as a quota without a limit: its account is asked instead."""
    cap = asked.cap
    name = "credits" if asked.prepaid or cap is None else "spend_cap"
    gone = "deny" if asked.prepaid or cap is None else cap.on_store_error
    for counter, need in zip(spend.counters, needs, strict=True):
        if need.known or need.open:
            overage = "block" if asks else "allow"
            quota = Quota(name, counter.key.meter, MOST, "billing", overage, on_store_error=gone)
            estimated = need.open and need.held > 0
            yield QuotaRule(quota, counter.key, counter, need.held, True, estimated, int(need.open))


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
                return Unread(self, self.read, method, ip, header)
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
        spend, wall = self._rule.use.spend, self._wall_ns()
        verdict = spend.verdict(self._rule.known, self._rule.open_ended, wall) if self._rule.asks else PASSES
        return standing_text(spend, wall), None if verdict == PASSES else self.refusal(verdict)

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
        self._tally.refuse("spend_cap" if verdict == CAPPED else "credits")
        return self.refusal(verdict)

    def refusal(self, verdict: int) -> Refused:
        """The 402, built only when it happens."""
        rule = self._rule
        return unpaid_for(rule.use.spend, verdict, rule.cap, self._wall_ns(), rule.pay_url, self._upgrade)


async def look_at_money(gate: Gate, keeper: Keeper | None) -> tuple[str, Refused | None] | None:
    """How the account behind a gate stands, for people, and what would be answered now; nothing is counted. None: calls
    are not counted in money. Where nodes share it the store is asked how it stands."""
    if isinstance(gate, SpendGate):
        return gate.look()
    shared = gate._enforced if isinstance(gate, ShadowGate) else gate
    money = shared._demand.money
    if money is None or keeper is None:
        return None
    spend, wall = money.spend, shared._wall_ns()
    spend.turn(wall)
    there = await keeper.look((), 0, spend.periods)
    refused = None
    if money.asks and not there and money.rules[0].quota.on_store_error == "deny":
        refused = UNAVAILABLE
    elif money.asks and (verdict := money.judged()) != PASSES:
        refused = money.refusal(verdict, wall, shared._demand.upgrade)
    return standing_text(spend, wall), refused


def standing_text(spend: Spend, wall_ns: int) -> str:
    """How an account stands, for people."""
    standing, currency = spend.standing(wall_ns), spend.terms.tariff.currency
    told = [] if standing.left is None else [f"{format_micros(standing.left, currency)} of credits left"]
    if standing.cap is not None:
        told.append(f"{format_micros(standing.spent, currency)} of {format_micros(standing.cap, currency)} spent")
    return ", ".join(told)


class SpendPending(Pending):
    """A decision for which the store of shared limits must be asked first."""

    __slots__ = ("_gate", "_inner")

    def __init__(self, gate: SpendGate, inner: Pending) -> None:
        self._gate = gate
        self._inner = inner

    async def wait(self) -> Ticket | Refused:
        return self._gate.after(await self._inner.wait())
