from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.clock import NS_PER_S, ManualClock
from sidecar.identity.throttle import Throttle


def test_twenty_failures_in_a_minute_block_the_address_until_they_age() -> None:
    clock = ManualClock()
    throttle = Throttle(clock)
    for _ in range(20):
        assert not throttle.wait_s("10.0.0.1")
        throttle.failed("10.0.0.1")
    assert throttle.wait_s("10.0.0.1")
    assert not throttle.wait_s("10.0.0.2")
    assert throttle.wait_s("10.0.0.1") == 60
    clock.advance(59.999)
    assert throttle.wait_s("10.0.0.1") == 1
    assert throttle.wait_s("10.0.0.1")
    clock.advance(0.001)
    assert not throttle.wait_s("10.0.0.1")


@given(st.lists(st.integers(0, 8 * NS_PER_S), max_size=120))
def test_no_minute_holds_more_than_the_allowed_failures(pauses: list[int]) -> None:
    clock = ManualClock()
    throttle = Throttle(clock, failures=5)
    admitted: list[int] = []
    for pause in pauses:
        clock.advance(pause / NS_PER_S)
        if not throttle.wait_s("a"):
            throttle.failed("a")
            admitted.append(clock.monotonic_ns())
    for start in admitted:
        assert sum(start <= at < start + 60 * NS_PER_S for at in admitted) <= 5


def test_failures_that_land_together_after_the_block_are_counted_too() -> None:
    clock = ManualClock()
    throttle = Throttle(clock)
    for _ in range(2):
        for _ in range(20):
            throttle.failed("a")
        clock.advance(40)
    assert throttle.wait_s("a")
    clock.advance(20)
    assert not throttle.wait_s("a")


def test_an_ipv6_network_is_one_address_and_a_mapped_ipv4_is_that_ipv4() -> None:
    throttle = Throttle(ManualClock(), failures=1)
    throttle.failed("2001:db8::1")
    throttle.failed("::ffff:10.0.0.1")
    assert throttle.wait_s("2001:db8::ffff")
    assert not throttle.wait_s("2001:db8:0:1::1")
    assert throttle.wait_s("10.0.0.1")
    assert not throttle.wait_s("::ffff:10.0.0.2")


def test_the_table_is_bounded_and_drops_who_failed_longest_ago() -> None:
    throttle = Throttle(ManualClock(), failures=1, addresses=3)
    for address in ("a", "b", "c", "a", "d"):
        throttle.failed(address)
    assert len(throttle) == 3
    assert [name for name in "abcd" if throttle.wait_s(name)] == ["a", "c", "d"]
