"""The store's side of leases: all or nothing, and what a node is told."""

from typing import ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sidecar.core.errors import StoreFull
from sidecar.core.leases import NEVER, Answer, Ask, Book, CounterAsk, life_us, longer_us, page_us

S = 1_000_000
MINUTE = 60 * S


def ask(*counters: CounterAsk, requests: int = 1, units: int = 1, seen: Answer | None = None, new: int = 7) -> Ask:
    epoch, seq = (seen.epoch, seen.seq) if seen else (0, 0)
    return Ask("acme", units, requests, epoch, seq, new, counters)


def counter(limit: int = 100, window: int = MINUTE, **more: object) -> CounterAsk:
    return CounterAsk("steady", limit, window, life_us(window))._replace(**more)


def learned(book: Book, at: int = 0) -> Answer:
    """A page that is old enough to grant ahead."""
    return book.lease(ask(counter(), requests=0), at - 2 * S)


def test_a_refused_request_takes_nothing_from_any_limit() -> None:
    """envoyproxy/ratelimit#185, TykTechnologies/tyk#265: several limits are one decision."""
    book = Book()
    wide, narrow = counter(100), counter(1)._replace(key="narrow")
    assert book.lease(ask(wide, narrow), 0).passed == 1
    refused = book.lease(ask(wide, narrow), 1)
    assert refused.passed == 0
    assert [each.granted for each in refused.counters] == [0, 0]
    assert [each.left for each in refused.counters] == [99, 0]


def test_of_many_requests_at_the_last_unit_one_passes() -> None:
    """BerriAI/litellm#34732, #40095."""
    book = Book()
    book.lease(ask(counter(10), requests=9), 0)
    assert book.lease(ask(counter(10), requests=5), 1).passed == 1


def test_slices_shrink_as_the_limit_nears() -> None:
    book = Book()
    learned(book)
    slices = [book.lease(ask(counter(100, ahead=1000), requests=0), at).counters[0].granted for at in range(12)]
    assert slices == [25, 18, 14, 10, 8, 6, 4, 3, 3, 2, 1, 1]


def test_an_exact_limit_is_granted_nothing_ahead() -> None:
    book = Book()
    learned(book)
    assert book.lease(ask(counter(life_us=0, ahead=50)), 1).counters[0].granted == 1


def test_a_new_page_grants_nothing_ahead_for_a_second() -> None:
    book = Book()
    first = book.lease(ask(counter(ahead=50)), 0)
    assert first.counters[0].granted == 1
    assert book.lease(ask(counter(ahead=8), seen=first), 999_999).counters[0].granted == 1
    assert book.lease(ask(counter(ahead=8), seen=first), 1_000_001).counters[0].granted == 9


def test_units_that_come_back_can_be_used_again() -> None:
    book = Book()
    learned(book)
    taken = book.lease(ask(counter(100, ahead=20)), 0)
    assert taken.counters[0].left == 79
    back = book.lease(ask(counter(100, returns=((taken.now_us, 20),)), requests=0, seen=taken), S)
    assert back.counters[0].left == 99


def test_after_a_loss_each_node_says_what_it_was_granted() -> None:
    """Data loss: the new page learns what the nodes hold before it lets more pass than is left."""
    old = Book()
    seen = old.lease(ask(counter(10), requests=9), 0)
    new = Book()
    stranger = new.lease(ask(counter(10), new=8), S)
    assert stranger.counters[0].left == 9
    told = new.lease(ask(counter(10, own=9, returns=((0, 4),)), requests=2, seen=seen, new=9), S)
    assert (told.epoch, told.passed, told.counters[0].left) == (8, 0, 0)


def test_an_older_copy_of_the_page_is_a_loss_too() -> None:
    """A replica that had not heard of the last calls took over."""
    book = Book()
    seen = book.lease(ask(counter(10)), 0)
    ahead = seen._replace(seq=seen.seq + 3)
    told = book.lease(ask(counter(10, own=5), seen=ahead, new=99), 1)
    assert told.epoch == 99
    assert told.counters[0].left == 10 - 1 - 5 - 1


def test_a_clock_that_goes_back_stands_still() -> None:
    book = Book()
    book.lease(ask(counter(1)), 10 * MINUTE)
    again = book.lease(ask(counter(1)), 0)
    assert (again.now_us, again.passed) == (10 * MINUTE, 0)


def test_a_raised_limit_holds_at_once_and_keeps_what_was_used() -> None:
    """TykTechnologies/tyk#265."""
    book = Book()
    book.lease(ask(counter(2), requests=2), 0)
    assert book.lease(ask(counter(2)), 1).passed == 0
    raised = book.lease(ask(counter(5)), 2)
    assert (raised.passed, raised.counters[0].left) == (1, 2)


def test_what_weighs_more_than_the_limit_never_passes() -> None:
    answer = Book().lease(ask(counter(3), units=4), 0)
    assert (answer.passed, answer.counters[0].retry_us) == (0, NEVER)


def test_who_waits_as_told_passes() -> None:
    """TykTechnologies/tyk-docs-hugo#4630: knocking does not move the moment."""
    book = Book()
    exact = counter(1, life_us=0)
    book.lease(ask(exact), 0)
    waits = [book.lease(ask(exact), at).counters[0].retry_us + at for at in (1, S, 30 * S)]
    assert waits == [MINUTE] * 3
    assert book.lease(ask(exact), MINUTE).passed == 1


def test_a_refusal_is_asked_again_when_a_slice_may_have_come_back() -> None:
    book = Book()
    learned(book)
    book.lease(ask(counter(8, ahead=100), requests=0), 0)
    refused = book.lease(ask(counter(8), units=7), 1).counters[0]
    assert refused.ask_us == 2 * life_us(MINUTE) - 1
    assert refused.retry_us > refused.ask_us


SHORT = counter(1000, S, ahead=10)
CALM = SHORT._replace(calm=1)
LONGER = 225_000  # a quarter of a second, of which 25 ms are the life of every slice


def test_far_from_the_limit_a_slice_lives_longer_and_is_larger() -> None:
    book = Book()
    learned(book)
    granted = [book.lease(ask(each, requests=0), 0).counters[0] for each in (SHORT, CALM)]
    assert [(each.granted, each.longer_us) for each in granted] == [(10, 0), (100, LONGER)]


def test_beyond_half_of_the_limit_none_does() -> None:
    book = Book()
    learned(book)
    book.lease(ask(SHORT, requests=401), 0)
    assert book.lease(ask(CALM), 1).counters[0].longer_us == 0
    assert book.lease(ask(CALM._replace(limit=2000)), 1).counters[0].longer_us == LONGER


def test_a_refusal_waits_for_the_long_slices_too() -> None:
    """A short slice that is granted after a long one does not hide that this may come back."""
    book = Book()
    learned(book)
    book.lease(ask(CALM, requests=0), 0)
    book.lease(ask(SHORT, requests=896), 1)
    refused = book.lease(ask(SHORT, units=5), 60_000).counters[0]
    assert (refused.left, refused.ask_us) == (3, 2 * S // 4 - 60_000)


def test_what_is_left_in_hand_is_part_of_the_next_slice() -> None:
    book = Book()
    learned(book)
    granted = [book.lease(ask(each._replace(left=7), requests=4), 0).counters[0].granted for each in (SHORT, CALM)]
    assert granted == [7, 97]
    assert book.lease(ask(SHORT._replace(left=30), requests=4), 0).counters[0].granted == 0


def test_a_slice_that_lives_longer_is_counted_longer_and_so_is_what_comes_after_it() -> None:
    book = Book()
    learned(book)
    kept = S + life_us(S)
    first = book.lease(ask(CALM, requests=0), 0)
    book.lease(ask(SHORT, requests=0), LONGER // 2)
    used = [1000 - book.lease(ask(SHORT, requests=0), at).counters[0].left for at in (kept, kept + LONGER - 1)]
    assert used == [120, 130]  # and what was granted to see it
    assert book.lease(ask(SHORT._replace(ahead=0), requests=0), kept + LONGER).counters[0].left == 980
    assert first.now_us == 0


def test_what_comes_back_of_a_long_slice_comes_from_it() -> None:
    book = Book()
    learned(book)
    taken = book.lease(ask(CALM, requests=0), 0)
    back = SHORT._replace(ahead=0, returns=((taken.now_us + LONGER, 60),))
    assert book.lease(ask(back, requests=0, seen=taken), S).counters[0].left == 960


def test_after_a_loss_what_was_granted_counts_as_long_as_a_long_slice() -> None:
    seen = Book().lease(ask(CALM, requests=0), 0)
    new = Book()
    new.lease(ask(SHORT._replace(own=100, ahead=0), requests=0, seen=seen, new=9), 0)
    kept = S + life_us(S) + LONGER
    lefts = [new.lease(ask(SHORT._replace(ahead=0), requests=0), at).counters[0].left for at in (kept - 1, kept)]
    assert lefts == [900, 1000]


def test_no_longer_life_outlives_the_first_second_of_a_new_page() -> None:
    assert [longer_us(window, life_us(window)) for window in (S, 10 * S, MINUTE, 60 * MINUTE)] == [
        LONGER,
        S - 10 * S // 120,
        S // 2,
        0,
    ]
    assert longer_us(S, 0) == 0


def test_pages_are_bounded() -> None:
    book = Book(max_pages=2)
    for tag in "ab":
        book.lease(ask(counter())._replace(tag=tag), 0)
    with pytest.raises(StoreFull, match="2 pages"):
        book.lease(ask(counter())._replace(tag="c"), 1)
    later = 4 * page_us(MINUTE + life_us(MINUTE))
    assert book.lease(ask(counter())._replace(tag="c"), later).passed == 1


class Grants(RuleBasedStateMachine):
    """What is granted and not returned never exceeds the limit in any W and its own life, whatever the calls."""

    LIMIT: ClassVar = 40
    WINDOW: ClassVar = 4 * S
    KEPT: ClassVar = WINDOW + life_us(WINDOW)

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.now = 0
        self.taken: list[list[int]] = []  # [counted from, units]

    @rule(by=st.integers(0, 3 * S))
    def pass_time(self, by: int) -> None:
        self.now += by

    @rule(requests=st.integers(0, 9), units=st.integers(1, 5), left=st.integers(0, 5), ahead=st.integers(0, 50))
    def call(self, requests: int, units: int, left: int, ahead: int) -> None:
        asked = counter(self.LIMIT, self.WINDOW, left=left, ahead=ahead, calm=ahead % 2)
        answer = self.book.lease(ask(asked, requests=requests, units=units), self.now)
        granted = answer.counters[0].granted
        assert granted + left >= answer.passed * units
        self.taken.append([self.now + answer.counters[0].longer_us, granted])

    @rule(part=st.integers(0, 20), which=st.integers(0, 100))
    def give_back(self, part: int, which: int) -> None:
        if self.taken:
            taken = self.taken[which % len(self.taken)]
            back = min(part, taken[1])
            taken[1] -= back
            self.book.lease(ask(counter(self.LIMIT, self.WINDOW, returns=((taken[0], back),)), requests=0), self.now)

    @invariant()
    def never_over(self) -> None:
        assert sum(units for at, units in self.taken if at > self.now - self.KEPT) <= self.LIMIT


TestGrants = Grants.TestCase
TestGrants.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
