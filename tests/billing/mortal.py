"""A process that reports what a store holds, and may be killed anywhere: what its child does, and how to start one."""

import asyncio
import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import apsw

from sidecar.billing import payee_of
from sidecar.billing.access import Keeper, Newcomers
from sidecar.billing.access.inbox import Inbox
from sidecar.billing.outbox import Assigner, Events, Rules, Sender
from sidecar.billing.reconcile import Verifier
from sidecar.billing.stripe import MeterEvents, MeterSums, StripeClient
from sidecar.core.accounts import PaymentCounts
from sidecar.core.billing_settings import StripeSettings
from sidecar.core.clock import Clock, ManualClock
from sidecar.core.policy import Snapshot
from sidecar.identity import Peppers, new_key
from sidecar.storage import SqliteStore

KEY = "sk_test_fake"
PEPPERS = Peppers({"p1": "a pepper for the tests"})
_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["tests.billing.mortal"])


def start(path: Path, url: str, event_name: str, *, wall_ns: int, die_at: int = 0, looks: bool = False) -> Any:
    """The running process; it takes ``wall_ns`` for the time. ``die_at``: the SQL statement before which it kills
    itself (SIGKILL), 0: none. ``looks``: whether it reads the payee's sums too, as before an invoice is final."""
    process = _FORK.Process(target=_live, args=(str(path), url, event_name, wall_ns, die_at, looks))
    process.start()
    return process


def start_inbox(path: Path, url: str, snapshot: Snapshot, *, wall_ns: int, die_at: int = 0) -> Any:
    """As ``start``, a process that writes down what happened at Stripe and works it off."""
    process = _FORK.Process(target=_follow, args=(str(path), url, snapshot, wall_ns, die_at))
    process.start()
    return process


def start_parity(path: Path, snapshot: Snapshot, *, wall_ns: int, die_at: int = 0) -> Any:
    """As ``start``, a process that compares the book with invoices, and sends what that found missing."""
    process = _FORK.Process(target=_compare, args=(str(path), snapshot, wall_ns, die_at))
    process.start()
    return process


def _compare(path: str, snapshot: Snapshot, wall_ns: int, die_at: int) -> None:
    store = SqliteStore.open(Path(path))
    if die_at:
        _die_at(store, die_at)
    asyncio.run(_keep(store, snapshot, ManualClock(wall_ns=wall_ns)))
    store.close()


async def _keep(store: SqliteStore, snapshot: Snapshot, clock: Clock) -> None:
    payee = payee_of(snapshot, store, clock, sleep=_at_once)
    assert payee is not None
    assert payee.parts.parity is not None
    try:
        await payee.parts.parity.keep()
        while await payee.parts.sender.send():
            pass
    finally:
        await payee.parts.close()


def _follow(path: str, url: str, snapshot: Snapshot, wall_ns: int, die_at: int) -> None:
    store = SqliteStore.open(Path(path))
    if die_at:
        _die_at(store, die_at)
    asyncio.run(_round(store, url, snapshot, ManualClock(wall_ns=wall_ns)))
    store.close()


async def _round(store: SqliteStore, url: str, snapshot: Snapshot, clock: Clock) -> None:
    client, counts = StripeClient(StripeSettings(KEY, api=url)), PaymentCounts()
    keeper = Keeper(store, client, lambda: snapshot, clock, counts)
    newcomers = Newcomers(store, client, keeper, lambda: snapshot, _no_key, clock, counts.faults)
    try:
        await Inbox(store, client, keeper, newcomers, lambda: snapshot, clock, counts).round()
    finally:
        await client.close()


def start_welcome(
    path: Path, url: str, snapshot: Snapshot, words: tuple[str, str], shown: Path, *, wall_ns: int, die_at: int = 0
) -> Any:
    """As ``start``, a process that a browser asks for its first key, with the session and the token that are ``words``:
    what it is shown is appended to the file ``shown``. ``die_at`` -1: when all is written down and nothing is shown."""
    process = _FORK.Process(target=_welcome, args=(str(path), url, snapshot, words, str(shown), wall_ns, die_at))
    process.start()
    return process


def _welcome(
    path: str, url: str, snapshot: Snapshot, words: tuple[str, str], shown: str, wall_ns: int, die_at: int
) -> None:
    store = SqliteStore.open(Path(path))
    if die_at > 0:
        _die_at(store, die_at)
    asyncio.run(_show(store, url, snapshot, words, Path(shown), ManualClock(wall_ns=wall_ns), die_at == -1))
    store.close()


async def _show(
    store: SqliteStore, url: str, snapshot: Snapshot, words: tuple[str, str], shown: Path, clock: Clock, dies: bool
) -> None:
    client, counts = StripeClient(StripeSettings(KEY, api=url)), PaymentCounts()
    keeper = Keeper(store, client, lambda: snapshot, clock, counts)
    mint = partial(new_key, PEPPERS, "sk")
    newcomers = Newcomers(store, client, keeper, lambda: snapshot, mint, clock, counts.faults)
    try:
        found = await newcomers.first_key(*words)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        with shown.open("a") as file:
            file.write(f"{found.key or found.state}\n")
        if found.key:
            await newcomers.shown(found.tenant)
    finally:
        await client.close()


def _no_key(**_: Any) -> Any:
    raise AssertionError("nobody asked for a key")


def _live(path: str, url: str, event_name: str, wall_ns: int, die_at: int, looks: bool) -> None:
    """Assigns and sends what is due, and verifies when it looks, once, and ends."""
    store = SqliteStore.open(Path(path))
    if die_at:
        _die_at(store, die_at)
    asyncio.run(_report(store, url, event_name, ManualClock(wall_ns=wall_ns), looks))
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


async def _report(store: SqliteStore, url: str, event_name: str, clock: Clock, looks: bool) -> None:
    client = StripeClient(StripeSettings(KEY, api=url))
    sums = MeterSums(client, clock, sleep=_at_once)
    rules = Rules()
    try:
        await Assigner(store, Events(added={"tokens": event_name}), rules.terms, clock).assign()
        sender = Sender(store, MeterEvents(client), sums, clock, rules=rules, rate=1000, sleep=_at_once)
        while await sender.send():
            pass
        if looks:
            verifier = Verifier(store, sums, clock)
            await _look(store, verifier, event_name)
            while await sender.send():
                pass
            await _look(store, verifier, event_name)
    finally:
        await client.close()


async def _look(store: SqliteStore, verifier: Verifier, event_name: str) -> None:
    await verifier.verify()
    account = await store.account("acme")
    assert account is not None
    for period in account.periods:
        await verifier.look_again(event_name, account.customer, period)


async def _at_once(seconds: float) -> None:
    return None
