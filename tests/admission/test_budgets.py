"""The node's side of a budget: what it holds ahead, and when it asks for more."""

from sidecar.admission.budgets import SharedPeriod, Want
from sidecar.admission.leases import Page
from sidecar.admission.quotas import QuotaKey
from sidecar.core.budgets import BudgetAsk, BudgetStanding

MS = 1_000_000
S = 1_000 * MS
KEY = QuotaKey("acme", False, "requests", "month")
LIMIT = 10**6


class Desk:
    """One period of a million, and a store that grants what it is asked for; time begins at 10 s."""

    def __init__(self) -> None:
        self.period = SharedPeriod(KEY, 0, 2**60, Page("acme"), [])
        self.period.known = True
        self.now = 10 * S

    def call(self, requests: int = 0, *, tell: bool = False, left: int = LIMIT, short: int = 0) -> BudgetAsk:
        """One call that is answered at once, with ``short`` less than it asks for; then its requests take a unit each,
        and end."""
        want = self.period.tell if tell else Want(self.period, LIMIT, 1, 1)
        asked = self.period.request(want, requests, self.now, self.now, late=False)
        granted = max(0, requests - asked.left) + asked.ahead - short
        self.period.answered(asked, BudgetStanding(1, granted, left, 0, 0, 0), requests, self.now)
        self.use(requests)
        return asked

    def use(self, units: int) -> None:
        for _ in range(units):
            self.period.hold(1)
            self.period.settle(1, 1)

    def busy(self) -> int:
        """A thousand a second for a while; what it then holds ahead."""
        for _ in range(8):
            self.call(10)
            self.now += 500 * MS
            self.use(min(490, self.period.room))
        return self.call(0).ahead


def test_it_holds_ahead_what_it_spends_in_a_second() -> None:
    assert 800 <= Desk().busy() <= 1100


def test_a_call_that_only_tells_leaves_the_next_slice_to_be_fetched_in_time() -> None:
    """It asked for nothing ahead, so that it got nothing is no refusal: after it, requests waited for each slice."""
    desk = Desk()
    desk.busy()
    desk.now += 800 * MS
    desk.use(desk.period.room - 300)
    desk.call(tell=True)
    assert desk.period.low(desk.now)


def test_of_two_calls_that_follow_each_other_the_second_asks_for_no_less() -> None:
    """Between them next to nothing is spent. The slices of a busy node fell to a few units, and stayed there: each call
    brought what those who waited needed, and the next one was made at once."""
    desk = Desk()
    before = desk.busy()
    desk.now += MS
    asked = []
    for _ in range(4):
        desk.now += MS
        asked.append(desk.call().ahead)
    assert min(asked) >= before * 9 // 10


def test_who_needs_nothing_for_a_second_holds_nothing() -> None:
    desk = Desk()
    desk.busy()
    desk.now += S
    asked = desk.call(tell=True)
    assert (asked.ahead, asked.left) == (0, 0)


def test_who_is_granted_no_slice_asks_when_it_is_in_need() -> None:
    desk = Desk()
    ahead = desk.busy()
    desk.now += 500 * MS
    desk.use(desk.period.room - 10)
    desk.call(short=ahead)
    desk.use(9)
    assert not desk.period.low(desk.now)


def test_what_is_in_hand_beyond_the_limit_is_no_reason_to_ask() -> None:
    desk = Desk()
    desk.call(1, left=-5)
    desk.period.room = 4
    assert desk.period.closed(desk.now - 1, LIMIT, 1)
    desk.period.room = 6
    assert not desk.period.closed(desk.now - 1, LIMIT, 1)
