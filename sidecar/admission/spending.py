"""Budgets in money at the gate: a spend cap, and credits for plans that are paid beforehand.

An account (core.spend) is read from the ledger before a tenant's first call is decided, and counts on in process. It is
read again, behind the calls, whenever the tenant is seated anew: within 30 s, and within a second of a grant. So what
other nodes let pass, and what became of calls, comes in by the ledger, which is the truth.

Bound: ``max_accounts`` (100,000; 2 kB each and their grants). When it is full the one that was longest without a seat
makes room, unless a call of it is under way; it is read again when its tenant comes back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeAlias

from sidecar.admission.gate import Demand, Gate, Pending, Ticket
from sidecar.admission.refusals import PolicyUse, Refused
from sidecar.admission.scopes import HeaderOf
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import StoreError
from sidecar.core.money import format_micros
from sidecar.core.periods import period_bounds
from sidecar.core.policy import Meter, Plan, Price, Route, SpendCap
from sidecar.core.problems import problem
from sidecar.core.spend import CAPPED, PASSES, Spend, SpendState, SpendTerms, SpendUse, spend_terms
from sidecar.core.values import Principal

SpendReader: TypeAlias = Callable[[str, SpendTerms], Awaitable[SpendState]]
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


class _Account:
    __slots__ = ("asked", "reading", "spend", "stale")

    def __init__(self, asked: _Wanted) -> None:
        self.asked = asked
        self.spend = Spend(spend_terms(*asked))
        self.reading: asyncio.Task[None] | None = None
        self.stale = False  # somebody asked for another reading while one was under way


class Spends:
    """All accounts, by tenant."""

    def __init__(self, clock: Clock, read: SpendReader, max_accounts: int = 100_000) -> None:
        self._clock = clock
        self._read = read
        self._max = max_accounts
        self._accounts: dict[str, _Account] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def get(self, tenant: str, asked: _Wanted) -> Spend:
        """The tenant's account, a new one when its terms have changed."""
        return self._account(tenant, asked).spend

    async def ready(self, tenant: str, asked: _Wanted) -> None:
        """Reads the account; waits for it where nothing is known yet, and where calls are refused: a grant may have
        come. StoreError then."""
        account = self._account(tenant, asked)
        self._accounts[tenant] = self._accounts.pop(tenant)  # the one seated last is the last to go
        for _ in range(2):
            under_way = account.reading is not None
            account.stale = under_way  # that one may have begun before what it is asked for
            reading = account.reading or self._begin(tenant, account)
            if account.spend.ready and not account.spend.refused:
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

    def _account(self, tenant: str, asked: _Wanted) -> _Account:
        found = self._accounts.get(tenant)
        if found is not None and found.asked == asked:
            return found
        if found is None and len(self._accounts) >= self._max:
            self._make_room()
        made = self._accounts[tenant] = _Account(asked)
        return made

    def _make_room(self) -> None:
        for tenant, account in self._accounts.items():
            if account.reading is None and not account.spend.busy:
                del self._accounts[tenant]
                return
        raise StoreError(f"the table of accounts in money is full ({self._max}, all in use)")

    def _begin(self, tenant: str, account: _Account) -> asyncio.Task[None]:
        account.reading = asyncio.get_running_loop().create_task(self._load(tenant, account))
        account.reading.add_done_callback(lambda task: self._done(tenant, account, task))
        return account.reading

    def _done(self, tenant: str, account: _Account, task: asyncio.Task[None]) -> None:
        account.reading = None
        if task.cancelled():
            return
        error = task.exception()  # whoever waits raises it; the next seat tries again
        if error is not None:
            log.warning("what %s has left could not be read: %s", tenant, error)
        if account.stale:
            account.stale = False
            self._begin(tenant, account)

    async def _load(self, tenant: str, account: _Account) -> None:
        spend = account.spend
        before = list(spend.settled)
        state = await self._read(tenant, spend.terms)
        spend.take(state, [now - then for now, then in zip(spend.settled, before, strict=True)])


class SpendRule(NamedTuple):
    """What a gate asks of an account. ``known``: units of the priced meters that are known before a call, which have to
    fit; ``use`` holds estimates of the others too. ``open_ended``: it may use more. ``asks`` False: the route stays
    open, and is counted."""

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
    spend = spends.get(principal.tenant, asked)
    estimates = {quota.meter: quota.estimate or 0 for quota in plan.quotas}
    known, held, open_ended = [], [], False
    for name in spend.terms.tariff.meters:
        meter = meters[name]
        counts = meter.routes is None or route.name in meter.routes
        known.append({"requests": 1, "units": route.units}.get(meter.count, 0) if counts else 0)
        unsure = counts and meter.count not in ("requests", "units")
        held.append(estimates.get(name, 0) if unsure else known[-1])
        open_ended = open_ended or unsure
    if not open_ended and not any(known):
        return None
    return SpendRule(SpendUse(spend, held), known, open_ended, route.budget == "ask", plan.spend_cap, pay_url)


class SpendGate(Gate):
    """Asks the account first, which takes nothing; what ``inner`` lets pass is then held of it."""

    __slots__ = ("_rule", "_upgrade", "inner")

    def __init__(self, inner: Gate, rule: SpendRule, demand: Demand, clock: Clock) -> None:
        super().__init__(Demand(demand.route, demand.plan), clock, inner._buckets, inner._quota_book, inner._tally)
        self.inner = inner
        self._rule = rule
        self._upgrade = demand.upgrade

    def admit(self, method: str, ip: str, header: HeaderOf) -> Ticket | Refused | Pending:
        rule = self._rule
        if rule.asks:
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
