"""Partitions by day, and forgetting: whole days at once, stragglers and sums in bounded batches."""

import time
from collections.abc import Callable
from typing import Any

import asyncpg

from sidecar.core.ports import Position, UsageQuery
from sidecar.core.records import encode_record
from sidecar.storage.postgres import PostgresStore, events
from sidecar.storage.postgres.sums import Statement
from tests.storage.postgres.records import record, records
from tests.storage.postgres.server import Database

DAY = 86_400_000_000
HOUR = 3_600_000_000


async def partitions(superuser: asyncpg.Connection) -> list[str]:
    rows = await superuser.fetch(
        "SELECT relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
        " WHERE inhparent = 'sidecar.entries'::regclass ORDER BY relname"
    )
    return [row[0] for row in rows]


def today_us() -> int:
    return time.time_ns() // 1000 // DAY * DAY


def name(day_us: int) -> str:
    return f"entries_{time.strftime('%Y%m%d', time.gmtime(day_us // 1_000_000))}"


async def add(store: PostgresStore, started_us: int, count: int = 1) -> None:
    batch = [encode_record(record(started_us=started_us + number)) for number in range(count)]
    assert await store.append(batch, Position(1, 16)) == count


async def test_days_get_partitions_ahead_and_as_they_come(store: PostgresStore, superuser: asyncpg.Connection) -> None:
    today = today_us()
    for started in (today, today - 40 * DAY, today - 400 * DAY, today + 90 * DAY):
        await add(store, started)
    expected = [name(today - 40 * DAY), name(today), name(today + DAY)]
    assert await partitions(superuser) == [*expected, "entries_default"]
    assert await superuser.fetchval("SELECT count(*) FROM sidecar.entries_default") == 2
    bound = await superuser.fetch(
        "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relname LIKE 'entries_%' AND relkind = 'r'"
    )
    assert all(row[0] for row in bound)


async def test_a_day_that_is_in_the_default_partition_stays_there(
    store: PostgresStore, superuser: asyncpg.Connection
) -> None:
    """As after a lock that could not be had in time: nothing is refused, nothing is there twice."""
    day = today_us() - 10 * DAY
    await superuser.execute(
        "INSERT INTO sidecar.entries_default SELECT gen_random_uuid(), $1, 1, 1, 1, 1, 1, 1, 1, 200, 0, 'a', 'k', 'p',"
        " 'r', 'GET', 'ok', '{}'",
        day,
    )
    await add(store, day + 5, 3)
    assert name(day) not in await partitions(superuser)
    assert await superuser.fetchval("SELECT count(*) FROM sidecar.entries_default") == 4


async def test_whole_days_go_at_once_and_stragglers_in_bounded_batches(
    store: PostgresStore, superuser: asyncpg.Connection
) -> None:
    """field-bugs 29: BerriAI/litellm#2171, #20720, #16582, #31866."""
    today = today_us()
    for days in (5, 4, 3):
        await add(store, today - days * DAY, 10)
    await add(store, today - 500 * DAY, 25)
    before_us = today - 3 * DAY + 5  # in the middle of a day, which stays whole
    sums = await store.usage_rows(UsageQuery(("day",), 0, today, "acme"))
    assert await store.forget_events(before_us=before_us, at_most=15) == 20
    assert [name(today - 3 * DAY), name(today), name(today + DAY), "entries_default"] == await partitions(superuser)
    assert [await store.forget_events(before_us=before_us, at_most=10) for _ in range(4)] == [10, 10, 5, 0]
    assert await superuser.fetchval("SELECT count(*) FROM sidecar.entries") == 10
    assert await store.usage_rows(UsageQuery(("day",), 0, today, "acme")) == sums


async def test_sums_go_in_bounded_batches_and_hours_answer_for_their_minutes(store: PostgresStore) -> None:
    today = today_us()
    for minute in range(20):
        await add(store, today - DAY + minute * 60_000_000)
    whole = {"since_us": today - DAY, "until_us": today}
    before = await store.usage("acme", **whole)
    asked = {"minutes_before_us": today, "hours_before_us": today - DAY}
    gone = [await store.forget_sums(**asked, at_most=25) for _ in range(5)]
    assert gone == [25, 25, 25, 5, 0], "of each minute a row of calls, one of latency, two of meters"
    assert await store.usage("acme", **whole) == before
    await store.forget_sums(minutes_before_us=0, hours_before_us=today, at_most=100)
    assert (await store.usage("acme", **whole)).totals.requests == 0


async def test_reports_read_sums_by_an_index(store: PostgresStore, database: Database) -> None:
    """No question reads a table from end to end, for one tenant or for all (field-bugs 29)."""
    now = today_us()
    for day in range(3):
        batch = [
            r for tenant in range(200) for hour in range(12)
            for r in records(1, tenant=f"t{tenant:03}", started_us=now - day * DAY + hour * HOUR)
        ]  # fmt: skip
        await store.append(batch, Position(1, day))
    owner = await asyncpg.connect(database.superuser_url)
    await owner.execute("ANALYZE")
    since, until = now - DAY + 60_000_000, now - DAY + 3 * HOUR
    for role, tenant in (("sidecar_reader", "t007"), ("sidecar_operator", None)):
        query = UsageQuery(("route", "hour"), since, until, tenant)
        tenants = ("t007", "t007") if tenant else ("", None)
        asks: list[Callable[[Statement], str]] = [
            lambda statement: statement.calls(None, 100),
            lambda statement: statement.details("meters", ("r", 0), ("s", 1 << 40)),
            lambda statement: statement.details("latency", ("r", 0), ("s", 1 << 40)),
            lambda statement: statement.meter_total("requests"),
        ]
        statements: list[tuple[str, list[Any]]] = []
        for ask in asks:
            statement = Statement(query, tenants)
            statements.append((ask(statement), statement.values))
        if tenant:
            statements.append((events.PAGE, [tenant, since, until, since, events._LAST_ID, 100]))
        for sql, values in statements:
            async with owner.transaction():
                await owner.execute(f"SET LOCAL ROLE {role}")
                await owner.execute("SELECT set_config('sidecar.tenant', 't007', true)")
                plan = "\n".join(row[0] for row in await owner.fetch(f"EXPLAIN {sql}", *values))
            assert "Seq Scan" not in plan, plan
            assert "Index" in plan
    await owner.close()
