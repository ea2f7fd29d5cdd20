"""The power of two choices: shares by weight while idle, by load while busy, over any chance."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from sidecar.upstream.balancing import Lots, is_lighter

WEIGHTS = st.lists(st.integers(1, 1000), min_size=1, max_size=40)


@given(WEIGHTS, st.randoms(use_true_random=False))
def test_a_pair_is_two_different_ones(weights: list[int], chance: Random) -> None:
    first, second = Lots(weights).pair(chance.randrange)
    assert 0 <= first < len(weights)
    assert 0 <= second < len(weights)
    assert (first != second) is (len(weights) > 1)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6))
def test_every_pair_comes_as_often_as_its_weights_say(weights: list[int]) -> None:
    """All numbers that chance can give, once each: the first has its share, and the second its share of the rest."""
    total = sum(weights)
    firsts = [0] * len(weights)
    for number in range(total):
        draws = iter((number, 0))
        firsts[Lots(weights).pair(lambda n: next(draws))[0]] += 1  # noqa: B023 - called at once
    assert firsts == weights
    ends = [sum(weights[:at]) for at in range(len(weights))]
    for first, own in enumerate(weights):
        seconds = [0] * len(weights)
        for number in range(total - own):
            draws = iter((ends[first], number))
            seconds[Lots(weights).pair(lambda n: next(draws))[1]] += 1  # noqa: B023 - called at once
        assert seconds == [0 if at == first else weight for at, weight in enumerate(weights)]


@given(st.integers(0, 10**6), st.integers(1, 1000), st.integers(0, 10**6), st.integers(1, 1000))
def test_lighter_is_a_strict_order(load: int, weight: int, other: int, its: int) -> None:
    assert not (is_lighter(load, weight, other, its) and is_lighter(other, its, load, weight))
    assert is_lighter(load, weight, other, its) is (load / weight < other / its)


@given(WEIGHTS, st.randoms(use_true_random=False), st.integers(1, 300))
def test_busy_targets_share_by_weight(weights: list[int], chance: Random, requests: int) -> None:
    """Requests that never end: nobody holds far more per weight than the least busy one of any draw would."""
    lots, load = Lots(weights), [0] * len(weights)
    for _ in range(requests):
        one, other = lots.pair(chance.randrange)
        at = other if is_lighter(load[other], weights[other], load[one], weights[one]) else one
        assert load[at] * weights[one] <= load[one] * weights[at]
        assert load[at] * weights[other] <= load[other] * weights[at]
        load[at] += 1
    assert sum(load) == requests
