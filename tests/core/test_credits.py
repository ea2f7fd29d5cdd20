"""Burning grants: never below nothing, nothing lost, in an order that arrival does not change."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credits import FOREVER, NS_PER_MINUTE, Grant, Step, burn, edges


def grant(source: str, amount: int, begin: int = 0, end: int | None = None, priority: int = 100) -> Grant:
    expires = None if end is None else end * NS_PER_MINUTE
    return Grant("acme", source, amount, "USD", begin * NS_PER_MINUTE, priority, expires)


grants = st.lists(
    st.builds(
        lambda number, amount, begin, length, priority: grant(
            f"s{number}", amount, begin, None if length is None else begin + length, priority
        ),
        st.integers(0, 10**6),
        st.integers(1, 1000),
        st.integers(0, 100),
        st.none() | st.integers(1, 100),
        st.integers(0, 3),
    ),
    max_size=8,
    unique_by=lambda made: made.source,
)
uses = st.lists(st.tuples(st.integers(0, 250), st.integers(0, 400)), max_size=12)


def steps(found: list[Grant], used: list[tuple[int, int]]) -> list[Step]:
    """Use at minutes, added up between the edges of the grants."""
    cuts = edges(found, 0, 300)
    return [
        Step(begin, end, sum(micros for minute, micros in used if begin <= minute < end))
        for begin, end in pairwise(cuts)
    ]


@given(found=grants, used=uses)
def test_what_is_burned_and_what_is_not_covered_add_up_to_the_price(
    found: list[Grant], used: list[tuple[int, int]]
) -> None:
    burned = burn(found, steps(found, used))
    assert sum(burned.by_source.values()) + burned.uncovered == sum(micros for _, micros in used)
    assert all(0 <= burned.by_source[one.source] <= one.amount for one in found)


@given(found=grants, used=uses, data=st.data())
def test_neither_the_order_of_grants_nor_of_use_changes_anything(
    found: list[Grant], used: list[tuple[int, int]], data: st.DataObject
) -> None:
    other, mixed = data.draw(st.permutations(found)), data.draw(st.permutations(used))
    assert burn(found, steps(found, used)) == burn(other, steps(other, mixed))


@given(found=grants, used=uses, data=st.data())
def test_settling_on_the_way_changes_nothing(
    found: list[Grant], used: list[tuple[int, int]], data: st.DataObject
) -> None:
    """What was burned up to a minute is kept with the grants, and the rest is burned later."""
    all_steps = steps(found, used)
    at = data.draw(st.integers(0, len(all_steps)))
    first = burn(found, all_steps[:at])
    kept = [replace(one, burned=first.by_source[one.source]) for one in found]
    assert burn(kept, all_steps[at:], first.uncovered) == burn(found, all_steps)


@given(found=grants, used=uses)
def test_a_grant_is_burned_in_its_time_alone(found: list[Grant], used: list[tuple[int, int]]) -> None:
    burned = burn(found, steps(found, used))
    for one in found:
        within = sum(micros for minute, micros in used if one.begin <= minute < one.end)
        assert burned.by_source[one.source] <= within


@given(found=grants, used=uses, data=st.data())
def test_shares_say_who_paid_for_what_and_what_it_earned(
    found: list[Grant], used: list[tuple[int, int]], data: st.DataObject
) -> None:
    """However the steps are settled, a grant earns what was paid for it over its amount, all of it at the end."""
    found = [replace(one, bonus=data.draw(st.integers(0, one.amount))) for one in found]
    all_steps = steps(found, used)
    burned = burn(found, all_steps)
    for one in found:
        shares = [share for share in burned.shares if share.source == one.source]
        assert sum(share.amount for share in shares) == burned.by_source[one.source]
        assert sum(share.earned for share in shares) == one.earned(burned.by_source[one.source])
        assert all(0 <= share.earned <= share.amount for share in shares)
        assert (one.earned(0), one.earned(one.amount)) == (0, one.paid)
    for step in all_steps:
        shares = [share for share in burned.shares if share.begin == step.begin]
        assert [share.above for share in shares] == [sum(s.amount for s in shares[:n]) for n in range(len(shares))]
        assert all(share.due == step.micros and share.above + share.amount <= step.micros for share in shares)
    at = data.draw(st.integers(0, len(all_steps)))
    first = burn(found, all_steps[:at])
    kept = [replace(one, burned=first.by_source[one.source]) for one in found]
    assert first.shares + burn(kept, all_steps[at:]).shares == burned.shares


def test_the_order_is_priority_then_expiry_then_age() -> None:
    late = grant("late", 10, 0, 90)
    soon = grant("soon", 10, 0, 80)
    first = grant("first", 10, 0, None, priority=1)
    old, young = grant("old", 10, 0), grant("young", 10, 5)
    found = [young, old, late, soon, first]
    taken = [burn(found, [Step(10, 11, micros)]).by_source for micros in (10, 20, 30, 40, 50)]
    ended = [[one for one in ("first", "soon", "late", "old", "young") if burns[one]] for burns in taken]
    assert ended == [
        ["first"],
        ["first", "soon"],
        ["first", "soon", "late"],
        ["first", "soon", "late", "old"],
        ["first", "soon", "late", "old", "young"],
    ]


def test_use_before_a_top_up_is_not_taken_from_it() -> None:
    """A debt that nobody covered is told, and a top-up is the customer's in full."""
    found = [grant("a", 10, 0), grant("b", 100, 50)]
    burned = burn(found, [Step(0, 50, 30), Step(50, 60, 5)])
    assert (burned.by_source, burned.uncovered) == ({"a": 10, "b": 5}, 20)


def test_a_revoked_grant_ends_and_keeps_what_was_burned() -> None:
    one = replace(grant("a", 100, 0), burned=30, revoked_ns=50 * NS_PER_MINUTE + 1)
    assert (one.end, grant("b", 1).end) == (51, FOREVER)
    burned = burn([one], [Step(0, 51, 10), Step(51, 60, 10)])
    assert (burned.by_source, burned.uncovered) == ({"a": 40}, 10)
