"""Quotas in the seeded simulator: never more than the limit of what is known beforehand, and everything comes back."""

import os
from typing import Any

import pytest

from tests.admission.fleet import MS, S, Weather
from tests.admission.quota_fleet import QuotaFleet, QuotaNode

SEEDS = range(int(os.environ.get("SIDECAR_FLEET_SEEDS", "6")))
STORM = Weather(delay_ns=100 * MS, lost_calls=0.05, lost_answers=0.05, pause_ns=3 * S, crashes=0.01)
RATES = [60, 20, 20, 10, 5, 5, 1, 0.2]
WEATHERS = pytest.mark.parametrize(
    "weather", [Weather(), Weather(delay_ns=60 * MS), STORM], ids=["fair", "slow", "storm"]
)


@pytest.mark.parametrize("seed", SEEDS)
@WEATHERS
@pytest.mark.parametrize("hold", [1, 7])
def test_never_more_than_the_limit_passes_and_all_of_it_can_be_used(seed: int, weather: Weather, hold: int) -> None:
    """Kong/kong#2669, BerriAI/litellm#34732: what passed and did not die with its process is at most the limit, at any
    moment; and what was held by the dead comes back (BerriAI/litellm#27639)."""
    fleet = QuotaFleet(seed, 2100, RATES, weather, hold=hold, least=hold)
    for _ in range(60):
        fleet.run(2)
        assert fleet.spent <= 2100
        assert fleet.granted - fleet.lost <= 2100
    fleet.weather = Weather()
    fleet.run(200)  # the dead are forgotten, and others use what they held
    assert fleet.spent == 2100
    fleet.quiet(60)
    assert fleet.counter == (2100, 0)


@pytest.mark.parametrize("seed", SEEDS)
@WEATHERS
def test_an_estimate_bounds_what_is_in_flight_and_the_counter_follows_the_ledger(seed: int, weather: Weather) -> None:
    fleet = QuotaFleet(seed, 20_000, RATES, weather, hold=50, least=1, most=50)
    fleet.run(200)
    fleet.weather = Weather()
    fleet.run(100)
    assert 20_000 <= fleet.spent <= 20_000 + fleet.excess
    fleet.quiet(60)
    assert fleet.counter == (fleet.ledger, 0)


@pytest.mark.parametrize("seed", SEEDS)
@WEATHERS
def test_what_is_known_afterwards_exceeds_by_what_is_in_flight_and_converges(seed: int, weather: Weather) -> None:
    fleet = QuotaFleet(seed, 20_000, RATES, weather, hold=0, least=1, most=200)
    fleet.run(120)
    assert 19_000 <= fleet.spent <= 20_000 + 200 * 125 * 4
    fleet.quiet(60)
    assert fleet.counter == (fleet.ledger, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_that_loses_all_its_data_again_and_again_costs_no_more_than_what_was_out(seed: int) -> None:
    """unkeyed/unkey#403: it never starts from nothing."""
    fleet = QuotaFleet(seed, 3000, RATES, Weather(delay_ns=5 * MS))
    for _ in range(8):
        fleet.run(5)
        fleet.forget()
    fleet.run(60)
    # Out at a loss: about 120 a second for 1.5 s in flight and a second in hand or not yet shipped.
    assert 3000 <= fleet.spent <= 3000 + 300
    fleet.quiet(60)
    assert fleet.counter == (fleet.spent, 0) == (fleet.ledger, 0)


def test_a_busy_tenant_costs_few_calls() -> None:
    fleet = QuotaFleet(1, 10**6, [300, 300, 200, 100], Weather())
    fleet.run(60)
    assert fleet.passed == fleet.requests
    assert fleet.calls <= 0.05 * fleet.requests


def test_who_hammers_while_refused_costs_few_calls() -> None:
    fleet = QuotaFleet(1, 10, [500], Weather())
    fleet.run(50)
    assert fleet.spent == 10
    assert fleet.calls <= 60


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_in_hand_beyond_the_limit_goes_back_and_costs_no_calls(seed: int) -> None:
    """Calls that used more than was held for them: the store is over the limit while some nodes hold units still. They
    asked at every request, were refused, and never gave the units back to those who could have used them."""
    fleet = QuotaFleet(seed, 20_000, RATES, Weather(), hold=50, least=1, most=50)
    fleet.run(300)
    assert fleet.spent >= 20_000
    assert fleet.calls <= 0.05 * fleet.requests


def test_the_oracle_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that tells less than it holds admits too much, and is seen."""
    whole = QuotaNode.call

    def careless(node: QuotaNode, requests: int, *more: Any, **named: Any) -> None:
        node.period._flying, flying = 0, node.period._flying
        whole(node, requests, *more, **named)
        node.period._flying = flying

    monkeypatch.setattr(QuotaNode, "call", careless)
    fleets = [QuotaFleet(seed, 300, RATES, Weather()) for seed in range(6)]
    for fleet in fleets:
        fleet.run(60)
    assert max(fleet.spent for fleet in fleets) > 300
