"""One tenant never sees another's rows: every table and function, as every role, in every state of the setting."""

import asyncio
import time

import asyncpg
import pytest

from sidecar.core.accounts import Account, Arrival, Notice
from sidecar.core.billing import Parity, Period, RowQuery, Window
from sidecar.core.credits import Book, Grant, Share
from sidecar.core.crossings import Crossing
from sidecar.core.ports import Position
from sidecar.core.records import encode_record
from sidecar.core.values import ApiKey, Tenant
from sidecar.storage.postgres import PostgresStore
from tests.records import MINUTE
from tests.storage.postgres.records import record
from tests.storage.postgres.server import Database

# Names of which each would reach another tenant's rows if it were ever put into a statement, a pattern or a list.
NAMES = [
    "acme", "acme-1", "Acme", "acme ", "a%", "_cme", "' OR true --", "'; SET ROLE sidecar_operator; --", '"acme"',
    "a\0b", "a\u0001b", "acme', 'acme-1", "$1", "sidecar.tenant", "a\\", "NULL", "{acme}", "ácme",
]  # fmt: skip
OPERATORS_OWN = {"audit_log", "journal_positions", "rejected_records", "moves", "entries_default"}
OPERATORS_OWN |= {"books", "leads", "arrivals", "claims", "cursors", "notices"}
PERIOD = Period(0, 10**10)
NO_TENANT = {"migrations", "keys_version"}


@pytest.fixture
async def filled(store: PostgresStore) -> PostgresStore:
    for number, name in enumerate(NAMES):
        await store.add_tenant(Tenant(name, f"plan of {number}"), actor="me")
        await store.add_key(ApiKey(f"k{number}", name, "ci", False, b"d" * 32, "p", None, 1), actor="me")
    now_us = time.time_ns() // 1000  # in a partition; the others are in the default one
    batch = [encode_record(record(tenant=name, key_id=f"k{n}", units=n)) for n, name in enumerate(NAMES)]
    batch += [encode_record(record(tenant=name, units=1000, started_us=now_us)) for name in NAMES]
    batch += [encode_record(record(tenant=name, started_us=50 * MINUTE, units=0)) for name in NAMES]
    for number, name in enumerate(NAMES):
        told = [Notice(f"n{number}", "email", "access.grace", name, {}, 1)]
        await store.save_account(Account(name, "cus_1", until_ns=1), actor="me", at_ns=1, notices=told)
        await store.move_cursor(f"events of {number}", number)
        await store.claim(f"first key of {number}", name, at_ns=1)
    await store.lead("outbox", "node", ttl_ns=1, at_ns=1)
    await store.receive(Arrival("evt_1", "invoice.paid", "in_1", "{}", 1))
    assert await store.append(batch, Position(1, 16)) == len(batch)
    for number, name in enumerate(NAMES):  # all have one customer, so that their stamps are in each other's way
        (row,) = await store.assign(Window(name, "cus_1", 100, 101, PERIOD), {"tokens": "tokens"}, at_ns=1)
        assert row.minute == 100 + number
        free = Window(name, "cus_1", 50, 51, PERIOD, free=((50 * MINUTE, 51 * MINUTE),))
        assert await store.assign(free, {"tokens": "tokens"}, at_ns=1) == []
        await store.save_parity(Parity(name, "cus_1", "tokens", PERIOD, "in_1", number, 1, 1, 1, 1, 1, False, 1))
        await store.add_grant(Grant(name, "in_1", 5, "USD", 1), actor="me")
        share = Share("in_1", 0, 1, 1, 0, 1, 1, "USD")
        assert await store.settle_credits(Book(name, 1), {"in_1": 1}, if_until=None, shares=[share])
        assert await store.cross(Crossing(name, "monthly", 0, 60, 80, 10, 8, 1), [])
    return store


async def relations(superuser: asyncpg.Connection) -> dict[str, str]:
    """Every table, partition, view and materialized view: name to kind."""
    rows = await superuser.fetch(
        "SELECT relname, relkind FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = 'sidecar' AND relkind IN ('r', 'p', 'v', 'm', 'f')"
    )
    return {row[0]: row[1].decode() for row in rows}


async def seen(connection: asyncpg.Connection, relation: str) -> set[str] | None:
    """The tenants of the rows that can be read; None when reading is refused."""
    try:
        async with connection.transaction():
            return {row.get("tenant", "?") for row in await connection.fetch(f"SELECT * FROM sidecar.{relation}")}
    except asyncpg.InsufficientPrivilegeError:
        return None


def stored(name: str) -> str:
    return name.replace("\x01", "\x011").replace("\0", "\x010")


async def test_a_reader_sees_its_tenant_and_nothing_else(
    filled: PostgresStore, database: Database, superuser: asyncpg.Connection
) -> None:
    """In every relation there is; partitions refuse to be read by name, whatever stands in them."""
    connection = await asyncpg.connect(database.url)
    tables = await relations(superuser)
    assert len(tables) >= 15
    for relation in set(tables) - NO_TENANT:
        for name in map(stored, NAMES):
            async with connection.transaction():
                await connection.execute("SET LOCAL ROLE sidecar_reader")
                await connection.execute("SELECT set_config('sidecar.tenant', $1, true)", name)
                found = await seen(connection, relation)
            if relation in OPERATORS_OWN or relation.startswith("entries_"):
                assert found is None, relation
            else:
                assert found == {name}, relation
    await connection.close()


@pytest.mark.parametrize("state", ["never set", "empty", "left by SET LOCAL", "left by set_config", "rolled back"])
async def test_a_reader_without_a_tenant_sees_nothing(
    filled: PostgresStore, database: Database, superuser: asyncpg.Connection, state: str
) -> None:
    """After one SET LOCAL the setting reads '' for the rest of the session: http.md 3."""
    connection = await asyncpg.connect(database.url)
    if state == "left by SET LOCAL":
        await connection.execute("BEGIN; SET LOCAL sidecar.tenant = 'acme'; COMMIT")
    elif state == "left by set_config":
        await connection.execute("BEGIN; SELECT set_config('sidecar.tenant', 'acme', true); COMMIT")
    elif state == "rolled back":
        await connection.execute("BEGIN; SELECT set_config('sidecar.tenant', 'acme', true); ROLLBACK")
    for relation in set(await relations(superuser)) - NO_TENANT:
        async with connection.transaction():
            await connection.execute("SET LOCAL ROLE sidecar_reader")
            if state == "empty":
                await connection.execute("SELECT set_config('sidecar.tenant', '', true)")
            assert not await seen(connection, relation), relation
    await connection.close()


async def test_the_login_alone_sees_nothing(
    filled: PostgresStore, database: Database, superuser: asyncpg.Connection
) -> None:
    """A forgotten SET ROLE is refused; it does not show everything."""
    connection = await asyncpg.connect(database.url)
    await connection.execute("SELECT set_config('sidecar.tenant', 'acme', false)")
    for relation in await relations(superuser):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"SELECT 1 FROM sidecar.{relation}")
    await connection.close()


async def test_the_owner_is_bound_too(filled: PostgresStore, database: Database, superuser: asyncpg.Connection) -> None:
    """FORCE: without it the owner, and each function of the owner, would see every tenant (http.md 3)."""
    connection = await asyncpg.connect(database.owner_url)
    await connection.execute("SELECT set_config('sidecar.tenant', 'acme', false)")
    for relation in set(await relations(superuser)) - NO_TENANT - OPERATORS_OWN:
        assert await seen(connection, relation) == set(), relation
    await connection.close()


async def test_a_reader_changes_nothing_and_calls_nothing(
    filled: PostgresStore, database: Database, superuser: asyncpg.Connection
) -> None:
    connection = await asyncpg.connect(database.url)
    attempts = [
        f"{statement} sidecar.{relation} {rest}"
        for relation in await relations(superuser)
        for statement, rest in (("DELETE FROM", ""), ("INSERT INTO", "DEFAULT VALUES"), ("TRUNCATE", ""))
    ]
    attempts += ["SELECT sidecar.make_partitions('{20000}')", "SELECT sidecar.drop_partition(20000)"]
    for role in ("sidecar_reader", "sidecar_operator"):
        for attempt in attempts:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"BEGIN; SET LOCAL ROLE {role}; {attempt}")
            await connection.execute("ROLLBACK")
    await connection.close()


async def test_every_table_of_tenants_is_under_forced_security_and_every_view_is_the_callers(
    superuser: asyncpg.Connection,
) -> None:
    open_tables = await superuser.fetch(
        "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = 'sidecar' AND relkind IN ('r', 'p') AND NOT (relrowsecurity AND relforcerowsecurity)"
    )
    assert {row[0] for row in open_tables} == NO_TENANT
    views = await superuser.fetch(
        "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'sidecar'"
        " AND relkind IN ('v', 'm') AND NOT 'security_invoker=true' = ANY (coalesce(reloptions, '{}'))"
    )
    assert views == []
    definers = await superuser.fetch(
        "SELECT proname, proconfig FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace"
        " WHERE nspname = 'sidecar' AND prosecdef"
    )
    assert {row[0] for row in definers} == {"make_partitions", "drop_partition"}
    assert all("search_path=pg_catalog, pg_temp" in row[1] for row in definers)


async def test_the_tenant_is_in_every_unique_key(superuser: asyncpg.Connection) -> None:
    """Unique keys leak across tenants (http.md 3). Some have no tenant, and no tenant may write there: what a tenant is
    found by (api_keys), what its customer shares with another (outbox), what is done once altogether."""
    keys = await superuser.fetch(
        "SELECT DISTINCT t.relname, pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class t ON t.oid = indrelid"
        " JOIN pg_namespace n ON n.oid = t.relnamespace WHERE nspname = 'sidecar' AND indisunique"
        " AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = t.oid AND attname = 'tenant')"
    )
    assert len(keys) >= 9
    without = {name for name, definition in keys if "tenant" not in definition.partition("(")[2]}
    assert without == {"api_keys", "outbox", "claims", "notices"}


async def test_every_question_of_the_store_is_answered_for_its_tenant_alone(filled: PostgresStore) -> None:
    """All tenants at once over the same few connections, again and again: nothing of one stays for the next."""
    everything = {"since_us": 0, "until_us": 10**8 * MINUTE}

    async def ask(number: int, name: str) -> None:
        tenant = await filled.tenant(name)
        assert tenant is not None
        assert tenant.name == name
        assert [key.id for key in await filled.keys(name)] == [f"k{number}"]
        page = await filled.events(tenant=name, after=None, limit=1000, **everything)
        assert {event.tenant for event in page.events} == {name}
        assert [event.units for event in page.events] == [0, number, 1000]
        assert (await filled.usage(name, **everything)).totals.units == number + 1000
        assert await filled.meter_total(name, "requests", sandbox=False, **everything) == 3
        account = await filled.account(name)
        assert account is not None
        assert account.tenant == name
        assert [row.minute for row in await filled.rows(RowQuery(tenant=name))] == [100 + number]
        assert await filled.rows(RowQuery(tenant=name, since=101 + number)) == []
        assert [(parity.tenant, parity.ledger) for parity in await filled.parities(tenant=name)] == [(name, number)]
        assert await filled.assigned(name, "tokens", begin=0, end=10**8) == 7
        assert await filled.excused(name, "tokens", begin=0, end=10**8) == 7
        left = await filled.unassigned_minutes(name, "tokens", begin=0, end=10**8)
        assert list(left.values()) == [(7, 0)]

    for _ in range(3):
        await asyncio.gather(*(ask(number, name) for number, name in enumerate(NAMES)))
    assert (await filled.usage("nobody", **everything)).totals.requests == 0
    everybody = await filled.events(tenant=None, after=None, limit=1000, **everything)
    assert {event.tenant for event in everybody.events} == set(NAMES)
    assert await filled.account("nobody") is None
    assert await filled.assigned("nobody", "tokens", begin=0, end=10**8) == 0
    assert await filled.excused("nobody", "tokens", begin=0, end=10**8) == 0
    assert {row.tenant for row in await filled.rows(RowQuery())} == set(NAMES)
    assert {account.tenant for account in await filled.accounts()} == set(NAMES)
    assert {account.tenant for account in await filled.accounts_due(at_ns=1, limit=99)} == set(NAMES)
    assert {tenant for tenant, _ in await filled.marks(before=10**8)} == set(NAMES)
