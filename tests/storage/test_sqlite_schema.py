"""The schema: equal to its migrations, written down in full, and reached by old files with nothing lost."""

import dataclasses
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credits import Share
from sidecar.core.errors import StoreError
from sidecar.core.latency import MAX_US, bucket_index
from sidecar.core.ports import Position
from sidecar.core.records import UsageRecord, encode_record
from sidecar.core.values import Tenant
from sidecar.storage import SqliteStore
from sidecar.storage.sqlite import TABLES, schema

MINUTE = 60_000_000
FOLDER = Path(schema.__file__).parent
WRITTEN = FOLDER / "schema.sql"


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with sqlite3.connect(path, isolation_level=None) as connection:
        yield connection
    connection.close()


def described(path: Path) -> str:
    with opened(path) as connection:
        rows = connection.execute(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY tbl_name, type DESC, name"
        )
        return "\n\n".join(f"{sql};" for (sql,) in rows if "sqlite_sequence" not in sql) + "\n"


def test_the_schema_equals_the_migrations(tmp_path: Path) -> None:
    """After a new migration: make a file with ``SqliteStore.open``, write ``described`` of it behind the first comment
    of schema.sql, and read the difference."""
    SqliteStore.open(tmp_path / "a.db").close()
    with opened(tmp_path / "b.db") as connection:
        for _, sql in schema.migrations():
            connection.executescript(sql)
    comment, _, written = WRITTEN.read_text().partition("\n\n")
    assert comment.startswith("--")
    assert described(tmp_path / "a.db") == described(tmp_path / "b.db") == written
    assert [number for number, _ in schema.migrations()] == list(range(1, len(schema.migrations()) + 1))


def test_what_is_copied_to_another_store_is_every_column_of_every_table(tmp_path: Path) -> None:
    """``journal_positions`` is no one else's: the position of a journal counts in the ledger that it was shipped to.
    ``moves`` is about the file itself, ``leads`` about nodes that run."""
    SqliteStore.open(tmp_path / "a.db").close()
    with opened(tmp_path / "a.db") as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert set(TABLES) == names - {"sqlite_sequence", "journal_positions", "moves", "leads"}
        for name, table in TABLES.items():
            found = connection.execute(f"SELECT name, pk FROM pragma_table_info('{name}')").fetchall()
            assert table.columns == tuple(column for column, _ in found)
            key = sorted((place, column) for column, place in found if place)
            assert table.key == tuple(column for _, column in key)


def records(count: int, seed: int) -> list[UsageRecord]:
    """They end in the minute in which they began: old sums count calls where they began."""
    draw = random.Random(seed)
    return [
        UsageRecord(
            event_id=f"0193a5f0-0000-7000-8000-{number:012x}",
            started_us=draw.randrange(draw.choice([3, 4000])) * MINUTE,
            tenant=draw.choice(["acme", "beta", "policy-only"]),
            key_id=draw.choice(["k1", "k2"]),
            plan=draw.choice(["pro", "free"]),
            sandbox=draw.random() < 0.2,
            route=draw.choice(["search", "chat"]),
            method="GET",
            status=draw.choice([0, 200, 404]),
            outcome=draw.choice(["ok", "indeterminate"]),
            units=draw.randrange(9),
            cost=draw.randrange(2**48),
            bytes_in=draw.randrange(1000),
            bytes_out=draw.randrange(1000),
            total_us=draw.choice([0, 5, 900, 10**7, 5 * 10**7]),
            upstream_us=draw.randrange(1000),
            first_byte_us=draw.randrange(1000),
            meters=draw.choice([{}, {"requests": 1}, {"requests": 1, "tokens": 0}, {"tokens": 7}]),
        )
        for number in range(count)
    ]


def old_file(path: Path, kept: list[UsageRecord], tenants: dict[str, str], gone: int = 0) -> None:
    """A file as the first migration's code left it; the events of the first ``gone`` records were deleted since."""
    with opened(path) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.executescript(dict(schema.migrations())[1])
        connection.execute("BEGIN")
        for name, plan in tenants.items():
            connection.execute("INSERT INTO tenants VALUES (?, ?, 'active', NULL, 0)", (name, plan))
        for seq, record in enumerate(kept, 1):
            where = (record.key_id, record.route, record.status // 100, record.sandbox)
            at = (record.tenant, record.started_us // MINUTE)
            sums = (record.units, record.cost, record.bytes_in, record.bytes_out, record.total_us, record.upstream_us)
            connection.execute(
                f"INSERT INTO rollups VALUES ({','.join('?' * 14)}) ON CONFLICT DO UPDATE SET requests = requests + 1,"
                " units = units + excluded.units, cost = cost + excluded.cost, bytes_in = bytes_in + excluded.bytes_in,"
                " bytes_out = bytes_out + excluded.bytes_out, total_us = total_us + excluded.total_us, upstream_us ="
                " upstream_us + excluded.upstream_us, indeterminate = indeterminate + excluded.indeterminate",
                (*at, *where, 1, *sums, record.outcome == "indeterminate"),
            )
            for meter, value in record.meters.items():
                connection.execute(
                    f"INSERT INTO meter_rollups VALUES ({','.join('?' * 8)})"
                    " ON CONFLICT DO UPDATE SET value = value + excluded.value",
                    (record.tenant, meter, record.started_us // MINUTE, *where, value),
                )
            if seq > gone:
                values = dataclasses.astuple(record)
                event_id, meters = bytes.fromhex(record.event_id.replace("-", "")), encode_meters(record.meters)
                row = (seq, event_id, *values[1:-1], meters)
                connection.execute(f"INSERT INTO entries VALUES ({','.join('?' * 19)})", row)
        connection.execute("COMMIT")
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")


def encode_meters(meters: dict[str, int]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in meters.items()) + "}"


def sums(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with opened(path) as connection:
        return {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY {', '.join(table.key)}").fetchall()
            for name, table in TABLES.items()
            if "_by_" in name
        }


PLANS = {"acme": "pro", "beta": "free"}


async def test_an_old_file_becomes_what_a_new_one_would_be(tmp_path: Path) -> None:
    """While the events are there, each has its plan and its latency, whatever the plan of the tenant is now."""
    made = records(1500, seed=1)
    old_file(tmp_path / "old.db", made, PLANS)
    SqliteStore.open(tmp_path / "old.db").close()
    new = SqliteStore.open(tmp_path / "new.db")
    await new.append([encode_record(record) for record in made], Position())
    new.close()
    assert described(tmp_path / "old.db") == described(tmp_path / "new.db")
    assert sums(tmp_path / "old.db") == sums(tmp_path / "new.db")


async def test_old_sums_without_events_count_for_the_tenants_plan_or_for_none(tmp_path: Path) -> None:
    made = records(1500, seed=2)
    old_file(tmp_path / "old.db", made, PLANS, gone=700)
    SqliteStore.open(tmp_path / "old.db").close()
    new = SqliteStore.open(tmp_path / "new.db")
    guessed = [dataclasses.replace(record, plan=PLANS.get(record.tenant, "")) for record in made[:700]]
    await new.append([encode_record(record) for record in guessed + made[700:]], Position())
    new.close()
    found, wanted = sums(tmp_path / "old.db"), sums(tmp_path / "new.db")
    for name in ("calls_by_minute", "calls_by_hour", "calls_by_day"):
        assert found[name] == wanted[name]
    for name in ("meters_by_minute", "meters_by_hour", "meters_by_day"):  # whose zero it was is not known either
        assert [row for row in found[name] if row[-1]] == [row for row in wanted[name] if row[-1]]
    for name in ("latency_by_minute", "latency_by_hour", "latency_by_day"):
        known = sum(record.outcome != "indeterminate" for record in made[700:])
        assert sum(row[-1] for row in found[name]) == known, "that of what is gone, or has no end, is not known"


async def test_an_old_files_tenants_keys_and_position_stay(tmp_path: Path) -> None:
    old_file(tmp_path / "a.db", [], PLANS)
    with opened(tmp_path / "a.db") as connection:
        connection.execute("UPDATE journal_positions SET segment = 7, byte = 99")
    store = SqliteStore.open(tmp_path / "a.db")
    assert await store.tenant("acme") == Tenant("acme", "pro")
    assert await store.position() == Position(7, 99)
    store.close()


async def test_an_old_files_burned_credits_are_written_down_as_paid_for(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with opened(path) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        for number, sql in schema.migrations():
            if number < 8:
                connection.executescript(sql)
        grants = "INSERT INTO credit_grants VALUES ('acme', ?, 50, 'USD', ?, 100, NULL, NULL, '', ?)"
        connection.executemany(grants, [("pi_1", 120_000_000_000, 30), ("pi_2", 120_000_000_000, 0)])
        connection.execute("INSERT INTO credit_books VALUES ('acme', 90, 0)")
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 7")
    store = SqliteStore.open(path)
    history = await store.credit_history("acme", begin=0, end=100)
    assert history.shares == [Share("pi_1", 2, 90, 30, 0, 30, 30, "USD")]
    assert [(grant.source, grant.paid) for grant in history.grants] == [("pi_1", 50), ("pi_2", 50)]
    store.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    old_file(path, records(20, seed=3), PLANS)
    with opened(path) as connection:
        connection.execute("CREATE TABLE calls_by_hour (in_the_way)")
    before = described(path)
    with pytest.raises(StoreError, match="calls_by_hour already exists"):
        SqliteStore.open(path)
    assert described(path) == before
    with opened(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


EDGES = sorted({max(0, (1 << power) + step) for power in range(49) for step in (-1, 0, 1)})


@pytest.mark.parametrize("file", ["queries/group_batch.sql", "migrations/0002_sums.sql"])
@given(drawn=st.integers(0, 2**48))
def test_sql_puts_a_time_into_the_bucket_of_core_latency(file: str, drawn: int) -> None:
    text = (FOLDER / file).read_text()
    case = text[text.index("    CASE\n") : text.index("    END")] + "END"
    connection = apsw.Connection(":memory:")
    for us in (*EDGES, drawn):
        assert connection.execute(f"SELECT {case} FROM (SELECT ? AS total_us)", (us,)).get == bucket_index(
            min(us, MAX_US)
        )
    connection.close()


def test_the_wal_reset_bug_cannot_happen(tmp_path: Path) -> None:
    """One connection writes, the others cannot; and the library is one with the bug fixed (3.51.3)."""
    assert tuple(map(int, apsw.sqlite_lib_version().split("."))) >= (3, 51, 3)
    store = SqliteStore.open(tmp_path / "a.db")
    writable = [thread for thread in store._threads if not thread.call(lambda c: c.readonly("main"))]
    assert writable == [store._writer]
    store.close()


@pytest.mark.parametrize("readonly", [False, True])
def test_an_older_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readonly: bool) -> None:
    SqliteStore.open(tmp_path / "a.db").close()
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(StoreError, match=r"3\.51\.2 may lose committed data; install apsw with SQLite 3\.51\.3"):
        SqliteStore.open(tmp_path / "a.db", readonly=readonly)
