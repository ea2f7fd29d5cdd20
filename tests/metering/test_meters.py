"""Which calls count for which meter, and that the fragment is what core.records would write."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.policy import Meter, Route, Snapshot
from sidecar.core.records import meters_fragment
from sidecar.metering import RouteMeters, compile_meters

SEARCH = Route("search", "/v1/search", "api", units=5)
COUNTS = ("requests", "units", "bytes_in", "bytes_out", "upstream_ms", "connection_s", "messages")


def test_a_meter_counts_2xx_and_3xx_unless_told_otherwise() -> None:
    """A blocked or failed call is not billed (Kong/developer.konghq.com#6691)."""
    meters = RouteMeters(
        SEARCH, [Meter("requests", "requests"), Meter("failures", "requests", statuses=frozenset({4, 5}))]
    )
    assert meters.charge(200, 5, 0, 0, 0) == ({"requests": 1}, b'{"requests":1}')
    assert meters.charge(304, 5, 0, 0, 0)[0] == {"requests": 1}
    assert meters.charge(503, 5, 0, 0, 0)[0] == {"failures": 1}
    assert meters.charge(101, 5, 0, 0, 0) == ({}, b"{}")
    assert meters.charge(0, 5, 0, 0, 0) == ({}, b"{}")
    assert meters.charge(999, 5, 0, 0, 0) == ({}, b"{}")


def test_units_are_the_calls_own_even_when_they_differ_from_the_routes() -> None:
    meters = RouteMeters(SEARCH, [Meter("weight", "units")])
    assert meters.charge(200, 5, 0, 0, 0)[0] == {"weight": 5}
    assert meters.charge(200, 0, 0, 0, 0) == ({"weight": 0}, b'{"weight":0}')


def test_upstream_time_counts_started_milliseconds() -> None:
    meters = RouteMeters(SEARCH, [Meter("time", "upstream_ms")])
    assert [meters.charge(200, 5, 0, 0, us)[0]["time"] for us in (0, 1, 1_000, 1_001)] == [0, 1, 1, 2]


def test_a_connection_counts_started_seconds() -> None:
    meters = RouteMeters(SEARCH, [Meter("open", "connection_s")])
    assert [meters.charge(200, 5, 0, 0, us)[0]["open"] for us in (0, 1, 1_000_000, 1_000_001)] == [0, 1, 1, 2]


def test_messages_of_a_web_socket_count_where_1xx_does() -> None:
    meters = RouteMeters(SEARCH, [Meter("messages", "messages", statuses=frozenset({1}))])
    assert meters.counts_messages
    assert meters.charge(101, 5, 0, 0, 0, None, 7) == ({"messages": 7}, b'{"messages":7}')
    assert meters.charge(200, 5, 0, 0, 0, None, 7)[0] == {}
    assert not RouteMeters(SEARCH, [Meter("calls", "requests")]).counts_messages


def test_constant_meters_are_precomputed() -> None:
    meters = RouteMeters(SEARCH, [Meter("requests", "requests"), Meter("weight", "units")])
    assert meters.charge(200, 5, 1, 2, 3)[0] is meters.charge(201, 5, 4, 5, 6)[0]


def test_a_meter_counts_on_its_routes_only() -> None:
    snapshot = Snapshot(
        routes=(SEARCH, Route("chat", "/v1/chat", "api")),
        meters={"chats": Meter("chats", "requests", routes=frozenset({"chat"})), "all": Meter("all", "requests")},
    )
    compiled = compile_meters(snapshot)
    assert compiled["search"].charge(200, 5, 0, 0, 0)[0] == {"all": 1}
    assert compiled["chat"].charge(200, 1, 0, 0, 0)[0] == {"chats": 1, "all": 1}


@given(
    st.lists(st.tuples(st.text(max_size=8), st.sampled_from(COUNTS)), max_size=5, unique_by=lambda pair: pair[0]),
    st.integers(0, 9),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
)
def test_the_fragment_is_what_core_records_writes(
    counts: list[tuple[str, str]], units: int, bytes_in: int, bytes_out: int, upstream_us: int
) -> None:
    meters = RouteMeters(SEARCH, [Meter(name, count) for name, count in counts])
    values, fragment = meters.charge(200, units, bytes_in, bytes_out, upstream_us, None, 3)
    assert list(values) == [name for name, _ in counts]
    assert fragment == meters_fragment(values)
