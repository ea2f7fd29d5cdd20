"""Readings of several lanes as one: counters add up and never go back when a lane ends, states end with it."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sidecar.admission import Readings as AdmissionReadings
from sidecar.app.merging import ended, merged
from sidecar.app.readings import LaneReadings
from sidecar.core.ports import Position
from sidecar.ledger import JournalReadings, ShipperReadings
from sidecar.metering import Histogram, RouteReading, SeriesReading, TallyReading
from sidecar.upstream import TargetReading

count = st.integers(0, 10)
NAMES = ["a", "b", "c"]


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    made = Histogram()
    for at in range(min(3, len(made.counts))):
        made.counts[at] = draw(count)
    made.sum_us = draw(count)
    return made


@st.composite
def lanes(draw: st.DrawFn) -> LaneReadings:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=2))
    series = tuple(SeriesReading(name, "pro", "2xx", *(draw(count) for _ in range(5))) for name in names)
    routes = tuple(RouteReading(name, draw(count), *(draw(histograms()) for _ in range(3))) for name in names)
    refusals = {(name, "key_missing"): draw(count) for name in names}
    targets = tuple(
        TargetReading(
            "api", name, draw(st.booleans()), draw(st.sampled_from(["closed", "half_open", "open"])),
            *(draw(count) for _ in range(3)), {"reset": draw(count)}, tuple(draw(count) for _ in range(10)),
        )
        for name in names
    )  # fmt: skip
    return LaneReadings(
        TallyReading(series, routes, refusals, {}),
        AdmissionReadings(*(draw(count) for _ in range(6)), dict.fromkeys(names, draw(count)), {}),
        JournalReadings(*(draw(count) for _ in range(len(JournalReadings.__dataclass_fields__)))),
        ShipperReadings(
            Position(draw(count), draw(count)),
            *(draw(count) for _ in range(4)),
            draw(st.none() | count),
            *(draw(count) for _ in range(len(ShipperReadings.__dataclass_fields__) - 6)),
        ),
        targets,
        draw(count),
        draw(st.booleans()),
    )


def plain(lane: LaneReadings) -> object:
    """Comparable, whatever the order; histograms by what they hold."""
    routes = {
        route.route: (route.in_flight, *((h.counts, h.sum_us) for h in (route.total, route.upstream, route.overhead)))
        for route in lane.tallies.routes
    }
    return (
        sorted(lane.tallies.series),
        routes,
        lane.tallies.refusals,
        lane.admission,
        lane.journal,
        lane.shipper,
        {one.target: one for one in lane.upstreams},
        lane.connections,
        lane.blind,
    )


@given(lanes(), lanes(), lanes())
def test_the_order_and_the_grouping_do_not_matter(a: LaneReadings, b: LaneReadings, c: LaneReadings) -> None:
    assert plain(merged([merged([a, b]), c])) == plain(merged([c, b, a])) == plain(merged([a, merged([b, c])]))


@given(lanes(), lanes())
def test_counters_are_sums(a: LaneReadings, b: LaneReadings) -> None:
    both = merged([a, b])
    assert sum(one.requests for one in both.tallies.series) == sum(
        one.requests for lane in (a, b) for one in lane.tallies.series
    )
    assert both.journal.fsync_failures == a.journal.fsync_failures + b.journal.fsync_failures
    assert both.shipper.shipped == a.shipper.shipped + b.shipper.shipped
    assert both.connections == a.connections + b.connections
    assert sum(sum(one.replies) for one in both.upstreams) == sum(
        sum(one.replies) for lane in (a, b) for one in lane.upstreams
    )


@given(lanes(), lanes())
def test_what_ended_leaves_its_counts_and_no_state(a: LaneReadings, b: LaneReadings) -> None:
    alive, after = merged([a, b]), merged([a, ended(b)])
    assert sorted(after.tallies.series) == sorted(alive.tallies.series)
    assert after.tallies.refusals == alive.tallies.refusals
    assert (after.shipper.shipped, after.journal.refused) == (alive.shipper.shipped, alive.journal.refused)
    assert after.connections == a.connections
    assert (after.journal.open_calls, after.journal.bytes_used) == (a.journal.open_calls, a.journal.bytes_used)
    assert after.blind == a.blind
    assert after.shipper.failing_since_ns == a.shipper.failing_since_ns
    flying = {route.route: route.in_flight for route in a.tallies.routes}
    assert all(route.in_flight == flying.get(route.route, 0) for route in after.tallies.routes)


@given(lanes())
def test_a_target_is_as_bad_as_the_worst_lane_says(a: LaneReadings) -> None:
    worse = replace(a, upstreams=tuple(replace(one, up=False, breaker="open") for one in a.upstreams))
    for one in merged([a, worse]).upstreams:
        assert (one.up, one.breaker) == (False, "open")
    for one in merged([a, ended(worse)]).upstreams:  # one that is no more has no say
        (alone,) = (other for other in a.upstreams if other.target == one.target)
        assert (one.up, one.breaker) == (alone.up, alone.breaker)
