"""A month's price."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.money import Money
from sidecar.core.policy import MeterPrice, Price, Tier
from sidecar.core.price import overage_of
from sidecar.metering import price_of


def usd(amount: str) -> Money:
    return Money(Fraction(amount), "USD")


PRO = Price(usd("29"), (MeterPrice("requests", 100_000, 1_000, usd("0.50")),))
STEPS = (Tier(5, usd("7")), Tier(10, usd("6.5")), Tier(None, usd("6")))
FEES = (Tier(10, usd("0"), flat=usd("5")), Tier(20, usd("1"), per=4, flat=usd("3")), Tier(None, usd("0.10")))


@pytest.mark.parametrize(
    ("used", "price"),
    [
        (0, "29.00 USD"),
        (100_000, "29.00 USD"),
        (100_001, "29.0005 USD"),
        (101_000, "29.50 USD"),
        (101_001, "29.5005 USD"),
        (-7, "29.00 USD"),
    ],
)
def test_every_unit_beyond_what_is_included_is_paid_exactly(used: int, price: str) -> None:
    assert str(price_of(PRO, {"requests": used})) == price


@pytest.mark.parametrize(("used", "paid"), [(0, 0), (1, 2), (1_000, 2), (1_001, 4), (3_000, 6)])
def test_every_started_package_is_paid(used: int, paid: int) -> None:
    assert overage_of(MeterPrice("requests", 0, 1_000, usd("2"), "package"), used) == paid


@pytest.mark.parametrize(
    ("mode", "used", "paid"),
    [
        # The tables of Stripe's documentation of tiered prices.
        ("volume", 1, "7"),
        ("volume", 5, "35"),
        ("volume", 6, "39"),
        ("volume", 20, "120"),
        ("volume", 25, "150"),
        ("graduated", 1, "7"),
        ("graduated", 5, "35"),
        ("graduated", 6, "41.5"),
        ("graduated", 20, "127.5"),
        ("graduated", 25, "157.5"),
        ("graduated", 0, "0"),
        ("volume", 0, "0"),
    ],
)
def test_tiers_are_what_stripe_makes_of_them(mode: str, used: int, paid: str) -> None:
    assert overage_of(MeterPrice("fonts", 0, 1, usd("0"), mode, STEPS), used) == Fraction(paid)


@pytest.mark.parametrize(
    ("mode", "used", "paid"),
    [
        ("graduated", 0, "5"),
        ("graduated", 10, "5"),
        ("graduated", 11, "8.25"),
        ("graduated", 21, "10.6"),
        ("volume", 0, "5"),
        ("volume", 11, "5.75"),
        ("volume", 21, "2.1"),
    ],
)
def test_a_step_that_is_reached_costs_its_fee(mode: str, used: int, paid: str) -> None:
    """The first one is reached by a month without any use."""
    assert overage_of(MeterPrice("fonts", 0, 1, usd("0"), mode, FEES), used) == Fraction(paid)


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(0, 10**9), st.integers(0, 10**9))
def test_what_is_included_is_a_first_tier_of_nothing(included: int, per: int, cents: int, used: int) -> None:
    """So a price with units included can be a graduated one at Stripe, and both say the same."""
    amount = Money(Fraction(cents, 100), "USD")
    tiers = (Tier(included, usd("0")), Tier(None, amount, per))
    assert overage_of(MeterPrice("m", included, per, amount), used) == overage_of(
        MeterPrice("m", 0, 1, usd("0"), "graduated", tiers), used
    )


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 99), st.integers(0, 99)), max_size=5), st.integers(0, 400))
def test_graduated_is_the_sum_of_its_units(steps: list[tuple[int, int, int]], used: int) -> None:
    ends, end = [], 0
    for length, _, _ in steps:
        end += length
        ends.append(end)
    bounded = [
        Tier(end, usd(str(amount)), flat=usd(str(flat))) for end, (_, amount, flat) in zip(ends, steps, strict=True)
    ]
    tiers = (*bounded, Tier(None, usd("1")))
    expected, begin = Fraction(0), 0
    for number, tier in enumerate(tiers):
        inside = [unit for unit in range(1, used + 1) if unit > begin and (tier.up_to is None or unit <= tier.up_to)]
        expected += len(inside) * tier.amount.amount
        if tier.flat is not None and (inside or number == 0):
            expected += tier.flat.amount
        begin = tier.up_to or begin
    assert overage_of(MeterPrice("m", 0, 1, usd("0"), "graduated", tiers), used) == expected


def test_an_unused_meter_costs_nothing() -> None:
    assert str(price_of(PRO, {})) == "29.00 USD"


def test_currencies_are_not_added_up() -> None:
    mixed = Price(Money(Fraction(1), "EUR"), PRO.meters)
    with pytest.raises(ValueError, match="requests is in USD, the base in EUR"):
        price_of(mixed, {"requests": 1})
    tiers = Price(Money(Fraction(1), "EUR"), (MeterPrice("fonts", 0, 1, usd("0"), "volume", STEPS),))
    with pytest.raises(ValueError, match="fonts is in USD, the base in EUR"):
        price_of(tiers, {})


def test_an_amount_of_nothing_has_no_currency() -> None:
    """A plan without a base fee, priced in euros: the default base is written in dollars."""
    free = Price(Money(Fraction(0), "USD"), (MeterPrice("requests", 0, 1, Money(Fraction(2), "EUR")),))
    assert str(price_of(free, {"requests": 3})) == "6.00 EUR"
    assert str(price_of(Price(Money(Fraction(0), "EUR")), {})) == "0.00 EUR"
