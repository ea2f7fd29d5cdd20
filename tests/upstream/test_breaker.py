"""The breaker: opens after failures in a row, lets one probe through, closes on its success."""

from sidecar.core.clock import ManualClock
from sidecar.core.upstreams import Breaker
from sidecar.upstream.breaker import BreakerState


def opened(clock: ManualClock) -> BreakerState:
    breaker = BreakerState(Breaker(failures=3, open_for_ns=10_000_000_000), clock)
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    return breaker


def test_only_failures_in_a_row_open_it() -> None:
    breaker = BreakerState(Breaker(failures=3), ManualClock())
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert (breaker.closed, breaker.word) == (True, "closed")


def test_open_for_its_time_then_one_probe() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    assert (breaker.word, breaker.allows()) == ("open", False)
    clock.advance(9.9)
    assert not breaker.ready
    clock.advance(0.1)
    assert breaker.allows()
    assert (breaker.word, breaker.allows()) == ("half_open", False)
    breaker.succeeded()
    assert (breaker.word, breaker.allows()) == ("closed", True)


def test_a_failed_probe_opens_it_again() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    clock.advance(10)
    assert breaker.allows()
    breaker.failed()
    clock.advance(9.9)
    assert not breaker.ready
    clock.advance(0.1)
    assert breaker.ready


def test_a_probe_whose_client_left_frees_its_place() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    clock.advance(10)
    assert breaker.allows()
    breaker.let_go()
    assert breaker.allows()
