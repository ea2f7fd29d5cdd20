"""Revenue, its split over routes, and the price floor: exact, whatever the period is cut into."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.money import MICROS, Money, round_micros
from sidecar.core.periods import period_bounds
from sidecar.core.policy import MeterPrice, Price, Tier
from sidecar.core.tariff import Tariff
from sidecar.metering import (
    NO_ROUTE,
    Account,
    Part,
    PartUse,
    RouteUse,
    apportion,
    baseline,
    format_buffer,
    metered,
    metered_micros,
    owed,
    parse_buffer,
    period_parts,
    price_floor,
    price_of,
)

MINUTE_US = 60_000_000
NOVEMBER = 1_793_491_200_000_000  # 2026-11-01T00:00:00Z
DECEMBER = 1_796_083_200_000_000
PRO = Price(Money(Fraction(29), "USD"), (MeterPrice("requests", 100, 10, Money(Fraction("0.50"), "USD")),))

amounts = st.fractions(min_value=0, max_value=1_000, max_denominator=10**12).map(lambda part: Money(part, "USD"))
tiers = st.lists(
    st.tuples(st.integers(1, 500), amounts, st.integers(1, 50), st.none() | amounts), min_size=1, max_size=4
).map(
    lambda steps: tuple(
        Tier(None if n == len(steps) - 1 else sum(step[0] for step in steps[: n + 1]), amount, per, flat)
        for n, (_, amount, per, flat) in enumerate(steps)
    )
)


def metered_price(name: str) -> st.SearchStrategy[MeterPrice]:
    nothing = st.just(Money(Fraction(0), "USD"))
    modes = st.sampled_from(["graduated", "volume"])
    return st.one_of(
        st.builds(MeterPrice, st.just(name), st.integers(0, 500), st.integers(1, 50), amounts),
        st.builds(MeterPrice, st.just(name), st.just(0), st.integers(1, 50), amounts, st.just("package")),
        st.builds(MeterPrice, st.just(name), st.just(0), st.just(1), nothing, modes, tiers),
    )


no_meter, one, two = st.just(()), metered_price("m0"), metered_price("m1")
prices = st.builds(Price, amounts, st.one_of(no_meter, st.tuples(one), st.tuples(one, two)))
uses = st.dictionaries(
    st.sampled_from("abc"),
    st.builds(
        RouteUse,
        st.integers(0, 50),
        st.integers(0, 500),
        st.dictionaries(st.sampled_from(["m0", "m1"]), st.integers(0, 10**6)),
    ),
)


def used(routes: dict[str, RouteUse]) -> dict[str, int]:
    found: dict[str, int] = {}
    for use in routes.values():
        for name, value in use.meters.items():
            found[name] = found.get(name, 0) + value
    return found


def revenue(
    price: Price, part: Part, before: dict[str, int], routes: dict[str, RouteUse], created_us: int = 0
) -> dict[str, Fraction]:
    """What is owed, and the price of what was used."""
    use = PartUse(part, before, used(routes), routes)
    found, beyond = owed(price, use, created_us), metered(price, use)
    return {route: found.get(route, Fraction(0)) + beyond.get(route, Fraction(0)) for route in {**found, **beyond}}


@given(prices, uses)
def test_a_whole_month_earns_its_price(price: Price, routes: dict[str, RouteUse]) -> None:
    (part,) = period_parts(NOVEMBER, DECEMBER)
    assert sum(revenue(price, part, {}, routes).values()) == price_of(price, used(routes)).amount


@given(
    prices,
    st.sampled_from(["month", "month:Europe/Berlin", "month:1:0:31:34200:Europe/Berlin", "month:1:0:15:0:UTC"]),
    st.lists(st.tuples(st.integers(1, 43_199), uses), min_size=1, max_size=5, unique_by=lambda cut: cut[0]),
)
def test_a_billing_period_cut_anywhere_adds_up_to_its_price(
    price: Price, cycle: str, cuts: list[tuple[int, dict[str, RouteUse]]]
) -> None:
    """The base and the marginal prices of any sub-periods add up exactly: nothing is earned twice or lost between, with
    the beginning of a calendar month within the billing period too."""
    start, end = (ns // 1_000 for ns in period_bounds(cycle, (NOVEMBER + 43_200 * MINUTE_US) * 1_000))
    edges = sorted({start, end, *(start + minute * MINUTE_US for minute, _ in cuts if minute < 40_000)})
    parts_used = [*(routes for _, routes in cuts), *[{}] * 9]
    before: dict[str, int] = {}
    earned, burned = Fraction(0), 0
    for begin, stop in pairwise(edges):
        for part in period_parts(begin, stop, cycle):
            assert (part.start_us, part.end_us) == (start, end)
            routes = parts_used.pop(0)
            earned += sum(revenue(price, part, before, routes).values())
            burned += metered_micros(price, PartUse(part, before, used(routes), routes))
            for name, value in used(routes).items():
                before[name] = before.get(name, 0) + value
    assert earned == price_of(price, before).amount
    assert burned == Tariff(price, "USD").micros([before.get(meter.meter, 0) for meter in price.meters])


@given(prices, uses)
def test_routes_add_up_to_the_tenant_to_the_micro(price: Price, routes: dict[str, RouteUse]) -> None:
    (part,) = period_parts(NOVEMBER, DECEMBER)
    shares = revenue(price, part, {}, routes)
    rounded = apportion(shares)
    assert all(type(micros) is int for micros in rounded.values())
    assert sum(rounded.values()) == round_micros(price_of(price, used(routes)).amount * MICROS)
    assert all(abs(rounded[route] - shares[route] * MICROS) < 1 for route in shares)


@given(st.dictionaries(st.integers(), st.fractions(min_value=-100, max_value=100)))
def test_shares_are_rounded_so_that_nothing_is_missing(shares: dict[int, Fraction]) -> None:
    assert sum(apportion(shares).values()) == round_micros(sum(shares.values(), Fraction(0)) * MICROS)


def test_what_is_included_is_used_up_by_the_first_calls() -> None:
    (part,) = period_parts(NOVEMBER + 3600 * MINUTE_US, DECEMBER)
    routes = {"a": RouteUse(requests=30, units=0, meters={"requests": 30})}
    free = Price(Money(Fraction(0), "USD"), PRO.meters)
    assert revenue(free, part, {}, routes) == {}
    assert revenue(free, part, {"requests": 95}, routes) == {"a": Fraction("1.25")}
    assert revenue(free, part, {"requests": 105}, routes) == {"a": Fraction("1.50")}
    assert revenue(free, part, {"requests": 500}, routes) == {"a": Fraction("1.50")}


def test_a_package_counts_where_it_is_begun() -> None:
    (part,) = period_parts(NOVEMBER + 3600 * MINUTE_US, DECEMBER)
    packages = Price(Money(Fraction(0), "USD"), (MeterPrice("requests", 0, 10, Money(Fraction(2), "USD"), "package"),))
    routes = {"a": RouteUse(requests=30, units=0, meters={"requests": 30})}
    assert revenue(packages, part, {}, routes) == {"a": 6}
    assert revenue(packages, part, {"requests": 5}, routes) == {"a": 6}, "5 of the package begun are left"
    assert revenue(packages, part, {"requests": 9}, routes) == {"a": 6}
    assert revenue(packages, part, {"requests": 10}, routes) == {"a": 6}


def test_the_fee_of_a_first_tier_is_earned_once_and_without_use() -> None:
    tiers = (Tier(10, Money(Fraction(1), "USD"), flat=Money(Fraction(5), "USD")), Tier(None, Money(Fraction(2), "USD")))
    price = Price(
        Money(Fraction(0), "USD"), (MeterPrice("requests", 0, 1, Money(Fraction(0), "USD"), "volume", tiers),)
    )
    (whole,) = period_parts(NOVEMBER, DECEMBER)
    (rest,) = period_parts(NOVEMBER + MINUTE_US, DECEMBER)
    assert revenue(price, whole, {}, {}) == {NO_ROUTE: 5}
    assert revenue(price, rest, {}, {}) == {}
    assert revenue(price, whole, {}, {"a": RouteUse(1, 0, {"requests": 3})}) == {"a": 8}
    assert revenue(price, rest, {"requests": 10}, {"a": RouteUse(1, 0, {"requests": 1})}) == {"a": 7}


def test_the_base_goes_by_units_then_by_requests_then_nowhere() -> None:
    (part,) = period_parts(NOVEMBER, DECEMBER)
    base = Price(Money(Fraction(30), "USD"))
    assert revenue(base, part, {}, {"a": RouteUse(1, 2), "b": RouteUse(1, 4)}) == {"a": 10, "b": 20}
    assert revenue(base, part, {}, {"a": RouteUse(1, 0), "b": RouteUse(2, 0)}) == {"a": 10, "b": 20}
    assert revenue(base, part, {}, {"a": RouteUse(0, 0)}) == {NO_ROUTE: 30}
    assert revenue(base, part, {}, {}) == {NO_ROUTE: 30}


def test_periods_are_cut_at_months() -> None:
    half = 15 * 1440 * MINUTE_US
    parts = period_parts(NOVEMBER - half, DECEMBER + half)
    assert [(part.since_us, part.until_us) for part in parts] == [
        (NOVEMBER - half, NOVEMBER),
        (NOVEMBER, DECEMBER),
        (DECEMBER, DECEMBER + half),
    ]
    assert [part.fees() for part in parts] == [Fraction(15, 31), 1, Fraction(15, 31)]
    assert [part.opens() for part in parts] == [False, True, True]
    assert period_parts(NOVEMBER, NOVEMBER) == []


def test_billing_periods_are_cut_at_their_own_beginnings_and_at_months() -> None:
    """From the 15th: the part of November belongs to two billing periods, of 31 and of 30 days."""
    fifteenth = NOVEMBER + 14 * 1440 * MINUTE_US
    parts = period_parts(NOVEMBER, DECEMBER, "month:1:0:15:0:UTC")
    assert [(part.since_us, part.until_us, part.month_us) for part in parts] == [
        (NOVEMBER, fifteenth, NOVEMBER),
        (fifteenth, DECEMBER, NOVEMBER),
    ]
    assert [part.fees() for part in parts] == [Fraction(14, 31), Fraction(16, 30)]
    assert [part.opens() for part in parts] == [False, True]


def test_a_base_is_a_months_whatever_the_billing_period() -> None:
    """A year has it twelve times; fourteen days have it by the calendar month that they lie in."""
    year = period_parts(NOVEMBER, NOVEMBER + 365 * 1440 * MINUTE_US, "month:12:10:1:0:UTC")
    assert len(year) == 12
    assert sum(part.fees() for part in year) == 12
    fortnights = period_parts(NOVEMBER, DECEMBER, "span:1209600:0")
    assert sum(part.fees() for part in fortnights) == 1


def test_a_tenant_made_within_a_part_owes_what_is_owed_without_use() -> None:
    tiers = (Tier(None, Money(Fraction(1), "USD"), flat=Money(Fraction(5), "USD")),)
    price = Price(Money(Fraction(30), "USD"), (MeterPrice("m", 0, 1, Money(Fraction(0), "USD"), "volume", tiers),))
    (first,) = period_parts(NOVEMBER, NOVEMBER + 14400 * MINUTE_US)
    (second,) = period_parts(NOVEMBER + 14400 * MINUTE_US, DECEMBER)
    made = NOVEMBER + 28800 * MINUTE_US
    assert revenue(price, first, {}, {}, made) == {}
    assert revenue(price, second, {}, {}, made) == {NO_ROUTE: 10 + 5}


def test_the_floor_is_the_cost_of_all_calls_over_the_successful_ones_and_the_buffer() -> None:
    """Ten calls of 100 micros each, eight of them successful: 125 a piece, 175 with 40 %."""
    base = baseline(1_000, 8)
    assert base == 125
    floor = price_floor(base, Fraction(2, 5))
    assert floor == 175
    assert Account(revenue=1_399, successful=8).below(floor)
    assert not Account(revenue=1_400, successful=8).below(floor)
    assert not Account(revenue=0, successful=0).below(floor)
    assert baseline(1_000, 0) is None
    assert price_floor(None, Fraction(2, 5)) is None
    assert not Account(successful=3).below(None)


def test_margin_and_its_rate() -> None:
    account = Account(revenue=1_000, cost=375)
    account.add(Account(revenue=0, cost=125, requests=2, successful=1, sandbox_cost=9))
    assert (account.margin, account.rate) == (500, Fraction(1, 2))
    assert (account.requests, account.successful, account.sandbox_cost) == (2, 1, 9)
    assert Account(cost=3).rate is None


@pytest.mark.parametrize(("text", "part"), [("40%", (2, 5)), ("0%", (0, 1)), ("12.5 %", (1, 8)), ("100%", (1, 1))])
def test_buffers(text: str, part: tuple[int, int]) -> None:
    assert parse_buffer(text) == Fraction(*part)
    assert parse_buffer(format_buffer(Fraction(*part))) == Fraction(*part)


@pytest.mark.parametrize("text", ["40", "0.4", "-1%", "101%", "1000%", "forty", "", "1.234%"])
def test_what_is_no_buffer(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_buffer(text)
