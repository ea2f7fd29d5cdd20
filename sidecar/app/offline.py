"""What is done on the store while no sidecar runs."""

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sidecar.admin import Operations
from sidecar.admission import Admission
from sidecar.app.journals import recover_all
from sidecar.app.parts import Store, close_store, open_journal, open_limits, open_store, operations, shipper_of
from sidecar.billing import payee_of
from sidecar.core.clock import SystemClock
from sidecar.core.errors import StoreError
from sidecar.core.policy import Settings, Snapshot
from sidecar.identity import Peppers, new_key
from sidecar.storage import SqliteStore, migrate_schema, move, schema_state


@contextlib.asynccontextmanager
async def open_offline(snapshot: Snapshot) -> AsyncIterator[Operations]:
    """The operations on the store itself, for commands while no sidecar runs. StoreLocked when one does.

    What a killed sidecar left in its journal is moved to the ledger first, so that usage is whole.
    """
    settings, clock = snapshot.settings, SystemClock()
    async with contextlib.AsyncExitStack() as rooms:
        journal = open_journal(snapshot, clock)
        rooms.callback(journal.close)
        store = await open_store(settings, journal.identity)
        rooms.push_async_callback(close_store, store)
        if journal.leftovers:
            await shipper_of(settings, journal, store, clock).recover()
        await recover_all(snapshot, clock, store)
        peppers = Peppers.from_settings(settings.identity.api_key, settings.data)
        payee = payee_of(snapshot, store, clock)
        if payee is not None:
            rooms.push_async_callback(payee.parts.close)
        mint = partial(new_key, peppers, settings.identity.api_key.brand)
        limits = open_limits(settings)
        if limits is not None:
            rooms.push_async_callback(limits.close)
        admission = Admission(clock, partial(_total, store), limit_store=limits)
        rooms.push_async_callback(admission.close)
        admission.load(snapshot)
        parts = store, mint, clock, _unknown, _nothing, payee
        yield operations(lambda: snapshot, *parts, lambda: admission, live=False)


async def apply_schema(snapshot: Snapshot, owner_url: str) -> list[int]:
    """Brings the PostgreSQL schema to this version as its owner, for the role that ``storage:`` logs in as.

    The numbers of the migrations that were applied. StoreError.
    """
    return await migrate_schema(owner_url, _postgresql_user(snapshot.settings))


async def show_schema(snapshot: Snapshot) -> tuple[int, tuple[int, ...]]:
    """The PostgreSQL schema's number and those of the migrations to be applied. StoreError."""
    _postgresql_user(snapshot.settings)
    state = await schema_state(snapshot.settings.storage)
    return state.version, state.pending


async def move_storage(snapshot: Snapshot, source: str, say: Callable[[str], None]) -> bool:
    """Moves the installation ``sqlite:///PATH`` to the PostgreSQL that ``storage:`` names, while no sidecar runs.

    What is left in the journal goes along. ``say`` gets lines for people. False: it was moved before. StoreError, also
    when it was interrupted or anybody uses either side; the same call goes on where it stopped.
    """
    settings, clock = snapshot.settings, SystemClock()
    _postgresql_user(settings)
    if not source.startswith("sqlite:///"):
        raise StoreError("only a SQLite file can be moved; name it as sqlite:///data/sidecar.db")
    async with contextlib.AsyncExitStack() as rooms:
        journal = open_journal(snapshot, clock)
        rooms.callback(journal.close)
        store = SqliteStore.open(Path(source.removeprefix("sqlite:///")), moving=True)
        rooms.callback(store.close)
        if await store.moved_to() is None:
            if journal.leftovers:
                await shipper_of(settings, journal, store, clock).recover()
            await recover_all(snapshot, clock, store)
        return await move(store, settings.storage, journal.identity, say)


def _postgresql_user(settings: Settings) -> str:
    user = None if settings.storage.startswith("sqlite:") else urlsplit(settings.storage).username
    if user is None:
        raise StoreError("storage: is no PostgreSQL URL; a SQLite file gets its schema when it is opened")
    return unquote(user)


async def _nothing() -> None:
    return None


async def _total(store: Store, tenant: str, meter: str, since_us: int, until_us: int, sandbox: bool) -> int:
    return await store.meter_total(tenant, meter, since_us=since_us, until_us=until_us, sandbox=sandbox)


async def _unknown(tenant: str | None, key_id: str | None) -> None:
    """Nobody has cached anything."""
