"""What every Ledger's usage lists must do: the sums that a loop over the records gives, page by page."""

import dataclasses
import itertools
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.core.latency import MAX_US, bucket_index
from sidecar.core.ports import PARTS, TIMES, Ledger, Position, UsageQuery, UsageRow, UsageTotals
from sidecar.core.records import UsageRecord, encode_record

MINUTE = 60_000_000
SPAN = 40 * 1440  # minutes, with the beginning of a month in them
_numbers = itertools.count(1)
_runs = itertools.count(1)
GOOD = UsageRecord("", 0, "acme", "k1", "pro", False, "search", "GET", 200, "ok", 5, 15, 1, 2, 30, 20, 10)


def event_id() -> str:
    return f"0193a5f0-0000-7000-8000-{next(_numbers):012x}"


def part_of(record: UsageRecord, part: str) -> str | int:
    minute = record.ended_us // MINUTE
    begin = datetime.fromtimestamp(minute * 60, UTC)
    times = {
        "minute": begin,
        "hour": begin.replace(minute=0),
        "day": begin.replace(minute=0, hour=0),
        "month": begin.replace(minute=0, hour=0, day=1),
    }
    if part in times:
        return int(times[part].timestamp()) // 60
    if part == "status":
        return f"{record.status // 100}xx" if record.status else "none"
    return {
        "tenant": record.tenant,
        "plan": record.plan,
        "key": record.key_id,
        "route": record.route,
        "sandbox": int(record.sandbox),
    }[part]


def row(group: tuple[str | int, ...], records: list[UsageRecord]) -> UsageRow:
    names = ("units", "cost", "bytes_in", "bytes_out", "total_us", "upstream_us")
    totals = UsageTotals(len(records), *(sum(getattr(record, name) for record in records) for name in names))
    meters: dict[str, int] = {}
    for record in records:
        for meter, value in record.meters.items():
            meters[meter] = meters.get(meter, 0) + value
    latency = Counter(bucket_index(min(r.total_us, MAX_US)) for r in records if r.outcome != "indeterminate")
    return UsageRow(group, totals, sum(r.outcome == "indeterminate" for r in records), meters, dict(latency))


def expected(records: list[UsageRecord], query: UsageQuery) -> list[UsageRow]:
    groups: dict[tuple[str | int, ...], list[UsageRecord]] = {}
    for record in records:
        wanted = (
            query.since_us <= record.ended_us < query.until_us
            and query.tenant in (None, record.tenant)
            and query.plan in (None, record.plan)
            and query.key in (None, record.key_id)
            and query.route in (None, record.route)
            and query.sandbox in (None, record.sandbox)
        )
        if wanted:
            groups.setdefault(tuple(part_of(record, part) for part in query.by), []).append(record)
    return [row(group, groups[group]) for group in sorted(groups)]


async def pages(ledger: Ledger, query: UsageQuery) -> list[UsageRow]:
    found: list[UsageRow] = []
    while page := await ledger.usage_rows(query):
        assert len(page) <= query.limit
        found += page
        query = dataclasses.replace(query, after=page[-1].group)
    return found


small = st.integers(0, 2**40)
minutes = st.one_of(st.integers(0, 200), st.integers(0, SPAN - 1))  # some within hours, some weeks apart
usage_records = st.builds(
    UsageRecord,
    event_id=st.just(""),
    started_us=st.builds(lambda minute, us: minute * MINUTE + us, minutes, st.integers(0, MINUTE - 1)),
    tenant=st.sampled_from(["acme", "Acme", "acme-1", "é"]),
    key_id=st.sampled_from(["k1", "k2", "k"]),
    plan=st.sampled_from(["pro", "free", ""]),
    sandbox=st.booleans(),
    route=st.sampled_from(["search", "chat", 'a"b\\c é']),
    method=st.just("GET"),
    status=st.sampled_from([0, 200, 204, 404, 500]),
    outcome=st.sampled_from(["ok", "client_gone", "indeterminate"]),
    units=small,
    cost=small,
    bytes_in=small,
    bytes_out=small,
    total_us=st.one_of(small, st.integers(0, 2000)),
    upstream_us=small,
    first_byte_us=small,
    meters=st.dictionaries(st.sampled_from(["requests", "tokens", "tokens?"]), small),
)
groupings = st.tuples(st.sets(st.sampled_from(PARTS), max_size=4), st.sampled_from((*TIMES, None))).flatmap(
    lambda chosen: st.permutations([*sorted(chosen[0]), *([chosen[1]] if chosen[1] else [])])
)
windows = st.tuples(minutes, minutes).map(lambda pair: (min(pair), max(pair) + 1))


def one_of_or_none(*values: object) -> st.SearchStrategy[object]:
    return st.one_of(st.none(), st.sampled_from(values))


queries = st.builds(
    lambda by, window, tenant, plan, key, route, sandbox, limit: UsageQuery(
        tuple(by), *(edge * MINUTE for edge in window), tenant, plan, key, route, sandbox, None, limit
    ),
    by=groupings,
    window=windows,
    tenant=one_of_or_none("acme", "é"),
    plan=one_of_or_none("pro", ""),
    key=one_of_or_none("k1"),
    route=one_of_or_none("search"),
    sandbox=one_of_or_none(True, False),
    limit=st.integers(1, 4),
)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(usage_records, max_size=25), asked=st.lists(queries, min_size=1, max_size=6))
async def test_rows_are_what_a_loop_over_the_records_gives(
    ledger: Ledger, drawn: list[UsageRecord], asked: list[UsageQuery]
) -> None:
    """Any grouping, window and filter; all pages together are the one large page. Each run has a time of its own."""
    begin = next(_runs) * SPAN * MINUTE
    records = [dataclasses.replace(r, event_id=event_id(), started_us=r.started_us + begin) for r in drawn]
    await ledger.append([encode_record(record) for record in records], Position(1, 16))
    for query in asked:
        placed = dataclasses.replace(query, since_us=query.since_us + begin, until_us=query.until_us + begin)
        wanted = expected(records, placed)
        assert await ledger.usage_rows(dataclasses.replace(placed, limit=1000)) == wanted
        assert await pages(ledger, placed) == wanted


async def add(ledger: Ledger, **changes: object) -> UsageRecord:
    record = dataclasses.replace(GOOD, event_id=event_id(), **changes)
    await ledger.append([encode_record(record)], Position(1, 16))
    return record


async def test_no_usage_is_no_row(ledger: Ledger) -> None:
    await add(ledger, started_us=100 * MINUTE)
    for by in ((), ("tenant",), ("day",)):
        assert await ledger.usage_rows(UsageQuery(by, 0, 100 * MINUTE)) == []
        assert await ledger.usage_rows(UsageQuery(by, 101 * MINUTE, 100 * MINUTE)) == []


async def test_nothing_to_group_by_is_one_row_and_one_page(ledger: Ledger) -> None:
    records = [await add(ledger, started_us=number * MINUTE) for number in range(200)]
    query = UsageQuery((), 30 * MINUTE, 170 * MINUTE)
    assert await ledger.usage_rows(query) == [row((), records[30:170])]
    assert await ledger.usage_rows(dataclasses.replace(query, after=())) == []


async def test_a_month_begins_in_utc_and_has_its_own_length(ledger: Ledger) -> None:
    """2024 is a leap year: 29 February, 23:59, and the minute after it are of different months."""
    march = int(datetime(2024, 3, 1, tzinfo=UTC).timestamp()) // 60
    for minute in (march - 1, march, march + 31 * 1440 - 1, march + 31 * 1440):
        await add(ledger, started_us=minute * MINUTE)
    rows = await ledger.usage_rows(UsageQuery(("month",), 0, (march + 366 * 1440) * MINUTE))
    assert [(found.group, found.totals.requests) for found in rows] == [
        ((march - 29 * 1440,), 1),
        ((march,), 2),
        ((march + 31 * 1440,), 1),
    ]


async def test_tenants_come_in_pages_however_many_there_are(ledger: Ledger) -> None:
    """A usage list over a million rows is one paged query (field-bugs 29: BerriAI/litellm#2171, #20720).

    Most tenants have used nothing in the window; a page is full all the same.
    """
    names = ["t" + "a" * number for number in range(450)]  # each the beginning of the next
    made = [
        dataclasses.replace(GOOD, event_id=event_id(), tenant=name, started_us=(5 if number % 7 else 500) * MINUTE)
        for number, name in enumerate(names)
    ]
    await ledger.append([encode_record(record) for record in made], Position(1, 16))
    query = UsageQuery(("tenant",), 400 * MINUTE, 600 * MINUTE, limit=20)
    assert len(await ledger.usage_rows(query)) == 20
    assert [found.group for found in await pages(ledger, query)] == [(name,) for name in names[::7]]


@pytest.mark.parametrize(
    "query",
    [
        UsageQuery(("tenant", "tenant"), 0, MINUTE),
        UsageQuery(("day", "hour"), 0, MINUTE),
        UsageQuery(("cost; --",), 0, MINUTE),
        UsageQuery(("tenant",), 0, MINUTE, after=("a", "b")),
        UsageQuery(("tenant",), 0, MINUTE, limit=0),
    ],
)
async def test_what_is_no_query_is_refused(ledger: Ledger, query: UsageQuery) -> None:
    with pytest.raises(ValueError):
        await ledger.usage_rows(query)


HOSTILE = ["'; DROP TABLE tenants; --", '" OR 1=1', "%", "a\nb", "NULL", "🦝"]


@pytest.mark.parametrize("text", HOSTILE)
async def test_texts_are_values_and_never_a_part_of_the_question(ledger: Ledger, text: str) -> None:
    hostile = await add(ledger, tenant=text, key_id=text, plan=text, route=text, started_us=7 * MINUTE)
    await add(ledger, started_us=7 * MINUTE)
    by = ("tenant", "plan", "key", "route", "minute")
    query = UsageQuery(by, 0, 60 * MINUTE, text, text, text, text)
    wanted = row((text, text, text, text, 7), [hostile])
    assert await ledger.usage_rows(query) == [wanted]
    assert await ledger.usage_rows(dataclasses.replace(query, after=wanted.group)) == []


async def forget(ledger: Ledger, *, at_most: int, **edges: int) -> None:
    """Until nothing is left, no more than ``at_most`` rows at a time."""
    gone = [1]
    while gone[-1]:
        assert gone[-1] <= at_most
        gone.append(await ledger.forget_sums(**edges, at_most=at_most))
    assert sum(gone) > at_most, "several batches"


async def test_whole_hours_answer_when_their_minutes_are_forgotten(ledger: Ledger) -> None:
    """Retention deletes in bounded batches (field-bugs 29: BerriAI/litellm#16582, #31866)."""
    made = [
        dataclasses.replace(
            GOOD,
            event_id=event_id(),
            started_us=number * MINUTE,
            tenant=("acme", "beta")[number % 2],
            meters={"requests": 1},
            total_us=number,
        )
        for number in range(240)
    ]
    await ledger.append([encode_record(record) for record in made], Position(1, 16))
    by_hour = UsageQuery(("tenant", "hour"), 0, 240 * MINUTE)
    before, report = await ledger.usage_rows(by_hour), await ledger.usage("acme", since_us=0, until_us=240 * MINUTE)
    await forget(ledger, at_most=100, minutes_before_us=180 * MINUTE, hours_before_us=0)
    assert await ledger.usage_rows(by_hour) == before == expected(made, by_hour)
    assert await ledger.usage("acme", since_us=0, until_us=240 * MINUTE) == report
    asked = {"since_us": 0, "until_us": 200 * MINUTE, "sandbox": False}
    assert await ledger.meter_total("beta", "requests", **asked) == 100
    by_minute = UsageQuery(("tenant", "minute"), 0, 240 * MINUTE)
    assert await ledger.usage_rows(by_minute) == expected(made[180:], by_minute), "of minutes, what is left"
    edge = UsageQuery(("hour",), 180 * MINUTE, 239 * MINUTE)
    assert await ledger.usage_rows(edge) == expected(made, edge)


async def test_hours_are_forgotten_too_and_what_is_younger_stays(ledger: Ledger) -> None:
    """field-bugs 29: BerriAI/litellm#16582, #31866."""
    made = [dataclasses.replace(GOOD, event_id=event_id(), started_us=number * 60 * MINUTE) for number in range(10)]
    await ledger.append([encode_record(record) for record in made], Position(1, 16))
    await forget(ledger, at_most=8, minutes_before_us=300 * MINUTE, hours_before_us=300 * MINUTE)
    query = UsageQuery(("hour",), 0, 600 * MINUTE)
    assert await ledger.usage_rows(query) == expected(made[5:], query)
    assert await ledger.append([encode_record(made[0])], Position(2, 16)) == 0, "the events are still known"
