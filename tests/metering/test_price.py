"""A month's price."""

from fractions import Fraction

import pytest

from sidecar.core.money import Money
from sidecar.core.policy import MeterPrice, Price
from sidecar.metering import price_of

PRO = Price(Money(Fraction(29), "USD"), (MeterPrice("requests", 100_000, 1_000, Money(Fraction("0.50"), "USD")),))


@pytest.mark.parametrize(
    ("used", "price"),
    [(0, "29.00 USD"), (100_000, "29.00 USD"), (100_001, "29.50 USD"), (101_000, "29.50 USD"), (101_001, "30.00 USD")],
)
def test_every_started_package_beyond_what_is_included_is_paid(used: int, price: str) -> None:
    assert str(price_of(PRO, {"requests": used})) == price


def test_an_unused_meter_costs_nothing() -> None:
    assert str(price_of(PRO, {})) == "29.00 USD"


def test_currencies_are_not_added_up() -> None:
    mixed = Price(Money(Fraction(1), "EUR"), PRO.meters)
    with pytest.raises(ValueError, match="requests is in USD, the base in EUR"):
        price_of(mixed, {"requests": 1})


def test_an_amount_of_nothing_has_no_currency() -> None:
    """A plan without a base fee, priced in euros: the default base is written in dollars."""
    free = Price(Money(Fraction(0), "USD"), (MeterPrice("requests", 0, 1, Money(Fraction(2), "EUR")),))
    assert str(price_of(free, {"requests": 3})) == "6.00 EUR"
    assert str(price_of(Price(Money(Fraction(0), "EUR")), {})) == "0.00 EUR"
