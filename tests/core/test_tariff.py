"""Prices as integers, against the fractions of core.price."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.money import MICROS, Money, round_micros
from sidecar.core.policy import MeterPrice, Price, Tier
from sidecar.core.price import overage_of
from sidecar.core.tariff import Tariff

amounts = st.builds(
    lambda number, digits: Money(Fraction(number, 10**digits), "USD"), st.integers(0, 10**7), st.integers(0, 9)
)
counts = st.integers(1, 10_000)


@st.composite
def tiers(draw: st.DrawFn) -> tuple[Tier, ...]:
    ends = sorted(draw(st.sets(st.integers(1, 5000), max_size=4)))
    flats = st.none() | amounts
    return tuple(Tier(end, draw(amounts), draw(counts), draw(flats)) for end in [*ends, None])


@st.composite
def meter_prices(draw: st.DrawFn, name: str) -> MeterPrice:
    mode = draw(st.sampled_from(["per_unit", "package", "graduated", "volume"]))
    if mode in ("graduated", "volume"):
        return MeterPrice(name, 0, 1, Money(Fraction(0), "USD"), mode, draw(tiers()))
    included = draw(st.integers(0, 5000)) if mode == "per_unit" else 0
    return MeterPrice(name, included, draw(counts), draw(amounts), mode)


prices = st.builds(lambda one, two: Price(Money(Fraction(29), "USD"), (one, two)), meter_prices("a"), meter_prices("b"))
used = st.integers(-5, 12_000)


@given(price=prices, one=used, two=used)
def test_a_tariff_costs_exactly_what_the_price_says(price: Price, one: int, two: int) -> None:
    """To the last fraction, and rounded by the one rule; without what is owed for no use at all."""
    exact = sum(
        (overage_of(part, total) - overage_of(part, 0) for part, total in zip(price.meters, (one, two), strict=True)),
        Fraction(0),
    )
    tariff = Tariff(price, "USD")
    assert Fraction(tariff.cost([one, two]), tariff.den) == exact * MICROS
    assert tariff.micros([one, two]) == round_micros(exact * MICROS)
