"""An installation moved from SQLite to a real PostgreSQL: the same answers, however often it was interrupted."""

import json
import os
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from sidecar.core.accounts import Account, Arrival, Notice
from sidecar.core.billing import Parity, Period, RowQuery, Window
from sidecar.core.credits import Book, Grant
from sidecar.core.crossings import Crossing
from sidecar.core.errors import Conflict, StoreError
from sidecar.core.ports import Position, UsageQuery
from sidecar.core.records import UsageRecord, encode_record
from sidecar.core.values import AccessState, ApiKey, Tenant
from sidecar.storage import PostgresStore, SqliteStore, move
from sidecar.storage.moving import DERIVED, MOVED
from sidecar.storage.postgres import MoveTarget
from sidecar.storage.sqlite import TABLES
from tests.storage.postgres.server import Database, Server, shared_server

MINUTE = 60_000_000
DAY = 1440 * MINUTE
FIRST = 20_000 * DAY
SPAN = {"since_us": FIRST, "until_us": FIRST + 5 * DAY}
GROUPS = [(), ("tenant",), ("minute",), ("hour", "route"), ("tenant", "day"), ("month",), ("status", "sandbox", "key")]
GROUPS += [("plan", "route", "hour"), ("tenant", "plan", "key", "route", "status", "sandbox")]
TENANTS = ["acme", 'beta, "Inc"', "nul\x00\x01", "grün", "policy-only"]
NODE = "node-1"
PERIOD = Period(FIRST // 10**6, FIRST // 10**6 + 3 * 86_400)
MINUTES = {"begin": FIRST // MINUTE, "end": FIRST // MINUTE + 3 * 1440}
EVENTS = {"tokens": "tokens", "slash\\ nul\x00": "slashes"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with shared_server() as running:
        yield running


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    made = server.migrated()
    yield made
    server.drop(made)


@pytest.fixture
async def superuser(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.superuser_url)
    yield connection
    await connection.close()


def record(draw: random.Random) -> UsageRecord:
    meters = {"requests": 1, "tokens": draw.randrange(9), "slash\\ nul\x00": 2, "cost?": 1}
    kept = draw.sample(sorted(meters), draw.randrange(len(meters) + 1))
    return UsageRecord(
        event_id=str(UUID(int=draw.getrandbits(128))),
        started_us=FIRST + draw.randrange(draw.choice([MINUTE, 3 * DAY])),
        tenant=draw.choice(TENANTS),
        key_id=draw.choice(["k1", "k2"]),
        plan=draw.choice(["pro", "free"]),
        sandbox=draw.random() < 0.2,
        route=draw.choice(["search", "chat"]),
        method="GET",
        status=draw.choice([0, 200, 204, 404, 503]),
        outcome=draw.choice(["ok", "indeterminate"]),
        units=draw.randrange(9),
        cost=draw.choice([0, 2**48]),
        bytes_in=draw.randrange(9),
        bytes_out=draw.randrange(9),
        total_us=draw.randrange(10**9),
        upstream_us=draw.randrange(9),
        first_byte_us=draw.randrange(9),
        meters={name: meters[name] for name in kept},
    )


async def fill(path: Path, seed: int, events: int = 150) -> None:
    """Some tenants and keys, calls of which old ones are forgotten, malformed records, a position in the journal."""
    draw = random.Random(seed)
    store = SqliteStore.open(path)
    try:
        for number, name in enumerate(TENANTS[:-1]):
            await store.add_tenant(Tenant(name, "pro", stripe_customer=draw.choice([None, "cus_1"])), actor="me")
            for count in range(3):
                scopes = draw.choice([None, (), ("read", "nul\x00")])
                expires_ns = draw.choice([None, 2**60])
                key = f"k{number}{count}" if number else f"k{count}"
                await store.add_key(
                    ApiKey(
                        key, name, f"key {count}", count == 2, bytes([number, count]) * 16, "p1", scopes,
                        1, expires_ns, None, None,
                    ),
                    actor="me",
                )  # fmt: skip
        await store.set_tenant("acme", plan="free", state=AccessState.GRACE, actor="me", at_ns=5)
        await store.end_key("k1", at_ns=2**50, revoked=True, actor="me")
        await with_accounts(store)
        batch = [encode_record(record(draw)) for _ in range(events)]
        await store.append([*batch, b'["d"]', b"{}"], Position(3, 77))
        await bill(store)
        await store.forget_events(before_us=FIRST + DAY, at_most=10**6)
        await store.forget_sums(minutes_before_us=FIRST + DAY + 90 * MINUTE, hours_before_us=0, at_most=10**6)
    finally:
        store.close()


async def with_accounts(store: SqliteStore) -> None:
    for number, name in enumerate(TENANTS):
        notices = [Notice(f"n{number}", "email", "access.grace", name, {"days": number, "plan": "grün"}, 1)]
        periods = (PERIOD,) * number
        account = Account(name, "cus_1", plan="pro" if number else None, until_ns=number or None, periods=periods)
        await store.save_account(account, actor="me", at_ns=1, notices=notices)
        await store.move_cursor(f"events of {number}", number)
        await store.claim(f"first key of {number}", name, at_ns=number)
        await store.receive(Arrival(f"evt_{number}", "invoice.paid", "in_1", '{"a": "\\u0000"}', number))
        grant = Grant(name, f"in_{number}", 10**6, "USD", number, expires_ns=number or None, note="nul\x00")
        await store.add_grant(grant, actor="me")
        await store.add_grant(replace(grant, source="in_x"), actor="me")
        await store.settle_credits(Book(name, number, 7), {"in_x": number}, if_until=None)
        await store.cross(Crossing(name, "monthly", 0, 10**9, 80, 100, 80 + number, 9), ())
    await store.revoke_grant(TENANTS[0], "in_0", at_ns=9, actor="me")
    await store.finish("evt_1", at_ns=9, note="done")
    await store.postpone("evt_2", next_ns=9, note="later")
    await store.settle_notice("n1", "email", done=True, at_ns=9)


async def bill(store: SqliteStore) -> None:
    """Rows for each tenant's first hours, in several states; the rest is marked and not assigned."""
    begin = FIRST // MINUTE
    free = tuple((minute * MINUTE, minute * MINUTE + MINUTE // 2) for minute in range(begin, begin + 600, 30))
    for number, name in enumerate(TENANTS):
        window = Window(name, "cus_1", begin, begin + 600 + number, PERIOD, free=free)
        for row in await store.assign(window, EVENTS, at_ns=5):
            await store.attempt(row.id, at_ns=6)
            await store.settle(row.id, ("sent", "verified", "held")[row.id % 3], at_ns=7, note="nul\x00")
        parity = Parity(name, "cus_1", "tokens", PERIOD, "in_1", 1, 2, 3, 4, 5, number or None, number > 1, 9)
        await store.save_parity(parity)
    await store.forget_billed(before=begin - 5, at_most=100)


async def answers(store: SqliteStore | PostgresStore) -> dict[str, Any]:
    """What the ports say, about everything."""
    tenants = await store.tenants(limit=1000)
    keys = {name: await store.keys(name, limit=1000) for name in TENANTS}
    found = await store.events(tenant=None, after=None, limit=100_000, **SPAN)
    said: dict[str, Any] = {
        "tenants": sorted(tenants, key=lambda tenant: tenant.name),
        "keys": keys,
        "ids": [await store.key(key.id) for held in keys.values() for key in held],
        "version": await store.keys_version(),
        "events": sorted(found.events, key=lambda event: event.event_id),
        "usage": [await store.usage(name, **SPAN) for name in TENANTS],
        "place": (await store.position(), await store.rejected()),
        "meters": [
            await store.meter_total(name, meter, sandbox=sandbox, **SPAN)
            for name in TENANTS
            for meter in ("tokens", "slash\\ nul\x00")
            for sandbox in (False, True)
        ],
    }
    said |= {
        "books": await store.instance(),
        "grants": [await store.grants(name, limit=1000) for name in TENANTS],
        "credit": [(found[0], sorted(found[1], key=str)) for found in [await store.credit(name) for name in TENANTS]],
        "accounts": sorted(await store.accounts(limit=1000), key=lambda account: account.tenant),
        "marks": sorted(await store.marks(before=10**9)),
        "rows": await store.rows(RowQuery()),
        "parities": sorted(await store.parities(), key=lambda parity: parity.tenant),
        "arrivals": await store.arrivals(at_ns=10**9, limit=1000),
        "notices": await store.due_notices(at_ns=10**9, limit=1000),
        "left": [await store.unassigned_minutes(name, meter, **MINUTES) for name in TENANTS for meter in EVENTS],
        "excused": [await store.excused(name, meter, **MINUTES) for name in TENANTS for meter in EVENTS],
        "assigned": [await store.assigned(name, meter, **MINUTES) for name in TENANTS for meter in EVENTS],
    }
    for by in GROUPS:
        for sandbox in (None, False):
            rows = await store.usage_rows(UsageQuery(by, *SPAN.values(), sandbox=sandbox, limit=100_000))
            said[f"{by} {sandbox}"] = sorted(rows, key=lambda row: str(row.group))
    return said


async def both(path: Path, database: Database) -> tuple[dict[str, Any], dict[str, Any]]:
    source = SqliteStore.open(path, readonly=True)
    target = await PostgresStore.open(database.url, journal=NODE)
    try:
        return await answers(source), await answers(target)
    finally:
        source.close()
        await target.close()


async def run_move(path: Path, database: Database, *, page: int = 5000) -> tuple[bool, list[str]]:
    lines: list[str] = []
    source = SqliteStore.open(path, moving=True)
    try:
        return await move(source, database.url, NODE, lines.append, page=page), lines
    finally:
        source.close()


@pytest.mark.parametrize(("seed", "page"), [(1, 5000), (2, 7), (3, 1)])
async def test_both_stores_say_the_same(tmp_path: Path, database: Database, seed: int, page: int) -> None:
    path = tmp_path / "a.db"
    await fill(path, seed, 150 if page > 1 else 12)
    moved, lines = await run_move(path, database, page=page)
    assert moved
    assert [line.partition(":")[0] for line in lines] == list(MOVED)
    assert all(line.endswith("the same on both sides") for line in lines)
    source, target = await both(path, database)
    assert source["events"]
    assert source["place"] == (Position(3, 77), 2)
    for question in source:
        assert target[question] == source[question], question


async def test_what_has_no_port_is_moved_too(tmp_path: Path, database: Database, superuser: asyncpg.Connection) -> None:
    """The audit log in its order, and the records that were set aside."""
    path = tmp_path / "a.db"
    await fill(path, 4)
    await run_move(path, database, page=3)
    source = SqliteStore.open(path, readonly=True)
    audit = await source.copy_rows("audit_log", (), 1000)
    aside = await source.copy_rows("rejected_records", (), 1000)
    source.close()
    rows = await superuser.fetch("SELECT at_ns, actor, action, subject, detail FROM sidecar.audit_log ORDER BY seq")
    shown = [(row[0], row[1], row[2], row[3].replace("\x010", "\x00").replace("\x011", "\x01"), row[4]) for row in rows]
    assert shown == [row[1:] for row in audit]
    rows = await superuser.fetch("SELECT segment, byte, reason, payload, journal FROM sidecar.rejected_records")
    assert [tuple(row) for row in rows] == [(*row[1:], NODE) for row in aside]
    assert len(audit) > 10
    assert len(aside) == 2


async def test_billing_goes_on_where_it_was(tmp_path: Path, database: Database) -> None:
    """Identifiers, ids, claims, the floor and what arrived: nothing is asked for, sent or told a second time."""
    path = tmp_path / "a.db"
    await fill(path, 18)
    source = SqliteStore.open(path)
    name, known = await source.instance(), await source.rows(RowQuery())
    source.close()
    await run_move(path, database)
    store = await PostgresStore.open(database.url, journal=NODE)
    begin = FIRST // MINUTE
    assert known
    assert await store.assign(Window("acme", "cus_1", begin, begin + 600, PERIOD), EVENTS, at_ns=9) == []
    rows = await store.assign(Window("acme", "cus_1", begin, begin + 4000, PERIOD), EVENTS, at_ns=9)
    assert rows
    assert [row.id for row in rows] == [known[-1].id + number for number in range(1, len(rows) + 1)]
    assert {row.identifier[:9] for row in (*known, *rows)} == {f"{name}:"}
    with pytest.raises(Conflict, match=f"before minute {begin - 5} "):
        await store.assign(Window("acme", "cus_1", begin - 6, begin, PERIOD), EVENTS, at_ns=9)
    assert await store.cursor("events of 1") == 1
    assert not await store.claim("first key of 1", "acme", at_ns=9)
    assert not await store.receive(Arrival("evt_1", "invoice.paid", "in_1", "{}", 9))
    assert await store.notify([Notice("n1", "email", "access.grace", "acme", {}, 9)]) == 0
    await store.close()


class Cut(Exception):
    """What an interruption raises here."""


@pytest.mark.parametrize("after_commit", [False, True])
async def test_a_move_cut_at_each_page_is_finished_by_the_next(
    tmp_path: Path, database: Database, after_commit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page is cut once, before it is there or right after it was committed, as kill -9 would."""
    path = tmp_path / "a.db"
    await fill(path, 5, 40)
    cut: set[str] = set()
    add, finish = MoveTarget.add, MoveTarget.finish

    async def cut_add(
        self: MoveTarget, table: str, columns: Any, rows: Any, after: Any, last: Any, **more: Any
    ) -> None:
        place = json.dumps([table, after])
        if after_commit:
            assert place not in cut, "a page that was committed is not sent again"
        elif place in cut:
            return await add(self, table, columns, rows, after, last, **more)
        cut.add(place)
        if after_commit:
            await add(self, table, columns, rows, after, last, **more)
        raise Cut

    async def cut_finish(self: MoveTarget, *args: Any) -> None:
        if after_commit:
            await finish(self, *args)
        elif "finish" in cut:
            return await finish(self, *args)
        cut.add("finish")
        raise Cut

    monkeypatch.setattr(MoveTarget, "add", cut_add)
    monkeypatch.setattr(MoveTarget, "finish", cut_finish)
    runs = 1
    while True:
        try:
            moved, _ = await run_move(path, database, page=40)
            break
        except Cut:
            runs += 1
        if runs == 8:
            with pytest.raises(StoreError, match="run sidecar migrate again"):
                await PostgresStore.open(database.url, journal=NODE)
    assert runs == len(cut) + 1
    assert runs > len(MOVED)
    assert moved is not after_commit
    source, target = await both(path, database)
    assert target == source


@pytest.mark.parametrize("statement", ["BEFORE INSERT", "AFTER INSERT"])
async def test_a_connection_that_breaks_in_mid_page_costs_nothing(
    tmp_path: Path, database: Database, superuser: asyncpg.Connection, statement: str
) -> None:
    """The server ends the connection while it works on a page of each of these tables."""
    path = tmp_path / "a.db"
    await fill(path, 6, 60)
    await superuser.execute("""
        CREATE FUNCTION public.hang_up() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN NULL; END $$
    """)
    breaks = 0
    for table in ("tenants", "api_keys", "entries", "calls_by_minute", "latency_by_hour"):
        await superuser.execute(
            f"CREATE TRIGGER hang_up {statement} ON sidecar.{table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION public.hang_up()"
        )
        with pytest.raises(StoreError):
            await run_move(path, database, page=20)
        await superuser.execute(f"DROP TRIGGER hang_up ON sidecar.{table}")
        breaks += 1
    assert breaks == 5
    assert (await run_move(path, database, page=20))[0]
    source, target = await both(path, database)
    assert target == source


async def test_a_second_run_changes_nothing(tmp_path: Path, database: Database, superuser: asyncpg.Connection) -> None:
    """Not even when the new store has been used since."""
    path = tmp_path / "a.db"
    await fill(path, 7)
    await run_move(path, database)
    store = await PostgresStore.open(database.url, journal=NODE)
    await store.append([encode_record(record(random.Random(8)))], Position(4, 0))
    before = await answers(store)
    await store.close()
    assert await run_move(path, database) == (False, [])
    assert (await both(path, database))[1] == before


async def test_what_is_sent_again_from_the_journal_is_known(tmp_path: Path, database: Database) -> None:
    path = tmp_path / "a.db"
    draw = random.Random(9)
    records = [encode_record(record(draw)) for _ in range(20)]
    store = SqliteStore.open(path)
    await store.append(records, Position(1, 1))
    store.close()
    await run_move(path, database)
    target = await PostgresStore.open(database.url, journal=NODE)
    assert await target.append(records, Position(1, 2)) == 0
    await target.close()


async def test_a_moved_file_is_refused_and_says_where_to(tmp_path: Path, database: Database) -> None:
    path = tmp_path / "a.db"
    await fill(path, 10, 5)
    await run_move(path, database)
    with pytest.raises(
        StoreError, match=r"a\.db was moved to PostgreSQL at 127\.0\.0\.1.*storage: postgresql"
    ) as raised:
        SqliteStore.open(path)
    assert "correct-horse" not in str(raised.value)
    SqliteStore.open(path, readonly=True).close()


async def test_another_database_is_not_where_it_was_moved_to(
    tmp_path: Path, server: Server, database: Database
) -> None:
    path = tmp_path / "a.db"
    await fill(path, 11, 5)
    await run_move(path, database)
    other = server.migrated()
    with pytest.raises(StoreError, match="is not where this installation was moved to"):
        await run_move(path, other)
    server.drop(other)


async def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        SqliteStore.open(tmp_path / "a.db", moving=True)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("what", ["tenant", "usage"])
async def test_a_target_in_use_is_refused(tmp_path: Path, database: Database, what: str) -> None:
    path = tmp_path / "a.db"
    await fill(path, 12, 5)
    store = await PostgresStore.open(database.url, journal="other")
    if what == "tenant":
        await store.add_tenant(Tenant("there", "pro"), actor="me")
    else:
        await store.append([encode_record(record(random.Random(13)))], Position(1, 1))
    await store.close()
    with pytest.raises(StoreError, match="is in use"):
        await run_move(path, database)
    SqliteStore.open(path).close()
    await (await PostgresStore.open(database.url, journal="other")).close()


async def test_a_target_with_a_running_sidecar_is_refused(tmp_path: Path, database: Database) -> None:
    path = tmp_path / "a.db"
    await fill(path, 14, 5)
    store = await PostgresStore.open(database.url, journal="other")
    with pytest.raises(StoreError, match=r"running sidecar .its journal is other"):
        await run_move(path, database)
    await store.close()
    assert (await run_move(path, database))[0], "a sidecar that only looked leaves nothing behind"


async def test_a_file_used_again_gives_the_move_up(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was copied before is no longer what stands in the file: the part is refused, an empty database is not."""
    path = tmp_path / "a.db"
    await fill(path, 15, 20)

    async def cut(self: MoveTarget, *args: Any) -> None:
        raise Cut

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(MoveTarget, "totals", cut)
        await run_move(path, database)
    SqliteStore.open(path).close()
    with pytest.raises(StoreError, match="holds a part of another move"):
        await run_move(path, database)


async def test_rows_of_somebody_else_are_found_before_anything_is_final(
    tmp_path: Path, database: Database, superuser: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    await fill(path, 16, 20)

    async def cut(self: MoveTarget, *args: Any) -> None:
        raise Cut

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(MoveTarget, "totals", cut)
        await run_move(path, database)
    await superuser.execute("UPDATE sidecar.calls_by_hour SET units = units + 1 WHERE tenant = 'acme'")
    with pytest.raises(StoreError, match=r"^calls_by_hour: PostgreSQL does not hold what the file does"):
        await run_move(path, database)
    SqliteStore.open(path).close()


async def test_a_page_that_is_there_already_is_not_copied_again(tmp_path: Path, database: Database) -> None:
    """A commit that a killed process left under way is done after its successor has looked."""
    path = tmp_path / "a.db"
    await fill(path, 17, 5)
    source = SqliteStore.open(path, moving=True)
    target = MoveTarget(database.url, await source.begin_move("there"), NODE)
    columns, rows = TABLES["tenants"].columns, await source.copy_rows("tenants", (), 2)
    assert not await target.begin(MOVED, new=True)
    await target.add("tenants", columns, rows, (), (rows[-1][0],), done=False)
    with pytest.raises(StoreError, match="run sidecar migrate again"):
        await target.add("tenants", columns, rows, (), (rows[-1][0],), done=False)
    await target.close()
    source.close()
    assert (await run_move(path, database))[0]
    found, moved = await both(path, database)
    assert moved == found


def test_every_table_is_moved_or_derived() -> None:
    assert set(MOVED) | set(DERIVED) == set(TABLES)
