"""Amounts to Stripe's decimals and back."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.billing.catalogue.terms import Step, Terms, decimal, params, read
from sidecar.core.money import Money

amounts = st.integers(0, 10**24).map(lambda scaled: Fraction(scaled, 10**12))
steps = st.lists(st.builds(Step, st.integers(1, 10**15), amounts, st.integers(0, 10**9).map(Fraction)), max_size=4).map(
    lambda bounded: (*bounded, Step(None, Fraction(1, 10**12)))
)
terms = st.one_of(
    st.builds(Terms, st.just("usd"), st.none(), amounts),
    st.builds(Terms, st.just("jpy"), st.just("calls"), amounts, st.integers(1, 10**15)),
    st.builds(
        Terms,
        st.just("eur"),
        st.just("calls"),
        st.just(Fraction(0)),
        st.just(1),
        st.sampled_from(["graduated", "volume"]),
        steps,
    ),
)


@given(amounts)
def test_decimals_are_exact_and_plain(minor: Fraction) -> None:
    assert Fraction(decimal(minor)) == minor
    assert "e" not in decimal(minor).lower()


@pytest.mark.parametrize("minor", [Fraction(1, 3), Fraction(1, 10**13), Fraction(-1)])
def test_what_cannot_be_written(minor: Fraction) -> None:
    with pytest.raises(ValueError, match="12 decimals"):
        decimal(minor)


@given(terms)
def test_terms_come_back_from_stripe_as_they_went(wanted: Terms) -> None:
    made = params(wanted, "mtr_1" if wanted.event else None)
    shown: dict[str, Any] = {**made, "recurring": {"interval_count": 1, **made["recurring"]}}
    if "tiers" in made:
        shown["tiers"] = [
            {**tier, "up_to": None if tier["up_to"] == "inf" else tier["up_to"]} for tier in made["tiers"]
        ]
    assert read(shown, {"mtr_1": "calls"}) == wanted


@pytest.mark.parametrize(
    "changes",
    [
        {"recurring": {"interval": "year", "usage_type": "licensed"}},
        {"recurring": {"interval": "month", "interval_count": 3, "usage_type": "licensed"}},
        {"recurring": {"interval": "month", "usage_type": "metered"}},
        {"recurring": {"interval": "month", "usage_type": "metered", "meter": "mtr_unknown"}},
        {"recurring": None},
        {"transform_quantity": {"divide_by": 10, "round": "down"}},
        {"billing_scheme": "tiered", "tiers": None},
    ],
)
def test_other_kinds_of_prices_have_no_terms(changes: dict[str, Any]) -> None:
    fee = params(Terms("usd", None, Fraction(100)), None)
    assert read(fee, {}) == Terms("usd", None, Fraction(100))
    assert read(fee | changes, {"mtr_1": "calls"}) is None


@pytest.mark.parametrize(
    ("currency", "minor"), [("USD", 150), ("JPY", Fraction(3, 2)), ("KWD", 1500), ("ISK", 150), ("UGX", 150)]
)
def test_smallest_units(currency: str, minor: int | Fraction) -> None:
    assert Money(Fraction(3, 2), currency).minor == minor
