"""The comparison of what was admitted with the limit finds what it must, and nothing else."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.records import UsageRecord
from tests.chaos.limits import TENANT, UNITS, limit_broken, most_within

SENT = UsageRecord("e", 0, TENANT, "k", "small", False, "r", "GET", 200, "ok", 1, 0, 0, 0, 5_000, 2_000, 0)


def spread(count: int, every_us: int) -> list[UsageRecord]:
    return [dataclasses.replace(SENT, started_us=number * every_us) for number in range(count)]


def test_one_call_too_many_is_found() -> None:
    assert not limit_broken(spread(UNITS, 1_000))
    assert limit_broken(spread(UNITS + 1, 1_000))
    assert not limit_broken(spread(10 * UNITS, 5_000_000 // UNITS))
    assert limit_broken(spread(10 * UNITS, 3_900_000 // UNITS))


def test_units_count_and_other_tenants_do_not() -> None:
    heavy = [dataclasses.replace(event, units=3) for event in spread(UNITS // 3 + 1, 1_000)]
    assert limit_broken(heavy)
    assert not limit_broken(dataclasses.replace(event, tenant="acme") for event in heavy)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 9)), max_size=40), st.integers(1, 60))
def test_it_is_the_most_of_all_intervals(sent: list[tuple[int, int]], span_us: int) -> None:
    wanted = max((sum(u for at, u in sent if begin <= at < begin + span_us) for begin, _ in sent), default=0)
    assert most_within(sent, span_us) == wanted
