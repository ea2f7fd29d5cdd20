"""Cost is exact: the integers agree with fractions, to the micro-unit."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.money import MICROS, round_div, round_micros
from sidecar.core.policy import Costs
from sidecar.metering import CostModel

RATES = st.fractions(min_value=0, max_value=100, max_denominator=10**12)
AMOUNTS = st.integers(0, 2**50)


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**20))
def test_round_div_is_round_micros_of_the_fraction(numerator: int, denominator: int) -> None:
    assert round_div(numerator, denominator) == round_micros(Fraction(numerator, denominator))


@given(st.integers(-(10**9), 10**9))
def test_round_div_takes_halves_to_even(whole: int) -> None:
    assert round_div(2 * whole + 1, 2) == round_micros(Fraction(2 * whole + 1, 2))
    assert round_div(2 * whole + 1, 2) % 2 == 0


@given(RATES, RATES, RATES, RATES, AMOUNTS, AMOUNTS, AMOUNTS)
def test_the_cost_is_the_rounded_exact_sum(
    per_ms: Fraction, gib_in: Fraction, gib_out: Fraction, per_call: Fraction, us: int, bytes_in: int, bytes_out: int
) -> None:
    model = CostModel(Costs("EUR", per_ms, gib_in, gib_out, per_call))
    exact = per_ms * us / 1000 + gib_in * bytes_in / 2**30 + gib_out * bytes_out / 2**30 + per_call
    assert model.cost(us, bytes_in, bytes_out) == round_micros(exact * MICROS)


def test_the_designs_example_rates() -> None:
    """12 ms at 0.000015 USD are 180 micro-dollars; 1 GiB out at 0.09 USD is 90,000."""
    model = CostModel(Costs("USD", per_ms=Fraction("0.000015"), per_gib_out=Fraction("0.09")))
    assert model.cost(12_000, 0, 0) == 180
    assert model.cost(0, 0, 2**30) == 90_000
    assert model.currency == "USD"


def test_without_rates_everything_is_free() -> None:
    assert CostModel(Costs()).cost(10**9, 10**9, 10**9) == 0
