"""What a running sidecar and an offline command are both made of."""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from sidecar.admin import Changed, CreditDesk, Desk, Explainer, Mint, Operations, TermsDesk
from sidecar.admission import Admission
from sidecar.billing import Payee
from sidecar.config import TenantTerms
from sidecar.core.clock import Clock
from sidecar.core.policy import JournalSettings, Settings, Snapshot
from sidecar.core.ports import JournalSink
from sidecar.core.redis_address import RedisAddress
from sidecar.ledger import Journal, Retention, Shipper, done_extra
from sidecar.storage import PostgresStore, RedisLimitStore, SqliteStore

Store: TypeAlias = SqliteStore | PostgresStore
_log = logging.getLogger("sidecar")


async def open_store(settings: Settings, journal: str) -> Store:
    """The store that ``storage:`` names, opened for the journal of that identity. StoreError."""
    if not settings.storage.startswith("sqlite:"):
        return await PostgresStore.open(settings.storage, journal=journal)
    return _open_sqlite(Path(settings.storage.removeprefix("sqlite:///")), Path(settings.data))


def _open_sqlite(path: Path, data: Path) -> SqliteStore:
    if not path.exists() and (data / "pepper").exists():
        _log.warning("the database %s is missing; a new one is made, without tenants, keys and usage", path)
    return SqliteStore.open(path)


async def close_store(store: Store) -> None:
    if isinstance(store, PostgresStore):
        await store.close()
    else:
        store.close()


def journal_folder(snapshot: Snapshot, number: int) -> Path:
    return Path(snapshot.settings.data) / (f"journal-{number}" if number else "journal")


def open_journal(snapshot: Snapshot, clock: Clock, settings: JournalSettings | None = None, number: int = 0) -> Journal:
    """Journal ``number``: 0 is that of a process without workers. ``settings`` None: those of the snapshot."""
    settings = settings or snapshot.settings.journal
    return Journal(journal_folder(snapshot, number), settings, clock, extra=done_extra(snapshot))


def shipper_of(settings: Settings, journal: Journal, sink: JournalSink, clock: Clock) -> Shipper:
    keep = Retention(settings.raw_events_ns, settings.minute_sums_ns, settings.hour_sums_ns)
    return Shipper(journal, sink, clock, keep=keep)


def operations(
    snapshot: Callable[[], Snapshot],
    store: Store,
    mint: Mint,
    clock: Clock,
    changed: Changed,
    flush: Callable[[], Awaitable[None]],
    payee: Payee | None,
    admission: Callable[[], Admission],
    *,
    live: bool = True,
) -> Operations:
    """``admission``: whose counters explain a decision; ``live``: they are those that decide."""
    desk = Desk(store, None if payee is None else payee.reporter, clock)
    books = store if snapshot().settings.billing.stripe is not None else None
    explainer = Explainer(store, books, snapshot, admission, clock, live=live)
    terms = TermsDesk(store, snapshot, TenantTerms(), clock, changed)
    credits = CreditDesk(store, store, snapshot, clock, changed, flush)
    return Operations(store, store, snapshot, mint, clock, changed, flush, store, desk, explainer, credits, terms)


def open_limits(settings: Settings) -> RedisLimitStore | None:
    """Who counts the limits that nodes share; None where they are counted in process. Connects at the first use."""
    return None if settings.limits == "local" else RedisLimitStore(RedisAddress.parse(settings.limits))
