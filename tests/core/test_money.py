"""Money: exact amounts, one rounding rule."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.money import MICROS, Money, format_amount, format_micros, round_div, round_micros
from sidecar.core.units import parse_money

_MICROS = st.integers(-(10**15), 10**15)


@given(_MICROS, st.integers(1, 10**12))
def test_the_short_way_rounds_like_the_rule(numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)
    assert round_div(numerator, denominator) == round_micros(exact)
    assert abs(round_micros(exact) - exact) <= Fraction(1, 2)


def test_halves_go_to_even() -> None:
    assert [round_div(n, 2) for n in (1, 3, 5, -1, -3)] == [0, 2, 2, 0, -2]


@given(_MICROS)
def test_what_is_shown_is_read_back(micros: int) -> None:
    shown = format_micros(micros, "USD")
    assert parse_money(shown) == Money(Fraction(micros, MICROS), "USD")
    assert parse_money(shown).micros == micros


def test_amounts_for_people() -> None:
    assert format_micros(15_500_000, "USD") == "15.50 USD"
    assert format_amount(Fraction(-1, 3)) == "-0.333333333333"
    assert str(Money(Fraction(3), "EUR")) == "3.00 EUR"
