"""Rooms' readings become the metrics' readings."""

from sidecar.admin import read_admission
from sidecar.admission import Readings
from sidecar.core.policy import Plan, Quota


def test_refusals_are_split_into_those_of_quotas_and_those_of_limits() -> None:
    plans = {"free": Plan("free", quotas=(Quota("monthly", "requests", 10, "month"),))}
    readings = Readings(
        buckets=1,
        max_buckets=2,
        overflows=3,
        evictions=4,
        quota_counters=5,
        quota_blind=6,
        admitted_units={"free": 7},
        refused={("free", "monthly"): 8, ("free", "burst"): 9, ("gone", "monthly"): 10},
    )
    reading = read_admission(readings, plans)
    assert reading.quota_refused == {("free", "monthly"): 8}
    assert reading.limit_refused == {("free", "burst"): 9, ("gone", "monthly"): 10}
    assert (reading.buckets, reading.buckets_bound, reading.quota_blind) == (1, 2, 6)
