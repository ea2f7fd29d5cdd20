"""Tallies add up, agree with the histogram's definition, and stay within their bound."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.latency import MAX_US, bucket_index
from sidecar.core.problems import CODES
from sidecar.metering import NO_ROUTE, OTHER, REASONS, Histogram, Tallies

TIMES = st.tuples(st.integers(0, MAX_US), st.integers(0, MAX_US)).map(sorted)


def filled(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.counts[bucket_index(value)] += 1
        histogram.sum_us += value
    return histogram


@given(st.lists(TIMES, max_size=20))
def test_histograms_hold_total_upstream_and_the_difference(times: list[list[int]]) -> None:
    tallies = Tallies()
    for upstream_us, total_us in times:
        tallies.get("search", "pro", 200).add(5, 7, 11, 13, total_us, upstream_us)
    route = tallies.route("search")
    for ours, values in (
        (route.total, [total for _, total in times]),
        (route.upstream, [upstream for upstream, _ in times]),
        (route.overhead, [total - upstream for upstream, total in times]),
    ):
        assert (ours.counts, ours.sum_us) == (filled(values).counts, filled(values).sum_us)


def test_sums_are_kept_by_route_plan_and_status_class() -> None:
    tallies = Tallies()
    tallies.get("search", "pro", 200).add(5, 7, 11, 13, 100, 90)
    tallies.get("search", "pro", 204).add(5, 7, 11, 13, 100, 90)
    tallies.get("search", "free", 200).add(1, 0, 0, 0, 100, 90)
    tallies.get("search", "pro", 0).add(0, 0, 0, 0, 100, 90)
    rows = {(s.route, s.plan, s.status_class): s for s in tallies.read().series}
    assert set(rows) == {("search", "pro", "2xx"), ("search", "free", "2xx"), ("search", "pro", "none")}
    both = rows["search", "pro", "2xx"]
    assert (both.requests, both.units, both.cost, both.bytes_in, both.bytes_out) == (2, 10, 14, 22, 26)


@given(st.integers(-10, 2**40), st.integers(-10, 2**40))
def test_times_that_make_no_sense_are_cut_and_still_counted(total_us: int, upstream_us: int) -> None:
    tallies = Tallies()
    tallies.get("search", "pro", 200).add(1, 0, 0, 0, total_us, upstream_us)
    route = tallies.route("search")
    assert sum(route.total.counts) == sum(route.upstream.counts) == sum(route.overhead.counts) == 1
    assert route.upstream.sum_us + route.overhead.sum_us == route.total.sum_us


def test_a_status_outside_http_counts_as_none() -> None:
    tallies = Tallies()
    assert tallies.get("search", "pro", 999) is tallies.get("search", "pro", 0)


def test_series_are_bounded_and_the_rest_is_other() -> None:
    """100,000 tenants or plans must not grow the scrape (apache/apisix#10000, #7211, #11456)."""
    tallies = Tallies(max_series=10)
    for plan in range(1_000):
        tallies.get(f"route{plan % 7}", f"plan{plan}", 200).add(1, 0, 0, 0, 9, 8)
    reading = tallies.read()
    names = [(s.route, s.plan, s.status_class) for s in reading.series]
    assert len(names) == len(set(names)) == 11
    other = next(s for s in reading.series if s.plan == OTHER)
    assert other.route == OTHER
    assert other.requests == 990
    assert sum(s.requests for s in reading.series) == 1_000


def test_routes_are_bounded_and_no_two_series_share_a_name() -> None:
    tallies = Tallies(max_series=3)
    held = [tallies.route(f"r{i}") for i in range(6)]
    for route in held:
        route.in_flight += 1
    for i in range(6):
        tallies.get(f"r{i}", "free", 200).add(1, 0, 0, 0, 9, 8)
    reading = tallies.read()
    assert [(r.route, r.in_flight) for r in reading.routes] == [("r0", 1), ("r1", 1), ("r2", 1), (OTHER, 3)]
    names = [(s.route, s.plan) for s in reading.series]
    assert len(names) == len(set(names))
    assert sum(s.requests for s in reading.series) == 6


def test_refusals_are_counted_by_route_and_code_and_bounded() -> None:
    tallies = Tallies(max_series=2)
    tallies.refuse(None, "key_missing")
    tallies.refuse("search", "limit_exceeded")
    tallies.refuse("search", "limit_exceeded")
    for i in range(50):
        tallies.refuse(f"r{i}", "quota_exceeded")
    assert tallies.read().refusals == {
        (NO_ROUTE, "key_missing"): 1,
        ("search", "limit_exceeded"): 2,
        (OTHER, "quota_exceeded"): 50,
    }
    for code in CODES:
        for i in range(3):
            tallies.refuse(f"r{i}", code)
    assert len(tallies.read().refusals) <= 2 + len(CODES)


def test_anomalies_are_counted_by_meter_and_reason_and_bounded() -> None:
    tallies = Tallies(max_series=2)
    tallies.anomaly("tokens", "missing")
    tallies.anomaly("tokens", "missing")
    for i in range(50):
        for reason in REASONS:
            tallies.anomaly(f"m{i}", reason)
    found = tallies.read().anomalies
    assert found["tokens", "missing"] == 2
    assert sum(found.values()) == 2 + 50 * len(REASONS)
    assert len(found) <= 2 + len(REASONS)


def test_a_reading_does_not_move() -> None:
    tallies = Tallies()
    tallies.get("search", "pro", 200).add(1, 0, 0, 0, 9, 8)
    before = tallies.read()
    tallies.get("search", "pro", 200).add(1, 0, 0, 0, 9, 8)
    tallies.refuse(None, "key_missing")
    assert before.series[0].requests == 1
    assert sum(before.routes[0].total.counts) == 1
    assert before.refusals == {}
