"""An account in money that counts on by itself agrees with the ledger, and holds its ceilings."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credits import NS_PER_MINUTE, Grant
from sidecar.core.money import Money
from sidecar.core.policy import MeterPrice, Price, SpendCap, Tier
from sidecar.core.spend import CAPPED, PASSES, SPENT, Spend, SpendState, SpendTerms, SpendUse, spend_terms
from sidecar.metering import Use, burned, spend_state, usable

DAY = 1440
START = 29_000_000 // DAY * DAY  # a Unix minute at midnight


def usd(text: str) -> Money:
    return Money(Fraction(text), "USD")


PLAIN = Price(usd("29"), (MeterPrice("calls", 0, 1, usd("0.10")),))
INCLUDED = Price(usd("0"), (MeterPrice("calls", 5, 3, usd("0.25")), MeterPrice("tokens", 0, 1000, usd("0.50"))))
STEPS = Price(
    usd("0"), (MeterPrice("calls", 0, 1, usd("0"), "graduated", (Tier(3, usd("1")), Tier(None, usd("0.001")))),)
)
PACKAGES = Price(usd("0"), (MeterPrice("calls", 0, 4, usd("2"), "package"),))


def account(price: Price, grants: tuple[Grant, ...] = (), cap: str | None = None, period: str = "day") -> Spend:
    terms = spend_terms(
        price, "month", None if cap is None else SpendCap(usd(cap), period), bool(grants) or cap is None
    )
    made = Spend(terms)
    made.take(SpendState(START * NS_PER_MINUTE, (0,) * len(price.meters), grants=grants), [0] * len(price.meters))
    return made


def grant(micros: int, begin: int = START, end: int | None = None, source: str = "a") -> Grant:
    expires = None if end is None else end * NS_PER_MINUTE
    return Grant("acme", source, micros, "USD", begin * NS_PER_MINUTE, expires_ns=expires)


NOW = START * NS_PER_MINUTE


def settle(spend: Spend, held: list[int], values: list[int]) -> None:
    """A call ended that held, and used, so many units of each meter."""
    used = dict(zip(spend.terms.tariff.meters, values, strict=True))
    spend.settle([-units for units in held], used)


def test_calls_pass_as_long_as_what_is_known_of_them_fits() -> None:
    spend = account(PLAIN, (grant(350_000),))
    passed = []
    for _ in range(5):
        verdict = spend.verdict([1], False, NOW)
        passed.append(verdict)
        if verdict == PASSES:
            spend.hold([1])
            settle(spend, [1], [1])
    assert passed == [PASSES, PASSES, PASSES, SPENT, SPENT]
    assert spend.standing(NOW).left == 50_000


def test_n_calls_at_once_at_the_last_unit_exactly_one_passes() -> None:
    """BerriAI/litellm#34732, #40095: what is held counts."""
    spend = account(PLAIN, (grant(100_000),))
    passed = 0
    for _ in range(8):
        if spend.verdict([1], False, NOW) == PASSES:
            spend.hold([1])
            passed += 1
    assert passed == 1
    settle(spend, [1], [0])
    assert spend.verdict([1], False, NOW) == PASSES, "what was not used is given back (litellm#27639)"


def test_what_is_not_known_beforehand_passes_while_anything_is_left() -> None:
    """An estimate above what is left locks nobody out (BerriAI/litellm#38647); what is used beyond it is not burned."""
    spend = account(INCLUDED, (grant(1),))
    assert spend.verdict([0, 0], True, NOW) == PASSES
    spend.hold([0, 0])
    settle(spend, [0, 0], [0, 5000])
    assert spend.verdict([0, 0], True, NOW) == SPENT
    assert spend.standing(NOW).left == 0


def test_a_call_that_costs_nothing_passes() -> None:
    """BerriAI/litellm#10973: what is included is free, without any credits."""
    spend = account(INCLUDED)
    for _ in range(5):
        assert spend.verdict([1, 0], False, NOW) == PASSES
        spend.hold([1, 0])
        settle(spend, [1, 0], [1, 0])
    assert spend.verdict([1, 0], False, NOW) == SPENT


def test_the_price_of_a_call_depends_on_the_period_so_far() -> None:
    spend = account(STEPS, (grant(3_001_000),))
    for _ in range(4):
        assert spend.verdict([1], False, NOW) == PASSES
        spend.hold([1])
        settle(spend, [1], [1])
    assert spend.verdict([1], False, NOW) == SPENT
    packages = account(PACKAGES, (grant(3_000_000),))
    for _ in range(4):
        assert packages.verdict([1], False, NOW) == PASSES
        packages.hold([1])
        settle(packages, [1], [1])
    assert packages.verdict([1], False, NOW) == SPENT, "the fifth begins a package that is not paid for"


def test_a_cap_is_of_its_period_and_starts_anew() -> None:
    spend = account(PLAIN, cap="0.30")
    spend = Spend(replace(spend.terms, prepaid=False))
    spend.take(SpendState(NOW, (7,), cap_base=(5,)), [0])
    assert spend.standing(NOW).spent == 200_000
    assert spend.verdict([1], False, NOW) == PASSES
    spend.hold([1])
    assert spend.verdict([1], False, NOW) == CAPPED
    settle(spend, [1], [1])
    tomorrow = NOW + DAY * NS_PER_MINUTE
    assert spend.verdict([1], False, tomorrow - 1) == CAPPED
    assert spend.verdict([3], False, tomorrow) == PASSES
    assert spend.verdict([4], False, tomorrow) == CAPPED


def test_a_cap_that_allows_counts_and_lets_pass() -> None:
    terms = spend_terms(PLAIN, "month", SpendCap(usd("0.30"), "day", overage="allow"), False)
    spend = Spend(terms)
    spend.take(SpendState(NOW, (9,)), [0])
    assert spend.verdict([100], True, NOW) == PASSES
    assert spend.standing(NOW).spent == 900_000


def test_a_grant_ends_when_it_expires_and_begins_when_it_was_given() -> None:
    first, later = grant(200_000, end=START + 10), grant(500_000, START + 20, source="b")
    spend = account(PLAIN, (first, later))
    spend.hold([1])
    settle(spend, [1], [1])
    assert spend.standing(NOW + 9 * NS_PER_MINUTE).left == 100_000
    assert spend.verdict([1], False, NOW + 10 * NS_PER_MINUTE) == SPENT
    assert spend.standing(NOW + 20 * NS_PER_MINUTE).left == 500_000, "nothing of what was used before"


def test_what_is_settled_while_the_ledger_is_read_counts() -> None:
    spend = account(PLAIN, (grant(1_000_000),))
    spend.hold([1])
    spend.take(SpendState(NOW, (3,), grants=(replace(grant(1_000_000), burned=300_000),)), [2])
    assert spend.totals == [5]
    assert spend.standing(NOW).left == 400_000, "five used and one under way"


class Book:
    """A ledger that is a list of (minute, meter, value)."""

    def __init__(self, used: list[tuple[int, str, int]]) -> None:
        self.used = used

    async def total(self, tenant: str, meter: str, since_us: int, until_us: int, sandbox: bool) -> int:
        begin, end = since_us // 60_000_000, until_us // 60_000_000
        return sum(value for minute, name, value in self.used if name == meter and begin <= minute < end)


calls = st.lists(st.tuples(st.integers(0, 4 * DAY - 1), st.integers(0, 3), st.integers(0, 4000)), max_size=25)
given_grants = st.lists(
    st.tuples(st.integers(1, 3_000_000), st.integers(0, 3 * DAY), st.none() | st.integers(1, 3 * DAY)), max_size=4
)


def made(drawn: list[tuple[int, int, int | None]]) -> list[Grant]:
    return [
        grant(micros, START + begin, None if length is None else START + begin + length, f"s{number}")
        for number, (micros, begin, length) in enumerate(drawn)
    ]


@pytest.mark.parametrize("price", [INCLUDED, PLAIN, STEPS, PACKAGES])
@given(used=calls, drawn=given_grants)
async def test_what_was_counted_call_by_call_is_what_the_ledger_says(
    price: Price, used: list[tuple[int, int, int]], drawn: list[tuple[int, int, int | None]]
) -> None:
    """However often grants begin and end and periods change on the way: billing periods of a day, a cap of a week."""
    found = made(drawn)
    terms = replace(spend_terms(price, "day", SpendCap(usd("1"), "week"), True), cap_blocks=False)
    live = Spend(terms)
    meters = len(price.meters)
    live.take(SpendState(START * NS_PER_MINUTE, (0,) * meters, grants=tuple(found)), [0] * meters)
    entries: list[tuple[int, str, int]] = []
    for minute, number, tokens in sorted(used):
        values = [number, tokens][:meters]
        live.verdict(values, False, (START + minute) * NS_PER_MINUTE)  # turns the account
        live.hold([1] * meters)
        settle(live, [1] * meters, values)
        entries += [(START + minute, meter, value) for meter, value in zip(terms.tariff.meters, values, strict=True)]
    book = Book(entries)
    end = START + 4 * DAY - 1
    use = Use("acme", terms, book.total)
    state, burns = await spend_state(use, terms, (None, found), end * NS_PER_MINUTE)
    read = Spend(terms)
    read.take(state, [0] * meters)
    assert live.standing(end * NS_PER_MINUTE) == read.standing(end * NS_PER_MINUTE)
    assert live.standing(end * NS_PER_MINUTE).left == usable(burns.grants, end)


@given(used=calls, drawn=given_grants, at=st.integers(2 * DAY, 9 * DAY))
async def test_periods_that_are_long_over_are_settled_and_nothing_changes(
    used: list[tuple[int, int, int]], drawn: list[tuple[int, int, int | None]], at: int
) -> None:
    found = made(drawn)
    terms = spend_terms(INCLUDED, "day", None, True)
    book = Book([(START + m, n, v) for m, c, t in used for n, v in (("calls", c), ("tokens", t))])
    use = Use("acme", terms, book.total)
    first = await burned(use, None, found, START + at)
    if first.settle is not None:
        settled, amounts, _ = first.settle
        kept = [replace(one, burned=amounts[one.source]) for one in found]
        again = await burned(use, settled, kept, START + at)
        assert again.settle is None
        assert (again.grants, again.uncovered) == (first.grants, first.uncovered)
        assert settled.until <= START + at - 2 * DAY


def test_a_use_settles_the_meters_of_its_tariff() -> None:
    spend = account(INCLUDED, (grant(10_000_000),))
    use = SpendUse(spend, [1, 0])
    use.begin()
    assert spend.busy
    use.end({"tokens": 7, "other": 9})
    assert (spend.totals, spend.busy) == ([0, 7], False)
    assert isinstance(spend.terms, SpendTerms)
