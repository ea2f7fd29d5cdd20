"""The minute in which a subscription begins, ends, or takes another price: what is billed of it, once, and what not.

What ended while a subscription ran is billed; what ended before the first, between two, or behind the last is not. The
minute in which one period ends and the next begins belongs to the first of them.
"""

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.billing.outbox import Rules
from sidecar.billing.outbox.windows import Terms
from sidecar.billing.reconcile import Reporter, heal_ledger
from sidecar.core.accounts import MOST_PERIODS, Account
from sidecar.core.billing import Period, RowQuery
from tests.billing.books import EVENT, START_S, Books, Place

_runs = itertools.count()
END_S = START_S + 50_000


@st.composite
def lives(draw: st.DrawFn) -> tuple[tuple[Period, ...], str]:
    """Up to three periods with or without gaps on any seconds, and the subscription's status at last."""
    periods, at_s = [], START_S + draw(st.integers(0, 200))
    for _ in range(draw(st.integers(1, 3))):
        at_s += draw(st.sampled_from([0, 0, 0, 5, 30, 100]))
        until_s = at_s + draw(st.integers(130, 900))
        periods.append(Period(at_s, until_s))
        at_s = until_s
    if draw(st.booleans()):
        return tuple(periods), "canceled"
    return (*periods, Period(at_s, END_S)), "active"


uses = st.lists(
    st.tuples(st.integers(-100, 4_000), st.integers(0, 100_000_000), st.integers(1, 1_000)), min_size=1, max_size=40
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    life=lives(),
    calls=uses,
)
async def test_what_ended_in_a_subscription_is_billed_to_the_unit(
    tmp_path: Path, life: tuple[tuple[Period, ...], str], calls: list[tuple[int, int, int]]
) -> None:
    """``calls``: (began this many seconds after START_S, took microseconds, tokens); half of them are known before the
    subscription is."""
    await billed_by_the_call(tmp_path / f"{next(_runs)}.db", life, calls)


async def billed_by_the_call(
    place: Place, life: tuple[tuple[Period, ...], str], calls: list[tuple[int, int, int]]
) -> None:
    periods, status = life
    books = Books(place, periods=periods, rules=Rules(Terms(grace_s=200_000)))
    await books.open_account()
    await books.set_periods("acme", ())
    books.payee.advance(5_000)
    for number, (began_s, took_us, tokens) in enumerate(calls):
        if number == len(calls) // 2:
            await books.round()
            await books.set_periods("acme", periods, status)
        await books.use(tokens, ago_s=5_000 - began_s, took_us=took_us)
    await books.settle()
    for _ in range(2):  # a second look finds nothing to do
        await heal_ledger(books.store, ["tokens"], books.clock.wall_ns(), settle=0)
        await books.settle()
    assert books.billed() == books.served()
    assert {row.state for row in await books.rows()} <= {"accepted"}
    account = await books.store.account("acme")
    assert account is not None
    reporter = Reporter(books.store, None, {"tokens": EVENT}, books.clock)
    lines = [await reporter.line(account, "tokens", EVENT, period, books.now_s) for period in periods]
    assert [line.ledger for line in lines] == [line.assigned for line in lines] == books.served()
    assert all(line.agrees for line in lines)
    books.end()


BEGUN = Period(START_S + 20, START_S + 9_000)


async def begin(path: Path, **changes: int) -> Books:
    """Seven before the subscription began, in the same minute, and twenty behind that."""
    books = Books(path, periods=(BEGUN,))
    await books.open_account()
    books.payee.advance(10)
    await books.use(7)
    books.payee.advance(20)
    await books.use(20, **changes)
    return books


async def test_the_first_minute_is_billed_from_the_second_it_began(tmp_path: Path) -> None:
    books = await begin(tmp_path / "a.db")
    await books.settle()
    assert books.billed() == [20]
    minute = START_S // 60
    assert await books.store.excused("acme", "tokens", begin=minute, end=minute + 1) == 7
    (row,) = await books.rows()
    assert (row.begin, row.minute) == (minute, minute + 1), "the event stands within the period"
    books.end()


async def test_a_call_that_began_a_day_before_is_billed_where_it_ended(tmp_path: Path) -> None:
    books = await begin(tmp_path / "a.db", ago_s=80_000, took_us=80_000 * 10**6)
    await books.settle()
    assert books.billed() == [20]
    books.end()


@pytest.mark.parametrize("gone", [True, False])
async def test_without_its_entries_nothing_of_that_minute_is_billed(tmp_path: Path, gone: bool) -> None:
    """They are kept for some time only. What is in doubt is the customer's."""
    books = await begin(tmp_path / "a.db")
    if gone:
        assert await books.store.forget_events(before_us=10**18, at_most=100) == 2
    await books.use(300, ago_s=0, took_us=60 * 10**6)
    books.payee.advance(600)
    await books.settle()
    assert books.billed() == [300 if gone else 320]
    assert await books.store.unassigned_minutes("acme", "tokens", begin=0, end=10**9) == {}
    books.end()


async def test_what_was_billed_stays_billed(tmp_path: Path) -> None:
    """The entries are gone when more of that minute arrives: what is in a row stays there, nothing is added."""
    books = await begin(tmp_path / "a.db")
    await books.settle()
    assert await books.store.forget_events(before_us=10**18, at_most=100) == 2
    await books.use(1_000, ago_s=books.now_s - START_S - 40)
    await books.settle()
    assert books.billed() == [20]
    assert await books.store.unassigned_minutes("acme", "tokens", begin=0, end=10**9) == {}
    assert [row.value for row in await books.store.rows(RowQuery())] == [20]
    books.end()


def test_the_oldest_of_many_periods_may_have_had_another_before_it() -> None:
    """That one has its first minute."""
    periods = tuple(Period(at * 600 + 30, at * 600 + 630) for at in range(MOST_PERIODS))
    first = next(Account("acme", "cus_1", periods=periods).minutes())
    assert first == (periods[0], range(1, 11))
    assert next(Account("acme", "cus_1", periods=periods[1:]).minutes()) == (periods[1], range(10, 21))


def test_a_period_without_a_whole_minute_leaves_its_use_to_the_next() -> None:
    """No event could stand in it. Where there is none its use waits, and is free when the subscription ended."""
    short, following = Period(610, 650), Period(650, 6_000)
    assert list(Account("acme", "cus_1", periods=(short, following)).minutes()) == [
        (short, range(10, 10)),
        (following, range(10, 100)),
    ]
    assert list(Account("acme", "cus_1", periods=(short,)).minutes()) == [(short, range(10, 11))]
    assert list(Account("acme", "cus_1", status="canceled", periods=(short,)).minutes()) == [(short, range(10, 10))]
    assert list(Account("acme", "cus_1", periods=(short, following)).free_spans(10, 100)) == [
        (600 * 10**6, 610 * 10**6)
    ]


@pytest.mark.parametrize("status", ["active", "canceled"])
async def test_use_in_less_than_a_minute_waits_for_the_next_period_or_is_free(tmp_path: Path, status: str) -> None:
    short, following = Period(START_S + 10, START_S + 50), Period(START_S + 50, START_S + 90_000)
    books = Books(tmp_path / "a.db", periods=(short,))
    await books.open_account()
    await books.set_periods("acme", (short,), status)
    books.payee.advance(20)
    await books.use(7)
    books.payee.advance(900)
    await books.round()
    assert (await books.rows(), books.assigner.stuck) == ([], {})
    assert len(await books.store.marks(before=10**9)) == (status == "active")
    books.periods = (short, following)
    await books.set_periods("acme", books.periods)
    await books.settle()
    assert books.billed() == ([0, 7] if status == "active" else [0, 0])
    books.end()
