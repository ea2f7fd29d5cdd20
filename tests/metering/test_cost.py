"""Cost is exact: the integers agree with fractions, to the micro-unit."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.money import MICROS, round_div, round_micros
from sidecar.core.policy import Costs
from sidecar.metering import CostModel, Reported

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


MEMORY, EXTERNAL = "x-memory-bytes", "x-external-cost"
SAYS = Costs("USD", per_gib_s=Fraction(1), memory_header=MEMORY, external_header=EXTERNAL)


def told(*values: tuple[str, str]) -> Reported:
    reported = CostModel(SAYS).reported([(name.encode(), value.encode()) for name, value in values])
    assert reported is not None
    return reported


@given(RATES, RATES, AMOUNTS, AMOUNTS, st.integers(0, 2**45), st.integers(0, 10**6 * 10**12))
def test_the_reported_cost_is_part_of_the_one_rounded_sum(
    per_ms: Fraction, gib_s: Fraction, us: int, bytes_in: int, memory: int, picos: int
) -> None:
    costs = Costs("EUR", per_ms, per_gib_s=gib_s, memory_header=MEMORY, external_header=EXTERNAL)
    model = CostModel(costs)
    text = f"{picos // 10**12}.{picos % 10**12:012d}"
    reported = model.reported([(b"X-Memory-Bytes", str(memory).encode()), (b"x-external-cost", text.encode())])
    assert reported is not None
    assert reported.faults == ()
    exact = per_ms * us / 1000 + gib_s * memory / 2**30 * us / 10**6 + Fraction(picos, 10**12)
    assert model.cost(us, bytes_in, 0, reported) == round_micros(exact * MICROS)


def test_a_function_of_half_a_gib_for_two_seconds() -> None:
    """At 0.0000166667 USD per GiB-second, one GiB-second is 17 micro-dollars (16.6667)."""
    model = CostModel(Costs("USD", per_gib_s=Fraction("0.0000166667"), memory_header=MEMORY))
    assert model.cost(2_000_000, 0, 0, model.reported([(b"X-Memory-Bytes", b" 536870912 ")])) == 17
    assert model.cost(2_000_000, 0, 0) == 0
    assert model.private == frozenset({b"x-memory-bytes"})


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        (MEMORY, "-1", "memory_malformed"),
        (MEMORY, "1.5", "memory_malformed"),
        (MEMORY, "1e9", "memory_malformed"),
        (MEMORY, "", "memory_malformed"),
        (MEMORY, "9" * 19, "memory_malformed"),
        (MEMORY, str(2**45 + 1), "memory_too_large"),
        (EXTERNAL, "-0.5", "external_malformed"),
        (EXTERNAL, "0.5 USD", "external_malformed"),
        (EXTERNAL, "0,5", "external_malformed"),
        (EXTERNAL, ".5", "external_malformed"),
        (EXTERNAL, "NaN", "external_malformed"),
        (EXTERNAL, "1000000.000000000001", "external_too_large"),
        (EXTERNAL, "\u0665", "external_malformed"),
    ],
)
def test_a_value_that_makes_no_sense_counts_as_nothing_and_is_told(name: str, value: str, fault: str) -> None:
    reported = told((name, value))
    assert (reported.memory, reported.external, reported.faults) == (0, 0, (fault,))
    assert CostModel(SAYS).cost(10**6, 0, 0, reported) == 0


def test_a_value_that_is_said_twice_counts_as_nothing() -> None:
    reported = told((EXTERNAL, "1"), (EXTERNAL, "1"), (MEMORY, "5"))
    assert (reported.memory, reported.external, reported.faults) == (5, 0, ("external_repeated",))


def test_a_reply_that_says_nothing_reports_nothing() -> None:
    assert CostModel(SAYS).reported([(b"Content-Type", b"text/plain")]) is None
    assert CostModel(Costs()).reported([(b"X-Memory-Bytes", b"1")]) is None
    assert CostModel(Costs()).private == frozenset()
