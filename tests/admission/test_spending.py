"""Budgets in money at the gate: read once, held and settled, and free routes stay open."""

import asyncio
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from sidecar.admission import Admission, Asker, Gate, Pending, Refused, Ticket
from sidecar.core import spend
from sidecar.core.credits import Grant
from sidecar.core.errors import StoreError
from sidecar.core.money import Money
from sidecar.core.periods import period_bounds
from sidecar.core.policy import Limit, MeterPrice, Plan, Price, Quota, Route, Snapshot, SpendCap
from sidecar.core.spend import SpendState, SpendTerms
from sidecar.core.values import Override, Overrides, Principal, SpendCapOverride
from tests.admission.conftest import METERS, Desk

PRICE = Price(
    Money(Fraction(0), "USD"),
    (MeterPrice("paid", 0, 1, Money(Fraction("0.10"), "USD")), MeterPrice("bytes", 0, 10, Money(Fraction(1), "USD"))),
)
PREPAID = Plan("p", price=Price(PRICE.base, PRICE.meters[:1]), prepaid=True, upgrade="https://example.com/buy")
CAPPED = replace(PREPAID, prepaid=False, spend_cap=SpendCap(Money(Fraction("0.30"), "USD"), "month"))
SEARCH, FREE = Route("search", "/search", "api"), Route("free", "/free", "api")


class Bank(Desk):
    """A desk whose ledger knows what tenants have and used."""

    def __init__(self) -> None:
        super().__init__()
        self.grants: dict[str, list[Grant]] = {}
        self.used: dict[str, int] = {}
        self.reads = 0
        self.room = Admission(self.clock, self.ledger.meter_total, spent=self.read)

    async def read(self, tenant: str, terms: SpendTerms) -> SpendState:
        self.reads += 1
        await self.ledger.go.wait()
        if self.ledger.down:
            raise StoreError("the ledger is down")
        used = (self.used.get(tenant, 0), *([0] * (len(terms.tariff.meters) - 1)))
        return SpendState(
            self.clock.wall_ns(), used, cap_base=(0,) * len(used), grants=tuple(self.grants.get(tenant, ()))
        )

    def give(self, micros: int, tenant: str = "acme", source: str = "a", burned: int = 0) -> None:
        made = Grant(tenant, source, micros, "USD", self.clock.wall_ns(), burned=burned)
        self.grants.setdefault(tenant, []).append(made)

    def calls(self, gate: Gate, times: int, *, settled: bool = True) -> int:
        """How many pass."""
        passed = 0
        for _ in range(times):
            decided = gate.admit("GET", "192.0.2.1", lambda name: None)
            if not isinstance(decided, Refused):
                passed += 1
                if settled:
                    assert isinstance(decided, Ticket)
                    decided.settle({"paid": 1})
        return passed


@pytest.fixture
async def bank() -> Bank:
    made = Bank()
    made.load(PREPAID)
    return made


async def seated(bank: Bank, principal: Principal | None = None, route: Route = SEARCH) -> Gate:
    return (await bank.room.seat(principal or Principal("acme", "k", "p"))).gate(route)


async def test_credits_are_burned_to_a_402_and_free_routes_stay_open(bank: Bank) -> None:
    """BerriAI/litellm#10973."""
    bank.give(350_000)
    gate = await seated(bank)
    assert bank.calls(gate, 6) == 3
    refused = bank.refusal(gate).problem
    assert (refused.status, refused.code) == (402, "credits_exhausted")
    assert refused.extra == {"left": "0.05 USD", "upgrade": "https://example.com/buy"}
    assert bank.calls(await seated(bank, route=FREE), 5) == 5
    assert bank.calls(await seated(bank, route=replace(SEARCH, budget="ignore")), 2) == 2
    assert bank.room.readings().refused["p", "credits"] == 4


async def test_a_spend_cap_ends_in_a_402_until_its_period_is_over(bank: Bank) -> None:
    bank.load(CAPPED)
    gate = await seated(bank)
    assert bank.calls(gate, 5) == 3
    refused = bank.refusal(gate).problem
    assert (refused.status, refused.code) == (402, "spend_cap_reached")
    assert refused.extra["spent"] == refused.extra["limit"] == "0.30 USD"
    assert dict(refused.headers)["Retry-After"] == str(31 * 86_400 - 12 * 3600)
    bank.clock.advance(31 * 86_400 - 12 * 3600)
    assert bank.calls(gate, 5) == 3


async def test_a_tenant_may_have_another_cap(bank: Bank) -> None:
    bank.load(CAPPED)
    own = Overrides(spend_cap=SpendCapOverride(Money(Fraction("0.50"), "USD")))
    assert bank.calls(await seated(bank, Principal("acme", "k", "p", overrides=own)), 9) == 5
    lax = Overrides(spend_cap=SpendCapOverride(overage="allow"), quotas={"none": Override("none", 1)})
    assert bank.calls(await seated(bank, Principal("beta", "k", "p", overrides=lax)), 9) == 9


async def test_of_n_calls_at_once_at_the_last_unit_one_passes(bank: Bank) -> None:
    """BerriAI/litellm#34732, #40095; what fails is given back (#27639), and settled twice counts once (#35569)."""
    bank.give(100_000)
    gate = await seated(bank)
    ticket = bank.ticket(gate)
    assert bank.calls(gate, 5) == 0
    ticket.release()
    ticket.release()
    assert bank.calls(gate, 5) == 1


async def test_what_nobody_knows_beforehand_passes_while_anything_is_left(bank: Bank) -> None:
    """BerriAI/litellm#38647: no lock-out by an estimate."""
    bank.load(replace(PREPAID, price=PRICE))
    bank.give(100_001)
    gate = await seated(bank, route=Route("other", "/other", "api"))
    bank.ticket(gate).settle({"bytes": 500})
    assert bank.refusal(gate).problem.code == "credits_exhausted"


async def test_an_estimate_is_held_and_locks_nobody_out(bank: Bank) -> None:
    """BerriAI/litellm#38647: an estimate of 5 USD on 0.10 USD passes and holds all of it; the next one waits for its
    end, and what it did not use is there again."""
    quota = Quota("q", "bytes", 10**9, "day", estimate=50)
    bank.load(replace(PREPAID, price=PRICE, quotas=(quota,)))
    bank.give(100_001)
    gate = await seated(bank, route=Route("other", "/other", "api"))
    ticket = bank.ticket(gate)
    assert bank.refusal(gate).problem.code == "credits_exhausted"
    ticket.settle({"bytes": 1})
    assert bank.passes(gate)


async def test_a_refusal_by_a_limit_takes_no_money_and_the_other_way_round(bank: Bank) -> None:
    limited = replace(PREPAID, limits=(Limit("steady", 2, 60_000_000_000),))
    bank.load(limited)
    bank.give(100_000)
    gate = await seated(bank)
    assert bank.calls(gate, 3) == 1
    bank.give(200_000, source="b")
    gate = await seated(bank)
    bank.used["acme"] = 1
    await bank.turn()
    assert bank.calls(gate, 3) == 1, "the two that money refused took nothing of the limit"
    bank.clock.advance(61)
    assert bank.calls(gate, 1) == 1


async def test_what_was_used_before_is_read_once_for_all_keys(bank: Bank) -> None:
    bank.give(500_000, burned=300_000)
    bank.used["acme"] = 3
    gates = await asyncio.gather(*(seated(bank, Principal("acme", f"k{n}", "p")) for n in range(20)))
    assert bank.reads <= 3
    assert sum(bank.calls(gate, 1) for gate in gates) == 2


async def test_a_failed_read_is_a_failure_and_is_tried_again(bank: Bank) -> None:
    """Fail closed (BerriAI/litellm#33923): without the sum nobody is seated."""
    bank.give(100_000)
    bank.ledger.down = True
    with pytest.raises(StoreError):
        await seated(bank)
    bank.ledger.down = False
    assert bank.calls(await seated(bank), 2) == 1


async def test_a_top_up_opens_at_the_next_seat(bank: Bank) -> None:
    gate = await seated(bank)
    assert bank.calls(gate, 1) == 0
    bank.give(200_000)
    assert bank.calls(await seated(bank), 5) == 2


async def test_a_reading_under_way_holds_nobody_up_who_has_something_left(bank: Bank) -> None:
    bank.give(500_000)
    await seated(bank)
    bank.ledger.go.clear()
    gate = await asyncio.wait_for(seated(bank), 1)
    assert bank.calls(gate, 2) == 2
    bank.ledger.go.set()
    await bank.turn()
    assert bank.calls(gate, 9) == 3, "what was settled while it was read counts"
    await bank.room.close()


async def test_test_keys_and_plans_without_a_budget_are_not_counted_in_money(bank: Bank) -> None:
    bank.load(replace(PREPAID, test_keys="p"), Plan("q", price=PREPAID.price))
    assert bank.calls(await seated(bank, Principal("acme", "t", "p", sandbox=True)), 3) == 3
    assert bank.calls(await seated(bank, Principal("acme", "k", "q")), 3) == 3
    assert bank.reads == 0


async def test_the_table_of_accounts_has_a_bound(bank: Bank) -> None:
    spends = bank.room._spends
    assert spends is not None
    spends._max = 2
    gates = {}
    for name in ("a", "b"):
        bank.give(500_000, tenant=name)
        gates[name] = await seated(bank, Principal(name, "k", "p"))
    held = [bank.ticket(gate) for gate in gates.values()]
    with pytest.raises(StoreError, match="full"):
        await seated(bank, Principal("c", "k", "p"))
    held[0].settle({"paid": 1})
    await seated(bank, Principal("c", "k", "p"))
    assert len(spends) == 2


async def test_a_call_that_waited_for_shared_limits_is_asked_again(bank: Bank) -> None:
    """Others may have spent what was left meanwhile: then it gives its place back."""
    bank.give(100_000)
    gate: Any = await seated(bank)
    first, second = bank.ticket(gate.inner), bank.ticket(gate.inner)
    assert gate.after(first) is first
    refused = gate.after(second)
    assert isinstance(refused, Refused)
    assert refused.problem.code == "credits_exhausted"
    first.settle({})
    assert bank.calls(gate, 2) == 1


async def test_explaining_consumes_nothing(bank: Bank) -> None:
    bank.give(100_000)
    principal = Principal("acme", "k", "p")
    for _ in range(2):
        told = await bank.room.explain(principal, SEARCH, Asker())
        assert [(check.says, check.code) for check in told.checks if check.name == "budget"] == [
            ("0.10 USD of credits left", None)
        ]
    assert bank.calls(await seated(bank), 2) == 1
    bank.used["acme"], bank.grants["acme"] = 1, []
    told = await bank.room.explain(principal, SEARCH, Asker())
    assert told.answer is not None
    assert told.answer.problem.code == "credits_exhausted"


async def test_a_reload_with_another_cap_holds_at_once(bank: Bank) -> None:
    bank.load(CAPPED)
    assert bank.calls(await seated(bank), 5) == 3
    bank.used["acme"] = 3
    more = replace(CAPPED, spend_cap=SpendCap(Money(Fraction("0.40"), "USD"), "month"))
    bank.room.load(Snapshot(meters=METERS, plans={"p": more}))
    assert bank.calls(await seated(bank), 5) == 1


async def test_a_routes_own_estimate_is_held_before_a_quotas(bank: Bank) -> None:
    """``estimates`` of a route says what its calls hold, whether or not a quota says something else."""
    bank.load(replace(PREPAID, price=PRICE, quotas=(Quota("q", "bytes", 10**9, "day", estimate=1),)))
    bank.give(2_000_000)
    other = Route("other", "/other", "api")
    gate = await seated(bank, route=replace(other, estimates=(("bytes", 15),)))
    first = bank.ticket(gate)
    assert bank.passes(gate), "1.50 USD are held, 0.50 USD are left"
    assert bank.refusal(gate).problem.code == "credits_exhausted"
    first.settle({})
    bank.load(replace(PREPAID, price=PRICE))  # and without any quota
    bank.give(1_000_000, tenant="beta")
    gate = await seated(bank, Principal("beta", "k", "p"), route=replace(other, estimates=(("bytes", 15),)))
    assert bank.passes(gate)
    assert bank.refusal(gate).problem.code == "credits_exhausted"


async def test_two_plans_of_one_tenant_are_two_accounts_of_the_same_use(bank: Bank) -> None:
    """A token names a plan: each plan has its price and its cap, and what either uses counts in both."""
    dear = Price(PRICE.base, (replace(PRICE.meters[0], amount=Money(Fraction("0.20"), "USD")),))
    bank.load(CAPPED, replace(CAPPED, name="q", price=dear, spend_cap=SpendCap(Money(Fraction(1), "USD"))))
    cheap, other = await seated(bank), await seated(bank, Principal("acme", "k", "q"))
    assert bank.calls(cheap, 1) == 1
    assert bank.calls(other, 1) == 1
    assert bank.calls(cheap, 9) == 1, "one and one, and the third: 0.30 USD"
    held = bank.ticket(other)
    assert bank.calls(other, 9) == 1, "four and one: 1.00 USD"
    held.settle({"paid": 1})
    spends = bank.room._spends
    assert spends is not None
    assert (len(spends), bank.calls(cheap, 1), bank.calls(other, 1)) == (2, 0, 0)


async def test_an_account_that_was_not_read_is_not_walked_through_and_makes_the_call_wait(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began at 1970 and walked through every hour since."""
    walked: list[int] = []

    def bounds(cycle: str, wall_ns: int) -> tuple[int, int]:
        walked.append(wall_ns)
        return period_bounds(cycle, wall_ns)

    monkeypatch.setattr(spend, "period_bounds", bounds)
    seat = await bank.room.seat(Principal("acme", "k", "p"))
    hourly = replace(CAPPED, spend_cap=SpendCap(Money(Fraction("0.20"), "USD"), "hour"))
    bank.room.load(Snapshot(meters=METERS, plans={"p": hourly}))  # the seat stays, its account is another one
    bank.used["acme"] = 1
    waits = seat.gate(SEARCH).admit("GET", "192.0.2.1", lambda name: None)
    assert isinstance(waits, Pending)
    bank.ledger.down = True
    refused = await waits.wait()
    assert isinstance(refused, Refused)
    assert (refused.problem.status, refused.problem.code) == (503, "store_unavailable")
    assert ("Retry-After", "1") in refused.problem.headers
    bank.ledger.down = False
    again = seat.gate(SEARCH).admit("GET", "192.0.2.1", lambda name: None)
    assert isinstance(again, Pending)
    passed = await again.wait()
    assert isinstance(passed, Ticket)
    passed.release()
    assert len(walked) < 10
    walked.clear()
    bank.clock.advance(500 * 86_400)  # nobody was there: its account is read before it is asked
    await seated(bank)
    bank.ticket(await seated(bank))
    assert len(walked) < 20
