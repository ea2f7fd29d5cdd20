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


def test_a_failed_probe_opens_it_again_for_twice_as_long() -> None:
    clock = ManualClock()
    breaker = BreakerState(Breaker(failures=1, open_for_ns=10_000_000_000, longest_ns=35_000_000_000), clock)
    breaker.failed()
    for open_for in (10, 20, 35, 35):
        clock.advance(open_for - 0.1)
        assert not breaker.ready
        clock.advance(0.1)
        assert breaker.allows()
        breaker.failed(probe=True)


def test_a_target_that_flaps_is_left_alone_longer_and_one_that_held_is_forgiven() -> None:
    clock = ManualClock()
    breaker = BreakerState(Breaker(failures=1, open_for_ns=10_000_000_000), clock)
    for closed_for, open_for in ((0, 10), (9.9, 20), (19.9, 40), (40, 10)):
        clock.advance(closed_for)
        breaker.failed()
        clock.advance(open_for - 0.1)
        assert not breaker.ready
        clock.advance(0.1)
        assert breaker.allows()
        breaker.succeeded()


def test_a_breaker_that_may_not_open_goes_on_counting() -> None:
    breaker = BreakerState(Breaker(failures=2), ManualClock())
    for _ in range(5):
        breaker.failed(may_open=False)
    assert breaker.closed
    breaker.failed()
    assert not breaker.closed


def test_a_probe_whose_client_left_frees_its_place() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    clock.advance(10)
    assert breaker.allows()
    breaker.let_go()
    assert breaker.allows()


def test_what_fails_beside_the_probe_does_not_decide_for_it() -> None:
    """A call from before the breaker opened ends late: the probe is still under way, and nobody else may go."""
    clock = ManualClock()
    breaker = opened(clock)
    clock.advance(10)
    assert breaker.allows()
    breaker.failed()
    assert (breaker.word, breaker.allows()) == ("half_open", False)
    breaker.succeeded()
    assert breaker.closed
