"""The connection cut at every message of a batch, the server killed: nothing is lost, nothing is there twice."""

import asyncio
import signal
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from sidecar.core.errors import StoreDown, StoreError, StoreLocked
from sidecar.core.ports import Position
from sidecar.core.values import Tenant
from sidecar.storage.postgres import PostgresStore, migrate_schema
from sidecar.storage.postgres.address import Address
from sidecar.storage.postgres.connection import INGEST, Connection, Link
from tests.storage.postgres.records import counted, records
from tests.storage.postgres.server import APPLICATION, PASSWORD, Database, Process, Server
from tests.storage.postgres.wire import Cut, Direction, Wire, wire_to

_TRIES = 20


@pytest.fixture
async def wire(database: Database) -> AsyncIterator[Wire]:
    async with wire_to(database.url) as made:
        yield made


async def state(superuser: asyncpg.Connection) -> tuple[int, int, int, int, int]:
    """Events, calls by minute and by hour, the meter, the latency: all of them counts of the same calls."""
    row = await superuser.fetchrow(
        "SELECT (SELECT count(*) FROM sidecar.entries), (SELECT sum(requests) FROM sidecar.calls_by_minute),"
        " (SELECT sum(requests) FROM sidecar.calls_by_hour),"
        " (SELECT sum(value) FROM sidecar.meters_by_minute WHERE meter = 'requests'),"
        " (SELECT sum(calls) FROM sidecar.latency_by_hour)"
    )
    return tuple(int(value or 0) for value in row)


async def ship(store: PostgresStore, batch: list[bytes], at: Position) -> int:
    """As the shipper does: the same batch again until it is taken. How often it failed."""
    for failures in range(_TRIES):
        try:
            await store.append(batch, at)
        except StoreError as error:
            assert PASSWORD not in "".join(traceback.format_exception(error))
            await asyncio.sleep(0.01)
        else:
            return failures
    raise AssertionError("the batch was never taken")


CUTS = [
    pytest.param("to server", 0.0, False, id="before a message reaches the server"),
    pytest.param("to server", 0.5, False, id="in the middle of a message to the server"),
    pytest.param("to server", 1.0, True, id="after a message, the server not being told"),
    pytest.param("to client", 0.0, False, id="before an answer reaches us"),
    pytest.param("to client", 0.5, True, id="in the middle of an answer, the server not being told"),
]


@pytest.mark.parametrize(("direction", "part", "linger"), CUTS)
async def test_a_connection_cut_at_any_message_of_a_batch_loses_and_doubles_nothing(
    wire: Wire, superuser: asyncpg.Connection, direction: Direction, part: float, linger: bool
) -> None:
    """Also between COMMIT and its answer, when nobody can know: the batch is tried again, and is known or not."""
    store = await PostgresStore.open(wire.url, journal="node-1")
    expected = failed = 0
    for number in range(1000):
        cut = Cut(direction, number, part, linger)
        wire.arm(cut)
        failed += await ship(store, records(3), Position(1, number))
        expected += 3
        assert await state(superuser) == (expected,) * 5
        if not cut.done:
            break
    assert number > 20, "a batch is some dozens of messages"
    assert failed >= number - 4, "a cut before the transaction began is mended at once"
    await store.close()


async def test_a_backend_terminated_at_any_message_of_a_batch(
    wire: Wire, superuser: asyncpg.Connection, database: Database
) -> None:
    killer = await asyncpg.connect(database.superuser_url)

    one_at_a_time = asyncio.Lock()

    async def terminate() -> None:
        async with one_at_a_time:
            await killer.execute(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
                " WHERE application_name = 'sidecar node-1 writer' AND datname = current_database()"
            )

    store = await PostgresStore.open(wire.url, journal="node-1")
    expected = failed = 0
    for number in range(0, 1000, 2):
        cut = Cut("to server", number, instead=terminate)
        wire.arm(cut)
        failed += await ship(store, records(3), Position(1, number))
        expected += 3
        assert await state(superuser) == (expected,) * 5
        if not cut.done:
            break
    assert failed >= 10
    await store.close()
    await killer.close()


async def test_look_ups_survive_a_connection_that_died_while_it_was_idle(
    store: PostgresStore, superuser: asyncpg.Connection
) -> None:
    await store.add_tenant(Tenant("acme", "pro"), actor="me")
    for _ in range(3):
        await superuser.execute(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )
        assert await store.tenant("acme") == Tenant("acme", "pro")
        await store.add_tenant(Tenant(f"acme-{_}", "pro"), actor="me")
        assert len(await store.tenants()) == 2 + _


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGINT, signal.SIGKILL])
async def test_a_server_that_is_restarted_is_used_again(own_process: Process, how: signal.Signals) -> None:
    """Immediate shutdown, fast shutdown, kill -9: what was acknowledged is there, what was not is taken later."""
    server = await asyncio.to_thread(Server, own_process.url)
    database = await asyncio.to_thread(server.migrated)
    store = await PostgresStore.open(database.url, journal="node-1")
    assert await store.append(records(10), Position(1, 100)) == 10
    batch = records(10)
    own_process.stop(how)
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: store.append(batch, Position(1, 200)),
        lambda: store.key("k"),
        store.tenants,
        store.keys_version,
    ]
    for attempt in attempts:
        with pytest.raises(StoreDown) as raised:
            await asyncio.wait_for(attempt(), 10)
        assert PASSWORD not in "".join(traceback.format_exception(raised.value))
    with pytest.raises(StoreDown):
        await PostgresStore.open(database.url, journal="node-2")
    own_process.start()
    assert await store.key("k") is None
    assert await store.append(batch, Position(1, 200)) == 10
    assert await counted(store) == (20, 20, 20)
    await store.close()


async def test_a_server_that_says_nothing_is_given_up_in_time(wire: Wire) -> None:
    async def nothing(connection: Connection) -> None:
        return None

    link = Link(Address.parse(wire.url), "test", timeout_s=0.5, prepare=nothing, plans="auto")
    async with link.transaction(INGEST) as connection:
        assert await connection.fetchval("SELECT 1") == 1
    wire.stalled = True
    for _ in range(2):  # the old connection, then a new one
        async with asyncio.timeout(3):
            with pytest.raises(StoreDown, match="in time"):
                async with link.transaction(INGEST) as connection:
                    await connection.fetchval("SELECT 1")
    wire.stalled = False
    async with link.transaction(INGEST) as connection:
        assert await connection.fetchval("SELECT 1") == 1
    await link.close()


async def test_a_lock_on_what_a_batch_adds_to_does_not_hang_it(
    store: PostgresStore, superuser: asyncpg.Connection
) -> None:
    """A cancelled batch leaves nothing behind, and the next one goes through."""
    batch = records(5)
    async with superuser.transaction():
        await superuser.execute("LOCK TABLE sidecar.calls_by_hour")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.append(batch, Position(1, 16)), 0.5)
    assert await store.append(batch, Position(1, 16)) == 5
    assert await counted(store) == (5, 5, 5)


async def test_one_process_ships_a_journal(store: PostgresStore, database: Database) -> None:
    with pytest.raises(StoreLocked, match="node-1"):
        await PostgresStore.open(database.url, journal="node-1")
    other = await PostgresStore.open(database.url, journal="node-2")
    assert await other.append(records(2), Position(7, 7)) == 2
    assert (await store.position(), await other.position()) == (Position(), Position(7, 7))
    await store.close()
    again = await PostgresStore.open(database.url, journal="node-1")
    await again.close()
    await other.close()
    with pytest.raises(StoreError, match="closed"):
        await other.position()


async def test_a_journal_that_somebody_else_moved_is_not_shipped_any_further(
    store: PostgresStore, superuser: asyncpg.Connection
) -> None:
    """Two copies of one data folder would each ship only a part of what both think is shipped."""
    assert await store.append(records(1), Position(1, 100)) == 1
    await superuser.execute("UPDATE sidecar.journal_positions SET byte = 500")
    with pytest.raises(StoreLocked, match="data folder"):
        await store.append(records(1), Position(1, 200))
    await superuser.execute("UPDATE sidecar.journal_positions SET byte = 50")  # a backup was restored
    assert await store.append(records(1), Position(1, 200)) == 1


async def test_many_nodes_write_the_same_sums_at_once(database: Database, superuser: asyncpg.Connection) -> None:
    """Rows are taken in one order, so that nobody waits in a circle."""
    stores = [await PostgresStore.open(database.url, journal=f"node-{number}") for number in range(4)]

    async def work(store: PostgresStore) -> None:
        for number in range(8):
            batch = [r for n in range(20) for r in records(2, key_id=f"k{(n * 7) % 20}", tenant=f"t{(n * 3) % 5}")]
            assert await store.append(batch, Position(1, number)) == 40

    await asyncio.gather(*map(work, stores))
    assert await state(superuser) == (4 * 8 * 40,) * 5
    for store in stores:
        await store.close()


async def test_schemas_are_made_once_by_many(server: Server) -> None:
    database = await asyncio.to_thread(server.empty)
    applied = await asyncio.gather(*(migrate_schema(database.owner_url, APPLICATION) for _ in range(4)))
    assert sorted(map(len, applied)) == [0, 0, 0, len(max(applied))]
    await asyncio.to_thread(server.drop, database)
