"""How SQLite reads: ranges, never a whole table (field-bugs 29: BerriAI/litellm#2171, #20720, #16582, #31866)."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.accounts import Account, Arrival, Notice
from sidecar.core.billing import Parity, Period, Window
from sidecar.core.credits import Book, Grant, Share
from sidecar.core.crossings import Crossing
from sidecar.core.ports import PARTS, TIMES, Position, UsageQuery
from sidecar.core.records import UsageRecord, encode_record
from sidecar.storage import SqliteStore
from sidecar.storage.sqlite import TABLES, events, retention, schema, sums, tables

MINUTE = 60_000_000
PERIOD = Period(0, 60_000)
RECORD = UsageRecord(
    "", 0, "acme", "k1", "pro", False, "search", "GET", 200, "ok", 1, 2, 3, 4, 5, 6, 7, {"requests": 1}
)


@pytest.fixture(scope="module")
def connection() -> Iterator[apsw.Connection]:
    made = apsw.Connection(":memory:")
    for _, sql in schema.migrations():
        made.execute(sql)
    yield made
    made.close()


def bound(sql: str) -> dict[str, int] | tuple[int, ...]:
    return dict.fromkeys(re.findall(r":([a-z_0-9]+)", sql), 1) if ":" in sql else (1,) * sql.count("?")


def plan(connection: apsw.Connection, sql: str) -> list[str]:
    """The steps of the query plan, without those that read what other steps made."""
    steps = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + sql, bound(sql))]
    made_here = re.compile(r"SCAN (names|meter|grouped|\(subquery-\d+\)|.* VIRTUAL TABLE .*)$")
    return [step for step in steps if re.match("SCAN|SEARCH", step) and not made_here.match(step)]


def all_search(steps: list[str]) -> bool:
    return bool(steps) and all(step.startswith("SEARCH") for step in steps)


groupings = st.tuples(st.sets(st.sampled_from(PARTS)), st.sampled_from((*TIMES, None))).map(
    lambda chosen: (*sorted(chosen[0]), *([chosen[1]] if chosen[1] else []))
)


@given(by=groupings, paged=st.booleans())
def test_reports_search_ranges_of_the_sums_and_no_event(
    connection: apsw.Connection, by: tuple[str, ...], paged: bool
) -> None:
    """A usage list over a million rows is one paged query: BerriAI/litellm#2171, #20720."""
    statements = [
        sums.calls_sql(by, paged=paged and bool(by)),
        *(sums.details_sql(w, by) for w in ("meters", "latency")),
    ]
    for sql in statements:
        steps = plan(connection, sql)
        assert all_search(steps)
        assert not any("entries" in step for step in steps)
        finest = [step for step in steps if "minute>? AND minute<?" in step]
        assert len(finest) == (1 if "minute" in by else 2)
        assert len([s for s in steps if "hour>? AND hour<?" in s]) == (
            0 if "minute" in by else 1 if "hour" in by else 2
        )


STATEMENTS: dict[str, Callable[[], str]] = {
    "events of a tenant": lambda: events.PAGE,
    "tenants with events": lambda: events.NEXT_TENANT,
    "old events behind younger ones": lambda: retention.REST,
    "a key by its id": lambda: "SELECT * FROM api_keys WHERE id = 'k'",
    "keys of a tenant": lambda: "SELECT * FROM api_keys WHERE tenant = 't' AND id > '' ORDER BY id LIMIT 9",
    **{
        f"old {what} per {period}": lambda what=what, period=period: retention.sums_sql(what, period)
        for what in ("calls", "meters", "latency")
        for period in ("minute", "hour", "day")
    },
    **{f"copying {name}": lambda name=name: tables.copy_sql(name, resumed=True) for name in TABLES},
}


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_nothing_else_scans_a_table(connection: apsw.Connection, statement: Callable[[], str]) -> None:
    assert all_search(plan(connection, statement()))
    sorts = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement(), bound(statement()))]
    assert not any("TEMP B-TREE" in step for step in sorts)


def test_the_oldest_events_are_the_first_rows_and_no_more_are_looked_at(connection: apsw.Connection) -> None:
    """BerriAI/litellm#16582, #31866: the inner SCAN ends at its LIMIT, in the order of the rows."""
    rows = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + retention.FRONT, {"at_most": 1, "before": 1})]
    assert rows[0] == "SEARCH entries USING INTEGER PRIMARY KEY (rowid=?)"
    assert [row for row in rows if row.startswith("SCAN")] == ["SCAN entries"]
    assert not any("TEMP B-TREE" in row for row in rows)


def fill(connection: apsw.Connection) -> None:
    keys = [
        (f"t{tenant:02}", day, "pro", f"k{key}", f"r{route}", status, 0)
        for tenant in range(20)
        for day in range(20000, 20030)
        for key in range(5)
        for route in range(3)
        for status in (2, 4)
    ]
    with connection:
        connection.executemany(
            f"INSERT INTO calls_by_day VALUES ({','.join('?' * 15)})", ((*k, *[5555] * 7, 0) for k in keys)
        )
        connection.executemany(
            f"INSERT INTO meters_by_day VALUES ({','.join('?' * 9)})", ((*k, "requests", 5555) for k in keys)
        )
        sql = f"INSERT INTO latency_by_day VALUES ({','.join('?' * 9)})"
        connection.executemany(sql, ((*k, bucket, 463) for k in keys for bucket in range(40, 52)))


async def test_a_month_of_one_tenant_reads_some_thousand_rows_of_a_hundred_million_events(tmp_path: Path) -> None:
    """As many sums as 100 million events over 30 days leave (20 tenants, 5 keys, 3 routes, 2 classes). SQLite's own
    counter of virtual machine steps stands for time: reading the hours would take twenty times as many."""
    SqliteStore.open(tmp_path / "a.db").close()
    connection = apsw.Connection(str(tmp_path / "a.db"))
    fill(connection)
    connection.close()
    store = SqliteStore.open(tmp_path / "a.db")
    steps: list[int] = []

    def watch(connection: apsw.Connection) -> None:
        connection.set_progress_handler(lambda: steps.append(1000) is not None, 1000)

    await store._reports.run(watch)
    report = await store.usage("t03", since_us=20000 * 1440 * MINUTE, until_us=20030 * 1440 * MINUTE)
    assert report.totals.requests == 30 * 30 * 5555
    assert sum(report.latency.values()) == 30 * 30 * 12 * 463
    assert sum(steps) < 600_000
    steps.clear()
    month = UsageQuery(("key", "route", "status"), 20000 * 1440 * MINUTE, 20030 * 1440 * MINUTE, "t03")
    rows = await store.usage_rows(month)
    assert [row.totals.requests for row in rows] == [30 * 5555] * 30
    assert sum(steps) < 1_200_000
    store.close()


async def test_a_copy_goes_on_where_it_was(tmp_path: Path) -> None:
    """Every row of every table once, in the order of the key, whatever the size of a page."""
    store = SqliteStore.open(tmp_path / "a.db")
    made = [
        dataclasses.replace(
            RECORD, event_id=f"0193a5f0-0000-7000-8000-{n:012x}", tenant=f"t{n % 7}", started_us=n * MINUTE
        )
        for n in range(50)
    ]
    for n in range(7):
        told = [Notice(str(n), channel, "access.grace", f"t{n}", {}, 1) for channel in ("email", "webhook")]
        await store.save_account(Account(f"t{n}", "cus_1"), actor="me", at_ns=1, notices=told)
    await store.append([*map(encode_record, made), b"no record"], Position(1, 16))
    for n in range(9):
        await store.claim(str(n), "t1", at_ns=1)
        await store.receive(Arrival(str(n), "invoice.paid", "in_1", "{}", 1))
        await store.save_parity(Parity("t1", "cus_1", "m", PERIOD, str(n), 1, 1, 1, 1, 1, 1, False, 1))
        await store.assign(Window(f"t{n % 7}", "cus_1", n, n + 1, PERIOD), {"requests": "requests"}, at_ns=1)
        free = ((n + 21) * MINUTE, (n + 22) * MINUTE)
        excusing = Window(f"t{n % 7}", "cus_1", n + 21, n + 22, PERIOD, free=(free,))
        await store.assign(excusing, {"requests": "requests"}, at_ns=1)
        await store.move_cursor(f"events{n}", n)
        await store.add_grant(Grant(f"t{n % 7}", str(n), 5, "USD", 1), actor="me")
        share = Share(str(n), 0, 1, 5, 0, 5, 5, "USD")
        await store.settle_credits(Book(f"t{n}", 1), {}, if_until=None, shares=[share])
        await store.cross(Crossing(f"t{n}", "monthly", 0, 60, 80, 10, 8, 1), [])
    for name, table in TABLES.items():
        whole = await store.copy_rows(name, (), 1000)
        places = [table.columns.index(column) for column in table.key]
        copied: list[tuple[object, ...]] = []
        while part := await store.copy_rows(name, tuple(copied[-1][place] for place in places) if copied else (), 7):
            copied += part
        assert copied == whole
        assert whole or name in ("tenants", "api_keys")
    with pytest.raises(KeyError):
        await store.copy_rows("sqlite_schema", (), 1)
    store.close()
