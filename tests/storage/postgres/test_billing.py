"""Several nodes bill at once: what they assign is the ledger to the unit, whoever comes first."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable

import asyncpg
import pytest

from sidecar.core.accounts import Account, Arrival, Notice
from sidecar.core.billing import Period, RowQuery, Window
from sidecar.core.errors import Conflict
from sidecar.core.ports import Position
from sidecar.core.values import ApiKey
from sidecar.storage.postgres import PostgresStore
from tests.storage.postgres.records import records
from tests.storage.postgres.server import Database

PERIOD = Period(6_000, 60_000)  # minutes 100 to 999
WINDOW = Window("acme", "cus_1", 100, 110, PERIOD)
EVENTS = {"tokens": "acme_tokens"}
GATE = 4711


@pytest.fixture
async def nodes(database: Database) -> AsyncIterator[list[PostgresStore]]:
    opened = [await PostgresStore.open(database.url, journal=f"node-{number}") for number in range(2)]
    yield opened
    for store in opened:
        await store.close()


async def use(store: PostgresStore, segment: int, minutes: list[int], tenant: str = "acme") -> int:
    """One batch; the tokens in it."""
    batch = [one for minute in minutes for one in records(1, started_us=minute * 60_000_000, tenant=tenant)]
    assert await store.append(batch, Position(segment, 16)) == len(batch)
    return 7 * len(batch)


async def with_account(store: PostgresStore, *tenants: str) -> None:
    for tenant in tenants or ("acme",):
        await store.save_account(Account(tenant, "cus_1"), actor="me", at_ns=1)


async def blocked(superuser: asyncpg.Connection, count: int) -> None:
    """Returns once that many sessions wait for a lock."""
    async with asyncio.timeout(10):
        while True:
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            if await superuser.fetchval(waiting) == count:
                return


async def hold_commits(superuser: asyncpg.Connection) -> None:
    """Batches stop at their last statement, when everything but the journal's position was written, until released."""
    await superuser.execute(f"""
        CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NEW; END $$;
        CREATE TRIGGER hold BEFORE UPDATE ON sidecar.journal_positions FOR EACH ROW EXECUTE FUNCTION public.hold();
        SELECT pg_advisory_lock({GATE});
    """)


async def release(superuser: asyncpg.Connection) -> None:
    await superuser.execute(f"SELECT pg_advisory_unlock({GATE})")


async def drain(store: PostgresStore) -> None:
    """Assigns what is marked, and only that."""
    for tenant, minute in await store.marks(before=10**6):
        await store.assign(Window(tenant, "cus_1", minute, minute + 1, PERIOD), EVENTS, at_ns=1)


@pytest.mark.parametrize("seed", range(3))
async def test_two_nodes_that_append_and_assign_at_once_ask_for_the_ledger(
    nodes: list[PostgresStore], seed: int
) -> None:
    """Over the same minutes, tenants of one customer and windows; at the end only what is marked is assigned."""
    await with_account(nodes[0], "acme", "beta")
    draw = random.Random(seed)
    used = {"acme": 0, "beta": 0}

    async def append(store: PostgresStore) -> None:
        for segment in range(1, 26):
            tenant = draw.choice(["acme", "beta"])
            tokens = await use(store, segment, [draw.randrange(100, 110) for _ in range(5)], tenant)
            used[tenant] += tokens

    async def assign(store: PostgresStore) -> None:
        for _ in range(40):
            begin = draw.randrange(100, 110)
            window = Window(draw.choice(["acme", "beta"]), "cus_1", begin, begin + draw.randrange(1, 5), PERIOD)
            await store.assign(window, EVENTS, at_ns=1)

    work: list[Awaitable[None]] = [append(store) for store in nodes]
    await asyncio.gather(*work, *(assign(store) for store in nodes for _ in range(2)))
    await asyncio.gather(*(drain(store) for store in nodes))
    rows = await nodes[0].rows(RowQuery())
    for tenant, tokens in used.items():
        assert await nodes[0].unassigned_minutes(tenant, "tokens", begin=0, end=999) == {}
        assert sum(row.value for row in rows if row.tenant == tenant) == tokens
        assert await nodes[1].assigned(tenant, "tokens", begin=0, end=999) == tokens
    assert len({row.minute for row in rows}) == len(rows) == len({row.identifier for row in rows})
    assert await nodes[0].marks(before=10**6) == []


async def test_one_window_asked_for_by_two_nodes_is_taken_once(nodes: list[PostgresStore]) -> None:
    await with_account(nodes[0])
    tokens = await use(nodes[0], 1, [100, 101, 102])
    made = await asyncio.gather(*(nodes[number % 2].assign(WINDOW, EVENTS, at_ns=1) for number in range(10)))
    assert [row.value for rows in made for row in rows] == [tokens]


async def test_a_batch_that_is_not_committed_keeps_its_mark(
    nodes: list[PostgresStore], superuser: asyncpg.Connection
) -> None:
    """It found its minute marked already. Who takes that mark away waits, and sees its usage then."""
    await with_account(nodes[0])
    tokens = await use(nodes[0], 1, [100])
    await hold_commits(superuser)
    appended = asyncio.create_task(use(nodes[0], 2, [100]))
    await blocked(superuser, 1)
    assigned = asyncio.create_task(nodes[1].assign(WINDOW, EVENTS, at_ns=1))
    await blocked(superuser, 2)
    await release(superuser)
    tokens += await appended
    assert [row.value for row in await assigned] == [tokens]
    assert await nodes[0].marks(before=10**6) == []


async def test_usage_before_the_account_is_marked_though_its_batch_was_not_committed(
    nodes: list[PostgresStore], superuser: asyncpg.Connection
) -> None:
    """The batch looked for the account before there was one; whoever marks what was before waits for it."""
    await hold_commits(superuser)
    appended = asyncio.create_task(use(nodes[0], 1, [100]))
    await blocked(superuser, 1)
    await with_account(nodes[1])
    marked = asyncio.create_task(nodes[1].mark("acme", begin=0, end=999))
    await blocked(superuser, 2)
    await release(superuser)
    await appended
    assert await marked == 1
    assert await nodes[0].marks(before=10**6) == [("acme", 100)]


async def test_forgetting_waits_for_who_assigns(
    nodes: list[PostgresStore], database: Database, superuser: asyncpg.Connection
) -> None:
    """Else the minutes that say what was billed would go under the eyes of a node that has looked at the floor."""
    await with_account(nodes[0])
    tokens = await use(nodes[0], 1, list(range(100, 110)))
    (row,) = await nodes[0].assign(WINDOW, EVENTS, at_ns=1)
    await nodes[0].mark("acme", begin=100, end=101)
    holder = await asyncpg.connect(database.superuser_url)
    await holder.execute("BEGIN; SELECT FROM sidecar.marks FOR UPDATE")
    again = asyncio.create_task(nodes[0].assign(WINDOW, EVENTS, at_ns=1))
    await blocked(superuser, 1)
    forgotten = asyncio.create_task(nodes[1].forget_billed(before=120, at_most=1000))
    await blocked(superuser, 2)
    await holder.close()
    assert row.value == tokens
    assert await again == []
    assert await forgotten == 10
    with pytest.raises(Conflict, match="before minute 120"):
        await nodes[0].assign(WINDOW, EVENTS, at_ns=1)


async def test_of_all_nodes_one_leads_claims_receives_and_saves(nodes: list[PostgresStore]) -> None:
    both = [nodes[number % 2] for number in range(8)]
    account = Account("acme", "cus_1", read_ns=5)
    leads = await asyncio.gather(*(node.lead("outbox", str(n), ttl_ns=9, at_ns=1) for n, node in enumerate(both)))
    claims = await asyncio.gather(*(node.claim("key", "acme", at_ns=1) for node in both))
    keys = [ApiKey(f"k{n}", "acme", "first", False, bytes(32), "p1", None, 1) for n in range(8)]
    firsts = await asyncio.gather(*(node.claim_first_key(keys[n], actor="me") for n, node in enumerate(both)))
    events = await asyncio.gather(*(node.receive(Arrival("evt_1", "x", "in_1", "{}", 1)) for node in both))
    saves = await asyncio.gather(*(node.save_account(account, actor="me", at_ns=1, if_read_ns=0) for node in both))
    for found in (leads, claims, firsts, events, saves):
        assert sum(found) == 1


async def test_the_same_notices_in_another_order_are_told_once(nodes: list[PostgresStore]) -> None:
    for attempt in range(20):
        told = [Notice(f"{attempt}/{number}", "email", "access.grace", "acme", {}, 1) for number in range(9)]
        assert sum(await asyncio.gather(nodes[0].notify(told), nodes[1].notify(told[::-1]))) == 9
    assert len(await nodes[0].due_notices(at_ns=1, limit=999)) == 180


async def test_a_row_that_two_nodes_attempt_counts_both(nodes: list[PostgresStore]) -> None:
    await use(nodes[0], 1, [100])
    (row,) = await nodes[0].assign(WINDOW, EVENTS, at_ns=1)
    sent = await asyncio.gather(*(nodes[number % 2].attempt(row.id, at_ns=10 + number) for number in range(6)))
    assert sorted(found.attempts for found in sent) == [1, 2, 3, 4, 5, 6]
    assert len({found.first_attempt_ns for found in sent}) == 1


async def test_every_database_has_a_name_of_its_own(superuser: asyncpg.Connection) -> None:
    """As the migration makes it: 8 characters of 32, no two alike."""
    making = (
        "SELECT string_agg(substr('abcdefghijklmnopqrstuvwxyz234567', 1 + get_byte(bytes, place) % 32, 1), '')"
        " FROM (SELECT uuid_send(gen_random_uuid()) AS bytes) AS made, unnest(ARRAY[0, 1, 2, 3, 4, 5, 9, 10]) AS place"
    )
    names = {await superuser.fetchval(making) for _ in range(200)}
    assert len(names) == 200
    assert set("".join(names)) == set("abcdefghijklmnopqrstuvwxyz234567")
