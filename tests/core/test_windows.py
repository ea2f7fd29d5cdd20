"""The sliding window against an oracle that remembers every unit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.windows import CELLS, Window

_STEPS = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 6)), max_size=120)
_LENGTHS = st.sampled_from([1, 7, 59, 60, 61, 600, 997, 3600])


def _admit(window: Window, now: int, n: int) -> bool:
    if not window.fits(now, n):
        return False
    window.take(now, n)
    return True


def _most_in_any_interval(admitted: list[tuple[int, int]], length: int) -> int:
    """The most units in any [t, t + length); it is enough to try the intervals that start at a unit."""
    return max((sum(n for at, n in admitted if start <= at < start + length) for start, _ in admitted), default=0)


@given(limit=st.integers(0, 20), length=_LENGTHS, steps=_STEPS)
def test_never_more_than_the_limit_in_any_interval(limit: int, length: int, steps: list[tuple[int, int]]) -> None:
    """design 3, promise 3; http.md 5."""
    window, now, admitted = Window(limit, length, 0), 0, []
    for step, n in steps:
        now += step
        if _admit(window, now, n):
            admitted.append((now, n))
    assert _most_in_any_interval(admitted, length) <= limit


@given(length=_LENGTHS, steps=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 6), st.integers(0, 50))))
def test_what_counts_from_a_later_moment_is_kept_from_then_on(length: int, steps: list[tuple[int, int, int]]) -> None:
    """And what comes after it is not forgotten first: each unit counts for W at least, by W/60 more at most."""
    window, now, taken, last = Window(10**6, length, 0), 0, [], 0
    for step, n, later in steps:
        now += step
        window.expire(now)
        window.take_from(now + later, n)
        last = max(last, now + later)
        taken.append((last, n))
        least = sum(units for at, units in taken if at > now - length)
        most = sum(units for at, units in taken if at > now - length - max(1, length // CELLS))
        assert least <= window.used <= most


@given(limit=st.integers(1, 20), length=_LENGTHS, steps=_STEPS)
def test_refuses_at_most_one_cell_early(limit: int, length: int, steps: list[tuple[int, int]]) -> None:
    """What the last W + W/60 leave room for is admitted, so at most one cell's worth of time is lost."""
    window, now, admitted = Window(limit, length, 0), 0, []
    for step, n in steps:
        now += step
        counted = sum(units for at, units in admitted if at > now - length - max(1, length // CELLS))
        passed = _admit(window, now, n)
        assert passed or counted + n > limit
        if passed:
            admitted.append((now, n))


@given(limit=st.integers(1, 20), length=_LENGTHS, steps=_STEPS, n=st.integers(1, 25))
def test_retry_at_is_the_first_moment_that_passes(
    limit: int, length: int, steps: list[tuple[int, int]], n: int
) -> None:
    window, now = Window(limit, length, 0), 0
    for step, units in steps:
        now += step
        _admit(window, now, units)
    retry = window.retry_at_ns(now, n)
    if n > limit:
        assert retry is None
        assert not window.fits(now + 10 * length, n)
        return
    assert retry is not None
    assert (retry == now) == window.fits(now, n)
    if retry > now:
        assert not window.fits(retry - 1, n)
    assert window.fits(retry, n)


@given(limit=st.integers(1, 50), length=_LENGTHS, steps=_STEPS)
def test_used_is_the_sum_of_its_cells_and_their_number_is_bounded(
    limit: int, length: int, steps: list[tuple[int, int]]
) -> None:
    window, now = Window(limit, length, 0), 0
    for step, n in steps:
        now += step
        _admit(window, now, n)
        older = window._older or []
        assert window.used == sum(older[1::2]) + window._open_units
        assert len(older) // 2 + 1 <= CELLS + 2 or length < CELLS
        assert older[::2] == sorted(older[::2])


def test_cells_are_bounded_when_units_trickle() -> None:
    window = Window(10**9, 60_000, 0)
    for now in range(0, 300_000, 500):
        _admit(window, now, 1)
    assert len(window._older or []) // 2 + 1 <= CELLS + 2


@pytest.mark.parametrize("every", [5, 9, 10, 13])
def test_a_steady_stream_gets_sixty_of_sixty_one_parts(every: int) -> None:
    """http.md 5: B cells cost at most 1/(B+1) of the capacity."""
    limit, length = 6100, 61_000
    window = Window(limit, length, 0)
    asked = range(0, 20 * length, every)
    passed = sum(_admit(window, now, 1) for now in asked)
    assert passed >= min(len(asked), 20 * limit) * 60 / 61


def test_the_adversary_at_the_boundary_gets_no_second_helping() -> None:
    """http.md 5: the two-counter estimate lets 1,999 of 1,000 through."""
    window, length = Window(1000, 60_000, 0), 60_000
    admitted = []
    for now in [*range(59_000, 60_000), *range(60_000, 61_000), *range(118_000, 121_000)]:
        if _admit(window, now, 1):
            admitted.append((now, 1))
    assert _most_in_any_interval(admitted, length) == 1000


def test_a_burst_is_forgotten_exactly_one_window_after_it() -> None:
    window = Window(10, 1_000_000_000, 0)
    assert all(_admit(window, 5, 1) for _ in range(10))
    assert not window.fits(5, 1)
    assert window.retry_at_ns(5, 1) == 1_000_000_005
    assert not window.fits(1_000_000_004, 1)
    assert window.fits(1_000_000_005, 10)


def test_a_refusal_changes_nothing() -> None:
    """envoyproxy/ratelimit#185; TykTechnologies/tyk-docs-hugo#4630: who keeps knocking is not blocked for ever."""
    window = Window(3, 1000, 0)
    assert _admit(window, 0, 3)
    assert not any(_admit(window, now, 1) for now in range(1000))
    assert _admit(window, 1000, 3)


def test_a_raised_limit_holds_at_once_and_keeps_what_was_used() -> None:
    """envoyproxy/ratelimit#185; TykTechnologies/tyk#265."""
    window = Window(5, 1000, 0)
    assert _admit(window, 0, 5)
    window.limit = 8
    assert not window.fits(1, 4)
    assert _admit(window, 1, 3)
    window.limit = 2
    assert not window.fits(2, 1)
    assert window.used_at(2) == 8


@given(
    before=_LENGTHS, after=_LENGTHS, first=_STEPS, second=_STEPS, limit=st.integers(1, 20), pause=st.integers(0, 3600)
)
def test_a_changed_length_is_never_looser(
    before: int,
    after: int,
    first: list[tuple[int, int]],
    second: list[tuple[int, int]],
    limit: int,
    pause: int,
) -> None:
    """From the change on, the new length holds over everything that the old one still knew."""
    window, now, admitted = Window(limit, before, 0), 0, []
    for step, n in first:
        now += step
        if _admit(window, now, n):
            admitted.append((now, n))
    now += pause
    known = [(at, n) for at, n in admitted if at > now - before]
    window.reshape(after, now)
    for step, n in second:
        if _admit(window, now, n):
            known.append((now, n))
        now += step
    later = [(at, n) for at, n in known]
    assert _most_in_any_interval(later, after) <= max(limit, _most_in_any_interval(admitted, after))
    assert window.used_at(now) >= sum(n for at, n in known if at > now - after)


def test_a_shortened_window_makes_cells_of_the_new_length() -> None:
    window = Window(3, 6000, 0)
    _admit(window, 0, 1)
    window.reshape(60, 10)
    assert _admit(window, 10, 1)
    assert _admit(window, 12, 1)
    assert [window.used_at(now) for now in (59, 60, 70, 72)] == [3, 2, 1, 0]


def test_a_clock_that_stands_still_admits_the_limit_once() -> None:
    window = Window(4, 60, 7)
    assert [_admit(window, 7, 1) for _ in range(6)] == [True] * 4 + [False] * 2


def test_idle_after_one_whole_window_without_a_unit() -> None:
    window = Window(4, 60, 0)
    assert not window.idle(59)
    _admit(window, 30, 1)
    assert not window.idle(89)
    assert window.idle(90)
    assert window.used_at(90) == 0
    assert window.reset_ns(90) == 0


def test_a_retired_window_asks_to_be_looked_up_again() -> None:
    window = Window(4, 60, 0)
    window.retire()
    assert window.next_ns < 0
    assert not window.expire(0)


@pytest.mark.parametrize(("limit", "length"), [(-1, 60), (1, 0)])
def test_impossible_windows_are_refused(limit: int, length: int) -> None:
    with pytest.raises(ValueError, match="window"):
        Window(limit, length, 0)


def test_a_window_cannot_become_empty() -> None:
    with pytest.raises(ValueError, match="at least 1 ns"):
        Window(1, 60, 0).reshape(0, 0)
