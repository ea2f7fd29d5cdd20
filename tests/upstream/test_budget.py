"""The retry budget: never more than a share of the requests and the reserve, in any ten seconds."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.clock import ManualClock
from sidecar.core.upstreams import Retries
from sidecar.upstream.budget import RetryBudget

STEPS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 7000), st.integers(0, 60)), max_size=40)


@given(st.integers(0, 100), st.integers(0, 5), STEPS)
def test_never_more_than_the_share(percent: int, reserve: int, steps: list[tuple[int, int, int]]) -> None:
    """Each step: requests, milliseconds that pass, retries asked for. Any five seconds of retries are covered by the
    requests of fifteen seconds around them."""
    clock = ManualClock()
    budget = RetryBudget(Retries(percent=percent, reserve=reserve), clock)
    total, now_ms = 0, 0
    asked: list[tuple[int, int]] = []  # when, how many requests
    taken: list[int] = []
    for requests, pause_ms, retries in steps:
        total += requests
        asked.append((now_ms, requests))
        taken += [now_ms] * sum(budget.take(total) for _ in range(retries))
        clock.advance(pause_ms / 1000)
        now_ms += pause_ms
        budget.roll(total)
    for start in taken:
        within = sum(start <= when < start + 5000 for when in taken)
        around = sum(count for when, count in asked if start - 10_000 <= when < start + 5000)
        assert within <= 2 * (around * percent / 100 + 5 * reserve)
    assert budget.taken == len(taken)


def test_a_quiet_upstream_has_its_reserve() -> None:
    clock = ManualClock()
    budget = RetryBudget(Retries(percent=20, reserve=1), clock)
    assert [budget.take(0) for _ in range(6)] == [True] * 5 + [False]
    assert budget.refused == 1
    clock.advance(10)
    assert budget.take(0)


def test_a_share_of_the_requests() -> None:
    budget = RetryBudget(Retries(percent=20, reserve=0), ManualClock())
    assert not budget.take(4)
    assert [budget.take(10) for _ in range(3)] == [True, True, False]


def test_none_at_all() -> None:
    assert not RetryBudget(Retries(percent=0, reserve=0), ManualClock()).take(1_000_000)
