"""A process that reports what a store holds, and may be killed anywhere: what its child does, and how to start one."""

import asyncio
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import apsw

from sidecar.billing.outbox import Assigner, Events, Rules, Sender
from sidecar.billing.stripe import MeterEvents, MeterSums, StripeClient
from sidecar.core.billing_settings import StripeSettings
from sidecar.core.clock import Clock, ManualClock
from sidecar.storage import SqliteStore

KEY = "sk_test_fake"
_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["tests.billing.mortal"])


def start(path: Path, url: str, event_name: str, *, wall_ns: int, die_at: int = 0) -> Any:
    """The running process; it takes ``wall_ns`` for the time. ``die_at``: the SQL statement before which it kills
    itself (SIGKILL), 0: none."""
    process = _FORK.Process(target=_live, args=(str(path), url, event_name, wall_ns, die_at))
    process.start()
    return process


def _live(path: str, url: str, event_name: str, wall_ns: int, die_at: int) -> None:
    """Assigns and sends what is due, once, and ends."""
    store = SqliteStore.open(Path(path))
    if die_at:
        _die_at(store, die_at)
    asyncio.run(_report(store, url, event_name, ManualClock(wall_ns=wall_ns)))
    store.close()


def _die_at(store: SqliteStore, number: int) -> None:
    """Statements are counted from here on, over all connections: opening the database is not what is tried."""
    left = number

    def trace(cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    for thread in (store._writer, store._lookups, store._reports):
        if thread is not None:
            thread.call(lambda connection: connection.set_exec_trace(trace))


async def _report(store: SqliteStore, url: str, event_name: str, clock: Clock) -> None:
    client = StripeClient(StripeSettings(KEY, api=url))
    sums = MeterSums(client, clock, sleep=_at_once)
    rules = Rules()
    try:
        await Assigner(store, Events(added={"tokens": event_name}), rules.terms, clock).assign()
        sender = Sender(store, MeterEvents(client), sums, clock, rules=rules, rate=1000, sleep=_at_once)
        while await sender.send():
            pass
    finally:
        await client.close()


async def _at_once(seconds: float) -> None:
    return None
