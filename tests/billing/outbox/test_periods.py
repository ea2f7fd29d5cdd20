"""Usage is billed in the period that it lies in, or it is said why not."""

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.billing.outbox import Events, Rules
from sidecar.billing.outbox.windows import Terms, divide
from sidecar.core.accounts import Account
from sidecar.core.billing import Period
from tests.billing.books import START_S, Books

_runs = itertools.count()
# Ends on any second: here 17 s after a whole minute, which belongs to the period that ends in it.
FIRST = Period(START_S - 5_000, START_S + 3_617)
SECOND = Period(START_S + 3_617, START_S + 90_000)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path / "a.db", periods=(FIRST, SECOND))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), fault_share=st.sampled_from([0.0, 0.5]))
async def test_each_period_has_what_was_used_in_it(tmp_path: Path, seed: int, fault_share: float) -> None:
    """Small periods one behind the other, with faults; graces long enough for them."""
    cuts = [START_S - 1_000, START_S + 4_000 + seed % 120, START_S + 9_017, START_S + 400_000]
    periods = tuple(Period(start, end) for start, end in itertools.pairwise(cuts))
    rules = Rules(Terms(grace_s=200_000))
    made = Books(tmp_path / f"{next(_runs)}.db", seed=seed, periods=periods, rules=rules)
    await made.open_account()
    made.payee.fault_share = fault_share
    for _ in range(25):
        await made.use(made.random.randrange(1, 100), ago_s=made.random.choice([0, 0, 700]))
        made.payee.advance(made.random.choice([60, 600]))
        await made.round()
    await made.settle()
    assert made.billed() == made.served()
    made.end()


async def test_a_month_goes_by_without_the_next_period_being_known(books: Books) -> None:
    """Usage waits for the subscription to be read again, and nothing of it is lost."""
    await books.open_account()
    await books.set_periods("acme", (FIRST,))
    await books.use(5)
    books.payee.advance(5_000)
    await books.use(9)
    for _ in range(4):
        books.payee.advance(300)
        await books.round()
    assert books.billed() == [5, 0]
    await books.set_periods("acme", (FIRST, SECOND))
    await books.settle()
    assert books.billed() == books.served() == [5, 9]
    books.end()


async def test_what_becomes_known_after_the_invoice_is_held(books: Books) -> None:
    """Stripe bills it never: not on that invoice, not on the next; stamping it anew would bill the wrong month."""
    await books.open_account()
    await books.use(5)
    books.payee.advance(4_000)
    await books.round()
    books.payee.advance(3_617 + 3_600)
    await books.use(7, ago_s=books.now_s - START_S - 600)
    await books.settle()
    assert books.billed() == [5, 0]
    (held,) = await books.rows("held")
    assert (held.value, held.period, held.note) == (7, FIRST, "its period was invoiced before this was known")
    books.end()


async def test_what_becomes_known_after_the_invoice_is_carried_when_told_so(tmp_path: Path) -> None:
    books = Books(tmp_path / "a.db", periods=(FIRST, SECOND), rules=Rules(Terms(carry=True)))
    await books.open_account()
    books.payee.advance(3_617 + 3_600)
    await books.use(7, ago_s=books.now_s - START_S - 600)
    await books.settle()
    assert books.billed() == [0, 7]
    (row,) = await books.rows()
    assert row.note == f"carried from the period that ended at {FIRST.end_s}"
    assert (row.begin, row.period) == (START_S // 60 + 10, SECOND)
    books.end()


async def test_a_row_that_did_not_get_out_in_time_is_held(books: Books) -> None:
    await books.open_account()
    await books.use(5)
    books.payee.out = True
    books.payee.advance(600)
    await books.assigner.assign()
    assert len(await books.rows("pending")) == 1
    books.payee.advance(9_000)
    await books.sender.send()
    (held,) = await books.rows("held")
    assert held.note == "its period was invoiced before it could be sent"
    books.end()


async def test_an_attempt_that_was_lost_until_after_the_invoice_is_looked_up(books: Books) -> None:
    """It may have been taken: only the payee's sums say so."""
    await books.open_account()
    await books.use(5)
    books.payee.advance(600)
    books.payee.fault_share, books.payee.faults = 1.0, ("take_and_lose",)
    await books.round()
    books.payee.out = True
    for _ in range(30):
        books.payee.advance(3_600)
        await books.round()
    await books.settle()
    assert [row.state for row in await books.rows()] == ["verified"]
    assert books.billed() == [5, 0]
    books.end()


async def test_usage_outside_of_every_period_is_not_asked_for(books: Books) -> None:
    await books.open_account()
    await books.use(3, ago_s=6_000)
    await books.use(5)
    await books.settle()
    assert [row.value for row in await books.rows()] == [5]
    await books.set_periods("acme", (FIRST,), status="canceled")
    books.payee.advance(5_000)
    await books.use(9)
    books.payee.advance(1_000)
    await books.round()
    assert await books.store.marks(before=10**9) == []
    assert [row.value for row in await books.rows()] == [5]
    books.end()


async def test_test_keys_cost_nothing(books: Books) -> None:
    await books.open_account()
    await books.use(5, sandbox=True)
    books.payee.advance(1_000)
    await books.round()
    assert await books.rows() == []
    books.end()


async def test_an_hours_total_is_sent_once_the_hour_is_closed(tmp_path: Path) -> None:
    whole = (Period(START_S // 3600 * 3600, START_S // 3600 * 3600 + 86_400),)
    events = Events(hourly={"tokens": "acme_tokens"}, added={"requests": "acme_requests"})
    books = Books(tmp_path / "a.db", periods=whole, events=events)
    await books.open_account()
    for _ in range(8):
        await books.use(10)
        await books.use(1, meter="requests")
        books.payee.advance(600)
        await books.round()
    await books.settle()
    rows = await books.rows()
    assert {row.timestamp_s % 3600 for row in rows if row.hourly} == {1_830}
    assert books.billed() == books.served() == [80]
    assert books.billed(event="acme_requests") == [8]
    await books.use(5, ago_s=7_200)
    await books.settle()
    assert books.billed() == books.served() == [85], "the hour's new total took the place of the old one"
    books.end()


async def test_an_hour_that_is_in_two_periods_is_held(tmp_path: Path) -> None:
    books = Books(tmp_path / "a.db", periods=(FIRST, SECOND), events=Events(hourly={"tokens": "acme_tokens"}))
    await books.open_account()
    books.payee.advance(3_600)
    await books.use(4)
    await books.settle()
    (held,) = await books.rows()
    assert (held.state, held.note) == ("held", "the billing period changes within this hour")
    books.end()


async def test_meters_that_add_do_not_wait_for_an_hour_in_which_their_period_ends(tmp_path: Path) -> None:
    """Ten minutes past the hour: once that hour is closed, ten minutes into the next, the invoice takes no more."""
    hour_s = START_S // 3600 * 3600 + 3_600
    ends_s = hour_s + 617
    events = Events(hourly={"tokens": "acme_tokens"}, added={"requests": "acme_requests"})
    periods = (Period(START_S - 5_000, ends_s), Period(ends_s, ends_s + 90_000))
    books = Books(tmp_path / "a.db", periods=periods, events=events)
    await books.open_account()
    books.payee.advance(hour_s + 300 - START_S)
    await books.use(3, meter="requests")
    await books.use(20)
    for _ in range(30):
        books.payee.advance(300)
        await books.round()
    rows = await books.rows()
    assert {row.state for row in rows if not row.hourly} == {"accepted"}
    assert books.billed(event="acme_requests") == [3, 0]
    assert [(row.state, row.value) for row in rows if row.hourly] == [("held", 20)]
    books.end()


async def test_two_tenants_of_a_customer_have_no_common_total(tmp_path: Path) -> None:
    books = Books(tmp_path / "a.db", events=Events(hourly={"tokens": "acme_tokens"}))
    await books.open_account()
    await books.open_account("beta", books.customers["acme"])
    await books.use(4)
    await books.settle()
    (held,) = await books.rows()
    assert (held.state, "several tenants" in held.note) == ("held", True)
    books.end()


@given(
    minutes=st.lists(st.integers(0, 200), max_size=20, unique=True).map(sorted),
    cuts=st.lists(st.integers(600, 11_000), min_size=2, max_size=5, unique=True).map(sorted),
    status=st.sampled_from(["active", "canceled"]),
)
def test_a_division_takes_each_minute_once_into_the_period_it_lies_in(
    minutes: list[int], cuts: list[int], status: str
) -> None:
    periods = tuple(Period(start, end) for start, end in itertools.pairwise(cuts))
    account = Account("acme", "cus_1", status=status, periods=periods)
    division = divide(account, minutes, now_s=200 * 60, terms=Terms())

    def touching(minute: int) -> list[Period]:
        return [p for p in periods if p.start_s // 60 <= minute < -(-p.end_s // 60)]

    for share in division.shares:
        window = share.window
        inside = [m for m in minutes if window.begin <= m < window.end]
        assert inside[0] == window.begin
        assert inside[-1] == window.end - 1
        assert all(m in account.minutes_of(window.period) for m in inside)
        assert window.period in touching(inside[0]), "in the first one that has a whole minute"
    ranges = [(s.window.begin, s.window.end) for s in division.shares] + list(division.unbilled)
    for minute in minutes:
        covering = [r for r in ranges if r[0] <= minute < r[1]]
        waits = minute * 60 >= periods[-1].end_s and status == "active"
        assert len(covering) == (0 if waits else 1), minute
