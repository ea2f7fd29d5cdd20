"""The node's side of a lease: which slices it spends, until when, and what it asks for."""

import pytest

from sidecar.admission.leases import Lease, Page, answered, ask_for
from sidecar.core.leases import Answer, CounterAsk, Standing, life_us

US = 1_000
MS = 1_000 * US
S = 1_000 * MS
LIMIT = 1_000
LIFE_NS = life_us(S // US) * US
LONGER_US = 225_000


class Desk:
    """One lease of a limit per second, and a store that answers as it is told; time begins at 10 s."""

    def __init__(self) -> None:
        self.page = Page("acme")
        self.now = 10 * S
        self.lease = Lease("steady", self.page, LIMIT, S, False, self.now)

    def ask(self) -> CounterAsk:
        """What it asks for, of a store that does not answer."""
        asked = ask_for(self.page, [self.lease], 1, 0, self.now).counters[0]
        self.lease.flights -= 1
        return asked

    def grant(self, units: int, longer_us: int = 0, left: int = LIMIT) -> None:
        ask = ask_for(self.page, [self.lease], 1, 0, self.now)
        standing = Standing(units, left, 0, 0, 0, longer_us)
        answered(self.page, [self.lease], ask, Answer(self.now // US, 1, 1, 0, (standing,)), self.now, self.now)

    def wait(self, ns: int) -> None:
        self.now += ns
        if self.now >= self.lease.next_ns:
            self.lease.expire(self.now)


def test_a_slice_lives_as_long_as_the_store_says() -> None:
    desk = Desk()
    desk.grant(50, LONGER_US)
    desk.wait(LIFE_NS + LONGER_US * US - 1)
    assert desk.lease.left == 50
    desk.wait(1)
    assert desk.lease.left == 0
    assert desk.ask().returns == ((10 * S // US + LONGER_US, 50),)  # where the store counts them


def test_a_long_slice_ends_with_the_short_one_that_comes_after_it() -> None:
    """Else what is in hand of the short one would outlive it: slices are spent in the order in which they came."""
    desk = Desk()
    desk.grant(50, LONGER_US)
    desk.wait(MS)
    desk.grant(5)
    desk.wait(LIFE_NS - 1)
    assert desk.lease.left == 55
    desk.wait(1)
    assert desk.lease.left == 0
    assert sum(units for _, units in desk.ask().returns) == 55


def test_what_is_decided_without_the_store_ends_no_later_than_a_slice_after_it() -> None:
    desk = Desk()
    desk.lease.lend(desk.now, 3)
    desk.grant(5)
    desk.wait(LIFE_NS)
    assert desk.lease.left == 0


@pytest.mark.parametrize(("window_ns", "exact"), [(60 * S, False), (S, True)])
def test_a_limit_that_changes_while_a_call_is_out_gets_what_was_asked_for(window_ns: int, exact: bool) -> None:
    desk = Desk()
    ask = ask_for(desk.page, [desk.lease], 1, 0, desk.now)
    desk.lease.change(LIMIT, window_ns, exact, desk.now)
    answer = Answer(desk.now // US, 1, 1, 0, (Standing(50, LIMIT - 50, 0, 0, 0, LONGER_US),))
    answered(desk.page, [desk.lease], ask, answer, desk.now, desk.now)
    assert (desk.lease.left, desk.lease.flights) == (50, 0)
    desk.wait(LIFE_NS + LONGER_US * US)
    assert desk.lease.left == 0


@pytest.mark.parametrize(("limit", "window_ns"), [(LIMIT + 1, S), (LIMIT, S // 2), (LIMIT, S)])
def test_what_another_limit_refused_while_it_was_changed_is_asked_again(limit: int, window_ns: int) -> None:
    desk = Desk()
    ask = ask_for(desk.page, [desk.lease], 1, 1, desk.now)
    desk.lease.change(limit, window_ns, False, desk.now)
    refused = Standing(0, 0, 900_000, 900_000, 900_000, 0)
    answered(desk.page, [desk.lease], ask, Answer(desk.now // US, 1, 1, 0, (refused,)), desk.now, desk.now)
    assert desk.lease.closed(desk.now, 1) == ((limit, window_ns) == (LIMIT, S))


def test_only_who_saw_little_used_for_a_window_asks_for_long_slices() -> None:
    desk = Desk()
    seen = [desk.ask().calm]
    desk.wait(S)
    seen.append(desk.ask().calm)
    desk.grant(1, left=LIMIT // 2 - 1)
    seen.append(desk.ask().calm)
    desk.wait(S - 1)
    seen.append(desk.ask().calm)
    desk.wait(1)
    seen.append(desk.ask().calm)
    desk.lease.change(2 * LIMIT, S, False, desk.now)
    seen.append(desk.ask().calm)
    assert seen == [0, 1, 0, 0, 1, 0]


def test_a_window_without_use_begins_when_a_refusal_ends() -> None:
    desk = Desk()
    ask = ask_for(desk.page, [desk.lease], 1, 1, desk.now)
    refused = Standing(0, 0, 900_000, 900_000, 900_000, 0)
    answered(desk.page, [desk.lease], ask, Answer(desk.now // US, 1, 1, 0, (refused,)), desk.now, desk.now)
    desk.wait(S + 899 * MS)
    assert desk.ask().calm == 0
    desk.wait(MS)
    assert desk.ask().calm == 1


def test_it_asks_to_hold_what_it_spends_in_a_life() -> None:
    desk = Desk()
    desk.grant(100, LONGER_US)
    desk.lease.take(desk.now, 40)
    desk.wait(10 * LIFE_NS // 2)
    asked = desk.ask()
    assert (asked.left, asked.ahead) == (60, 8)


@pytest.mark.parametrize(("left", "least", "most"), [(LIMIT, 12, 16), (LIMIT // 2 - 1, 0, 0)])
def test_of_two_calls_that_follow_each_other_the_second_asks_for_less_near_the_limit_alone(
    left: int, least: int, most: int
) -> None:
    desk = Desk()
    desk.grant(100)
    desk.lease.take(desk.now, 40)
    desk.wait(LIFE_NS // 2)
    assert desk.ask().ahead == 16
    desk.grant(100, left=left)
    assert least <= desk.ask().ahead <= most


def test_the_next_slice_is_fetched_when_half_of_a_long_one_is_spent() -> None:
    desk = Desk()
    desk.grant(100)
    desk.lease.take(desk.now, 10)
    desk.wait(LIFE_NS // 2)
    desk.grant(
        100, LONGER_US
    )  # 10 in half a life are 16 of the first slices, at most four times 4; ten times as many of a long one
    desk.lease.take(desk.now, desk.lease.left - 81)
    assert not desk.lease.low(desk.now)
    desk.lease.take(desk.now, 1)
    assert desk.lease.low(desk.now)


def test_who_holds_enough_goes_on_fetching_ahead() -> None:
    """A slice that is large enough is answered with nothing, and that is no refusal."""
    desk = Desk()
    desk.grant(100, LONGER_US)
    desk.lease.take(desk.now, 20)
    desk.wait(5 * LIFE_NS)
    desk.grant(0)
    desk.lease.take(desk.now, desk.lease.left - 2)
    assert desk.lease.low(desk.now)
