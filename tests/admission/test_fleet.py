"""The seeded simulator against an exact oracle: never more than L in any W, and how much of L is usable."""

import os
from dataclasses import replace

import pytest

from sidecar.core.leases import Answer, Ask, longer_us
from tests.admission.fleet import MS, Fleet, Limit, S, Weather

SEEDS = range(int(os.environ.get("SIDECAR_FLEET_SEEDS", "6")))
STORM = Weather(delay_ns=100 * MS, lost_calls=0.05, lost_answers=0.05, pause_ns=3 * S, crashes=0.01)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("weather", [Weather(), Weather(delay_ns=60 * MS), STORM], ids=["fair", "slow", "storm"])
def test_never_more_than_the_limit_in_any_window(seed: int, weather: Weather) -> None:
    """traefik/traefik#13706, Kong/kong#2669, TykTechnologies/tyk#1244, #1287: N nodes do not make it N times looser."""
    fleet = Fleet(seed, [Limit(400, 20 * S)], [60, 20, 20, 10, 5, 5, 1, 0.2], weather)
    fleet.run(90)
    assert 100 < fleet.most(20 * S) <= 400


@pytest.mark.parametrize("seed", SEEDS)
def test_all_of_several_limits_hold_at_once(seed: int) -> None:
    limits = [Limit(30, S), Limit(300, 30 * S), Limit(40, 2 * S)]
    fleet = Fleet(seed, limits, [50, 10, 3, 3], Weather(delay_ns=5 * MS, lost_answers=0.02, crashes=0.002))
    fleet.run(70)
    assert fleet.admitted
    for each in limits:
        assert fleet.most(each.window_ns) <= each.limit


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("wave_s", [0.7, 3, 10])
def test_who_comes_near_the_limit_from_afar_gets_no_more(seed: int, wave_s: float) -> None:
    """Slices that live longer are out when the load swells."""
    rates = [400.0, 150.0, 60.0, 10.0]
    fleet = Fleet(seed, [Limit(500, 2 * S)], rates, replace(STORM, delay_ns=20 * MS, pause_ns=S // 2), wave_s)
    fleet.run(30)
    assert 250 < fleet.most(2 * S) <= 500


@pytest.mark.parametrize("seed", SEEDS)
def test_a_busy_node_can_use_96_percent(seed: int) -> None:
    fleet = Fleet(seed, [Limit(6000, 60 * S)], [250])
    fleet.run(200)
    assert fleet.most(60 * S) <= 6000
    assert fleet.usable(6000, 60 * S, windows=3) >= 0.96


@pytest.mark.parametrize(
    ("limit", "window_ns", "rate"), [(5, S, 200), (20, S, 1000), (10, 4 * S, 1000), (50, 4 * S, 1000)]
)
def test_who_hammers_at_a_small_limit_can_use_95_percent(limit: int, window_ns: int, rate: float) -> None:
    """While it is refused it does not ask, so it does not see that the limit is used: still it is not far from it."""
    fleet = Fleet(1, [Limit(limit, window_ns)], [rate])
    fleet.run(60)
    assert fleet.most(window_ns) <= limit
    assert fleet.usable(limit, window_ns, windows=10) >= 0.95


@pytest.mark.parametrize("seed", SEEDS)
def test_eight_uneven_nodes_can_use_90_percent(seed: int) -> None:
    fleet = Fleet(seed, [Limit(6000, 60 * S)], [120, 60, 30, 10, 5, 2, 0.5, 0.1])
    fleet.run(210)
    assert fleet.most(60 * S) <= 6000
    assert fleet.usable(6000, 60 * S, windows=3) >= 0.90


def test_a_busy_tenant_costs_few_calls() -> None:
    fleet = Fleet(1, [Limit(60_000, 60 * S)], [300, 300, 200, 100])
    fleet.run(60)
    assert fleet.most(60 * S) <= 60_000
    assert len(fleet.admitted) == fleet.requests
    assert fleet.calls <= 0.05 * fleet.requests


def test_far_from_a_limit_per_second_calls_are_few_and_nobody_waits_for_them() -> None:
    fleet = Fleet(1, [Limit(10_000, S)], [1000, 1000], Weather(delay_ns=5 * MS))
    fleet.run(3)
    requests, calls, waits = fleet.requests, fleet.calls, fleet.waits
    fleet.resume(5)
    assert fleet.waits == waits
    assert fleet.calls - calls <= 0.02 * (fleet.requests - requests)


def test_near_a_limit_per_second_few_wait() -> None:
    fleet = Fleet(1, [Limit(2600, S)], [1000, 1000])
    fleet.run(3)
    requests, waits = fleet.requests, fleet.waits
    fleet.resume(7)
    assert fleet.waits - waits <= 0.02 * (fleet.requests - requests)


def test_who_hammers_while_refused_costs_no_calls() -> None:
    fleet = Fleet(1, [Limit(10, 60 * S)], [500])
    fleet.run(50)
    assert len(fleet.admitted) == 10
    assert fleet.calls <= 20


def test_without_the_life_in_the_window_the_oracle_sees_the_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle can fail: a store that keeps W and not W + T admits more than L."""
    monkeypatch.setattr("tests.admission.fleet.Fleet.decide", _careless)
    weather = Weather(delay_ns=150 * MS, pause_ns=S)
    fleets = [Fleet(seed, [Limit(400, 20 * S)], [60, 20, 5, 2], weather) for seed in range(4)]
    for fleet in fleets:
        fleet.run(90)
    assert max(fleet.most(20 * S) for fleet in fleets) > 400


def test_without_the_longer_life_in_the_window_the_oracle_sees_the_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.admission.fleet.Fleet.decide", _generous)
    fleets = [Fleet(seed, [Limit(500, 2 * S)], [400, 150, 60, 10], STORM, 3) for seed in range(4)]
    for fleet in fleets:
        fleet.run(60)
    assert max(fleet.most(2 * S) for fleet in fleets) > 500


def _generous(fleet: Fleet, ask: Ask) -> Answer:
    """Every slice lives longer, and is counted as one that does not."""
    book, now = fleet.book, fleet.time // 1000 + fleet.store_skew_us
    answer = book.lease(ask._replace(counters=tuple(each._replace(calm=0) for each in ask.counters)), now)
    longer = [longer_us(each.window_us, each.life_us) for each in ask.counters]
    told = [each._replace(longer_us=more) for each, more in zip(answer.counters, longer, strict=True)]
    return answer._replace(counters=tuple(told))


def _careless(fleet: Fleet, ask: Ask) -> Answer:
    cut = tuple(each._replace(window_us=each.window_us - each.life_us - each.window_us // 60) for each in ask.counters)
    return fleet.book.lease(ask._replace(counters=cut), fleet.time // 1000 + fleet.store_skew_us)
