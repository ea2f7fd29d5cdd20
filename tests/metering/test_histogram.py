"""Buckets cover every microsecond once, within the stated error."""

import math

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.latency import BUCKETS, MAX_US, bucket_index, bucket_upper_us, quantile_us
from sidecar.metering import Histogram

VALUES = st.integers(0, 33).flatmap(lambda bits: st.integers(0, min((1 << bits) - 1, MAX_US)))


def test_buckets_follow_each_other_without_gap_up_to_71_minutes() -> None:
    starts = [0] + [bucket_upper_us(index) for index in range(BUCKETS)]
    for index in range(BUCKETS):
        assert bucket_index(starts[index]) == index
        assert bucket_index(starts[index + 1] - 1) == index
    assert starts[-1] == MAX_US + 1


@given(VALUES)
def test_the_middle_of_a_bucket_is_wrong_by_at_most_an_eighth(us: int) -> None:
    index = bucket_index(us)
    upper = bucket_upper_us(index)
    lower = bucket_upper_us(index - 1) if index else 0
    assert lower <= us < upper
    if upper - lower > 1:
        assert abs((lower + upper) / 2 - us) <= us * 0.125


@given(st.lists(VALUES), st.lists(st.integers(0, BUCKETS - 2), min_size=1, max_size=20, unique=True))
def test_cumulative_counts_are_exact_at_bucket_bounds(values: list[int], indexes: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.counts[bucket_index(value)] += 1
    bounds = tuple(bucket_upper_us(index) for index in sorted(indexes))
    assert histogram.cumulative(bounds) == [sum(v < b for v in values) for b in bounds] + [len(values)]


@given(values=st.lists(VALUES, min_size=1), part=st.floats(0, 1))
def test_a_quantile_is_at_most_an_eighth_wrong(values: list[int], part: float) -> None:
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket_index(value)] = counts.get(bucket_index(value), 0) + 1
    exact = sorted(values)[max(1, math.ceil(len(values) * part)) - 1]
    found = quantile_us(counts, part)
    assert found is not None
    assert abs(found - exact) <= exact * 0.125
    assert quantile_us({}, part) is None
