"""What every BillingStore must do with the outbox: usage in one row, a row with one value, a minute with one row."""

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.core.accounts import Account
from sidecar.core.billing import OutboxRow, Parity, Period, RowQuery, Window
from sidecar.core.errors import Conflict, NotFound
from sidecar.core.ports import Position
from tests.billing.records import call_record
from tests.contract.conftest import Books

MINUTE = 60_000_000
_numbers = itertools.count(1)
PERIOD = Period(6_000, 60_000)  # minutes 100 to 999
WINDOW = Window("acme", "cus_1", 200, 205, PERIOD)
EVENTS = {"tokens": "acme_tokens"}


async def use(books: Books, minute: int, tokens: int = 1, **changes: Any) -> None:
    """A call that ended as the minute began, unless ``changes`` say otherwise."""
    known = {"started_us": minute * MINUTE - 5, "meters": {"tokens": tokens}}
    record = call_record(next(_numbers), **(known | changes))
    position = await books.position()
    assert await books.append([record], Position(position.segment + 1, 16)) == 1


async def with_account(books: Books) -> None:
    await books.save_account(Account("acme", "cus_1"), actor="billing", at_ns=1)


async def one_row(books: Books, minute: int = 200, tokens: int = 7) -> OutboxRow:
    await use(books, minute, tokens)
    (row,) = await books.assign(dataclasses.replace(WINDOW, begin=minute, end=minute + 1), EVENTS, at_ns=9)
    return row


async def test_usage_of_live_keys_of_those_who_pay_is_marked(books: Books) -> None:
    await use(books, 200)
    assert await books.marks(before=10**6) == [], "no account yet"
    await with_account(books)
    await use(books, 201)
    await use(books, 201)
    await use(books, 202, sandbox=True)
    await use(books, 203, tenant="other")
    await use(books, 204, meters={})
    await use(books, 205)
    assert await books.marks(before=10**6) == [("acme", 201), ("acme", 205)]
    assert await books.marks(before=205) == [("acme", 201)]
    assert await books.marks(before=10**6, after=("acme", 201)) == [("acme", 205)]
    assert await books.marks(before=10**6, limit=1) == [("acme", 201)]


async def test_what_was_used_before_the_account_can_be_marked_and_unmarked(books: Books) -> None:
    for minute in (199, 200, 201, 300):
        await use(books, minute)
    await use(books, 202, sandbox=True)
    assert await books.mark("acme", begin=200, end=300) == 2
    assert await books.mark("acme", begin=200, end=300) == 0
    assert await books.marks(before=10**6) == [("acme", 200), ("acme", 201)]
    await books.unmark("acme", begin=201, end=500)
    assert await books.marks(before=10**6) == [("acme", 200)]


async def test_a_window_becomes_one_row_per_meter_and_its_marks_go(books: Books) -> None:
    await with_account(books)
    for minute, tokens in ((199, 1), (200, 10), (202, 100), (204, 1000), (205, 10_000)):
        await use(books, minute, tokens, meters={"tokens": tokens, "requests": 1, "nothing": 0})
    events = {"tokens": "acme_tokens", "requests": "acme_requests", "nothing": "acme_nothing"}
    tokens_row, requests_row = await books.assign(WINDOW, events, at_ns=9)
    name = await books.instance()
    assert (tokens_row.value, requests_row.value) == (1110, 3)
    assert tokens_row.identifier.startswith(f"{name}:")
    assert tokens_row.identifier.endswith(":cus_1:200")
    assert len({tokens_row.identifier, requests_row.identifier}) == 2
    assert (tokens_row.minute, tokens_row.timestamp_s) == (200, 200 * 60 + 30)
    assert (tokens_row.state, tokens_row.created_ns, tokens_row.attempts) == ("pending", 9, 0)
    assert await books.marks(before=10**6) == [("acme", 199), ("acme", 205)]
    assert await books.rows(RowQuery()) == [tokens_row, requests_row]


async def test_a_window_asked_for_again_gives_nothing_and_late_usage_a_row_of_its_own(books: Books) -> None:
    first = await one_row(books)
    window = dataclasses.replace(WINDOW, begin=200, end=201)
    assert await books.assign(window, EVENTS, at_ns=10) == []
    await use(books, 200, 5)
    (late,) = await books.assign(window, EVENTS, at_ns=11)
    assert (late.value, late.minute) == (5, 201)
    assert (await books.rows(RowQuery()))[0] == first
    assert await books.assigned("acme", "tokens", begin=200, end=201) == 12


FREE = ((200 * MINUTE, 200 * MINUTE + 20_000_000), (200 * MINUTE + 50_000_000, 201 * MINUTE))


async def ended(books: Books, second: int, tokens: int, took_s: int = 5, **changes: object) -> None:
    """A call that ended so many seconds after minute 200 began."""
    at_us = 200 * MINUTE + (second - took_s) * 1_000_000
    await use(books, 200, tokens, started_us=at_us, total_us=took_s * 1_000_000, **changes)


async def test_what_ended_while_no_subscription_ran_is_asked_of_nobody(books: Books) -> None:
    await with_account(books)
    for second, tokens in ((0, 1), (19, 2), (20, 30), (49, 400), (50, 5_000), (59, 60_000)):
        await ended(books, second, tokens)
    await ended(books, 30, 700_000, took_s=7_200)
    await ended(books, 19, 9_000_000, sandbox=True)
    await ended(books, 19, 9_000_000, tenant="other")
    await use(books, 202, 8)
    window = dataclasses.replace(WINDOW, free=FREE)
    (row,) = await books.assign(window, EVENTS, at_ns=9)
    assert row.value == 700_438
    assert await books.excused("acme", "tokens", begin=200, end=205) == 65_003
    assert await books.assigned("acme", "tokens", begin=200, end=205) == 700_438
    assert await books.unassigned_minutes("acme", "tokens", begin=200, end=205) == {}
    await ended(books, 1, 4)
    await ended(books, 40, 50)
    assert await books.unassigned_minutes("acme", "tokens", begin=200, end=205) == {200: (700_484, 700_430)}
    (late,) = await books.assign(window, EVENTS, at_ns=9)
    assert (late.value, await books.excused("acme", "tokens", begin=200, end=201)) == (50, 65_007)


async def test_where_the_single_entries_are_gone_nothing_more_of_the_minute_is_asked_for(books: Books) -> None:
    await with_account(books)
    await ended(books, 19, 2)
    await ended(books, 30, 30)
    window = dataclasses.replace(WINDOW, free=FREE)
    assert [row.value for row in await books.assign(window, EVENTS, at_ns=9)] == [30]
    while await books.forget_events(before_us=10**18, at_most=1_000):
        pass
    await ended(books, 31, 400)
    assert await books.assign(window, EVENTS, at_ns=9) == []
    assert await books.excused("acme", "tokens", begin=200, end=201) == 402
    assert await books.unassigned_minutes("acme", "tokens", begin=200, end=205) == {}


async def test_what_was_assigned_before_the_minute_was_found_free_stays(books: Books) -> None:
    await with_account(books)
    await ended(books, 19, 2)
    assert [row.value for row in await books.assign(WINDOW, EVENTS, at_ns=9)] == [2]
    assert await books.assign(dataclasses.replace(WINDOW, free=FREE), EVENTS, at_ns=9) == []
    assert await books.excused("acme", "tokens", begin=200, end=201) == 0
    await books.forget_billed(before=201, at_most=100)
    assert await books.assigned("acme", "tokens", begin=200, end=201) == 0


async def test_test_keys_are_never_asked_for(books: Books) -> None:
    await use(books, 200, 50, sandbox=True)
    assert await books.assign(WINDOW, EVENTS, at_ns=9) == []


async def test_stamps_go_on_after_the_window_then_from_the_periods_beginning(books: Books) -> None:
    short = dataclasses.replace(WINDOW, begin=12, end=13, period=Period(601, 840))  # stamps 11 to 13
    stamps = []
    for _ in range(3):
        await use(books, 12)
        stamps += [row.minute for row in await books.assign(short, EVENTS, at_ns=9)]
    assert stamps == [12, 13, 11]
    await use(books, 12)
    with pytest.raises(Conflict, match="no minute left"):
        await books.assign(short, EVENTS, at_ns=9)
    assert (await books.unassigned_minutes("acme", "tokens", begin=0, end=99)) == {12: (4, 3)}, "nothing half done"


async def test_an_hours_newest_total_takes_the_place_of_those_nobody_was_told(books: Books) -> None:
    hour = dataclasses.replace(WINDOW, begin=240, end=300, hourly=True)
    totals = []
    for minute in (240, 250, 299):
        await use(books, minute, 10)
        totals += await books.assign(hour, EVENTS, at_ns=9)
        if minute == 250:
            await books.attempt(totals[-1].id, at_ns=10)
    assert [(row.value, row.version, row.minute) for row in totals] == [(10, 1, 270), (20, 2, 270), (30, 3, 270)]
    assert [row.identifier.rpartition(":")[2] for row in totals] == ["v1", "v2", "v3"]
    assert [row.state for row in await books.rows(RowQuery())] == ["superseded", "sent", "pending"]
    states = ("pending", "sent")
    asked = {"customer": "cus_1", "event_name": "acme_tokens", "begin": 240, "end": 300}
    assert await books.row_sums(**asked, states=states) == {4: 30}
    assert await books.row_sums(**asked, states=("sent",)) == {4: 20}


async def test_an_attempt_is_written_down_and_what_became_of_it(books: Books) -> None:
    row = await one_row(books)
    sent = await books.attempt(row.id, at_ns=50)
    assert (sent.state, sent.attempts, sent.first_attempt_ns) == ("sent", 1, 50)
    waiting = await books.settle(row.id, "sent", at_ns=60, next_ns=70, rounds=1, http=429, request_id="req_1", note="x")
    assert (waiting.next_ns, waiting.round, waiting.http, waiting.settled_ns) == (70, 1, 429, None)
    assert await books.due(at_ns=69, limit=9) == []
    assert await books.due(at_ns=70, limit=9) == [waiting]
    again = await books.attempt(row.id, at_ns=75)
    assert (again.attempts, again.first_attempt_ns) == (2, 50)
    accepted = await books.settle(row.id, "accepted", at_ns=80)
    assert (accepted.state, accepted.settled_ns, accepted.round) == ("accepted", 80, 1)
    assert await books.due(at_ns=10**18, limit=9) == []
    with pytest.raises(Conflict, match="accepted"):
        await books.attempt(row.id, at_ns=90)
    verified = await books.settle(row.id, "verified", at_ns=95)
    assert (verified.settled_ns, verified.verified_ns) == (80, 95)
    assert await books.row_counts() == {"verified": (1, 9)}


async def test_a_row_that_waits_for_a_person_is_carried_into_another_period(books: Books) -> None:
    row = await one_row(books)
    later = Period(60_000, 90_000)
    with pytest.raises(Conflict, match="pending"):
        await books.carry(row.id, later, at_ns=20, note="by hand")
    await books.settle(row.id, "held", at_ns=9)
    carried = await books.carry(row.id, later, at_ns=20, note="by hand")
    assert (carried.value, carried.state, carried.period, carried.note) == (7, "pending", later, "by hand")
    assert (carried.begin, carried.end, carried.minute) == (row.begin, row.end, 1000)
    old = (await books.rows(RowQuery()))[0]
    assert (old.state, old.note) == ("superseded", f"carried into row {carried.id}")
    with pytest.raises(NotFound):
        await books.carry(99, later, at_ns=20, note="")


async def test_what_is_not_there_is_not_attempted(books: Books) -> None:
    with pytest.raises(NotFound):
        await books.attempt(77, at_ns=1)
    with pytest.raises(NotFound):
        await books.settle(77, "accepted", at_ns=1)


async def test_rows_are_found_by_each_question_and_paged(books: Books) -> None:
    made = [await one_row(books, minute) for minute in (200, 201, 202)]
    await books.settle(made[1].id, "held", at_ns=9)
    ids = [row.id for row in made]

    async def asked(**question: object) -> list[int]:
        return [row.id for row in await books.rows(RowQuery(**question))]  # type: ignore[arg-type]  # passed on

    assert await asked(tenant="acme", customer="cus_1", event_name="acme_tokens") == ids
    assert await asked(tenant="other") == await asked(customer="cus_2") == await asked(event_name="x") == []
    assert await asked(states=("held", "sent")) == [ids[1]]
    assert await asked(since=201, until=202) == [ids[1]]
    assert await asked(limit=2) == ids[:2]
    assert await asked(after=ids[1]) == ids[2:]


async def test_before_the_floor_nothing_is_asked_for_again(books: Books) -> None:
    """An old database restored, or a clock set back, must not bill again what was billed and forgotten."""
    await with_account(books)
    row = await one_row(books)
    kept = await one_row(books, 201)
    await books.attempt(row.id, at_ns=1)
    await books.settle(row.id, "verified", at_ns=2)
    assert await books.forget_billed(before=300, at_most=100) == 3, "the verified row and two minutes"
    assert [found.id for found in await books.rows(RowQuery())] == [kept.id]
    await use(books, 250)
    await use(books, 300)
    assert await books.marks(before=10**6) == [("acme", 300)]
    assert await books.mark("acme", begin=0, end=300) == 0
    with pytest.raises(Conflict, match="before minute 300"):
        await books.assign(WINDOW, EVENTS, at_ns=9)
    await books.forget_billed(before=100, at_most=100)
    with pytest.raises(Conflict, match="before minute 300"):
        await books.assign(WINDOW, EVENTS, at_ns=9)


async def test_forgetting_is_bounded_and_goes_on(books: Books) -> None:
    for minute in (200, 201, 202):
        row = await one_row(books, minute)
        await books.settle(row.id, "verified", at_ns=2)
    assert [await books.forget_billed(before=300, at_most=4) for _ in range(3)] == [4, 2, 0]
    assert await books.rows(RowQuery()) == []


async def test_a_parity_is_replaced_until_it_is_final(books: Books) -> None:
    draft = Parity("acme", "cus_1", "tokens", PERIOD, "in_1", 5, 5, 5, 4, 4, None, final=False, at_ns=10)
    final = dataclasses.replace(draft, payee=5, billed=5, final=True, at_ns=20)
    await books.save_parity(draft)
    await books.save_parity(dataclasses.replace(draft, tenant="beta", at_ns=15))
    assert [parity.tenant for parity in await books.parities()] == ["beta", "acme"]
    await books.save_parity(final)
    await books.save_parity(dataclasses.replace(draft, at_ns=30))
    assert await books.parities(tenant="acme") == [final]
    assert [parity.tenant for parity in await books.parities(since_ns=20)] == ["acme"]
    assert len(await books.parities(limit=1)) == 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("use"), st.integers(100, 115), st.integers(0, 9)),
        st.tuples(st.just("assign"), st.integers(100, 115), st.integers(1, 6)),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
async def test_rows_and_what_is_left_are_the_ledger_to_the_unit(
    books: Books, steps: list[tuple[str, int, int]]
) -> None:
    run = f"t{next(_numbers)}"
    used = dict.fromkeys(range(100, 130), 0)
    taken = dict.fromkeys(range(100, 130), 0)
    for what, minute, number in steps:
        if what == "use":
            await use(books, minute, number, tenant=run)
            used[minute] += number
            continue
        window = Window(run, f"cus_{run}", minute, minute + number, PERIOD)
        wanted = sum(used[m] - taken[m] for m in range(window.begin, window.end))
        rows = await books.assign(window, EVENTS, at_ns=1)
        assert [row.value for row in rows] == ([wanted] if wanted else [])
        taken |= {m: used[m] for m in range(window.begin, window.end)}
    rows = await books.rows(RowQuery(tenant=run))
    assert sum(row.value for row in rows) == sum(taken.values())
    assert len({row.minute for row in rows}) == len(rows)
    assert len({row.identifier for row in rows}) == len(rows)
    assert await books.assigned(run, "tokens", begin=0, end=999) == sum(taken.values())
    left = {m: (used[m], taken[m]) for m in used if used[m] != taken[m]}
    assert await books.unassigned_minutes(run, "tokens", begin=0, end=999) == left
