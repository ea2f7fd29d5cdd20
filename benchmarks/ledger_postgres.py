"""Measures what PostgreSQL takes: events per second, and the processor's time per event here and in the server.

    python -m benchmarks.ledger_postgres [events]

The server is the one that SIDECAR_TEST_POSTGRES names (a superuser's URL), or one of its own in a temporary folder,
with fsync on and PostgreSQL's own defaults but for 256 MB of shared buffers. Client and server share the machine.
"""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil

from sidecar.core.clock import SystemClock
from sidecar.core.ids import EventIds
from sidecar.core.policy import JournalSettings
from sidecar.core.ports import Position, UsageQuery
from sidecar.core.records import encode_call, encode_intent, principal_fragment, text_fragment
from sidecar.ledger import Journal, Retention, Shipper
from sidecar.storage.postgres import PostgresStore
from sidecar.storage.postgres.batch import Csv, as_rows
from tests.journals import begin, end
from tests.storage.postgres.server import Process, Server

BATCH = 8192
MONTH_NS = 30 * 86_400_000_000_000
_SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "4GB"}
_ids = EventIds()


def calls(count: int, keys: int, *, distinct_meters: bool = False, escaped: bool = False) -> list[bytes]:
    """Done records of that many keys, each of its own tenant, on 3 routes, all now."""
    name = 'tenant "{}"' if escaped else "tenant{}"
    principals = [principal_fragment(name.format(i), f"k{i:08d}", "pro", sandbox=False) for i in range(keys)]
    routes = [text_fragment(name) for name in ("search", "chat", "files")]
    made = []
    for i in range(count):
        now_ns = time.time_ns()
        head = (_ids.next(now_ns), now_ns // 1000, principals[i % keys], routes[i % 3], b'"GET"')
        meters = b'{"requests":1,"tokens":%d}' % (i * 7919 % 4000) if distinct_meters else b'{"requests":1}'
        made.append(encode_call(*head, 200, b"ok", 1, 15, 0, 400 + i % 50, 900 + i % 700, 800, 700, meters))
    return made


async def measure_appends(store: PostgresStore, what: str, records: list[bytes]) -> None:
    """Straight into the port, one batch after the other. The first batch is not counted."""
    await store.append(records[:BATCH], Position(1, 0))
    server = _server_time()
    here, began = time.process_time(), time.perf_counter()
    for start in range(BATCH, len(records), BATCH):
        await store.append(records[start : start + BATCH], Position(1, start))
    took, count = time.perf_counter() - began, len(records) - BATCH
    here_us, server_us = (time.process_time() - here) / count * 1e6, (_server_time() - server) / count * 1e6
    print(f"{what}: {count / took:,.0f} events/s; per event {here_us:.1f} us here, {server_us:.1f} us in the server")


async def measure_shipping(store: PostgresStore, folder: Path, count: int) -> None:
    """From the journal, with the loop idle but for it: what shipping takes, and how long it holds the loop."""
    journal = Journal(folder / "journal", JournalSettings(max_bytes=4 * 1024**3), SystemClock())
    shipper = Shipper(journal, store, SystemClock(), keep=Retention(MONTH_NS, MONTH_NS, MONTH_NS))
    await shipper.recover()
    for done in calls(count, 20):
        intent = encode_intent(done[6:42], b'"t","k","p",0', b'"r"', b'"GET"')
        end(journal, begin(journal, intent), done)
    held: list[float] = []
    watching = asyncio.create_task(_watch(held))
    cpu, began = time.thread_time(), time.perf_counter()
    await shipper.flush()
    took = time.perf_counter() - began
    on_loop = (time.thread_time() - cpu) / count * 1e6
    watching.cancel()
    held.sort()
    print(
        f"journal to PostgreSQL: {count / took:,.0f} events/s; loop thread {on_loop:.2f} us/event with the watcher; "
        f"loop held: p99 {held[int(len(held) * 0.99)] * 1e3:.1f} ms, longest {held[-1] * 1e3:.1f} ms"
    )
    assert await shipper.stop()
    journal.close()


async def measure_ways(records: list[bytes]) -> None:
    """What the two ways of preparing a batch take of this process, which the lane shares the interpreter with."""
    for name, way in (("as it stands", _parts), ("decoded", _rows)):
        began = time.process_time()
        for start in range(0, len(records), BATCH):
            await way(records[start : start + BATCH])
        print(f"a batch {name}: {(time.process_time() - began) / len(records) * 1e6:.2f} us per event")


async def _parts(records: list[bytes]) -> None:
    async for _ in Csv(records):
        pass


async def _rows(records: list[bytes]) -> None:
    as_rows(records)


async def measure_reports(store: PostgresStore) -> None:
    until_us = (time.time_ns() // 60_000_000_000 + 1) * 60_000_000
    month_us = 30 * 86_400_000_000
    began = time.perf_counter()
    report = await store.usage("tenant1", since_us=until_us - month_us, until_us=until_us)
    print(f"usage of one tenant, a month: {report.totals.requests:,} calls in {time.perf_counter() - began:.4f} s")
    began = time.perf_counter()
    rows = await store.usage_rows(UsageQuery(("tenant", "route"), until_us - month_us, until_us, limit=100))
    print(f"a page of all tenants by route, a month: {len(rows)} rows in {time.perf_counter() - began:.4f} s")


async def _watch(held: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.0005)
        held.append(max(time.perf_counter() - began - 0.0005, 0.0))


def _server_time() -> float:
    """Processor seconds of all PostgreSQL processes on this machine so far."""
    running = [process.info for process in psutil.process_iter(["name", "cpu_times"])]
    return sum(info["cpu_times"].user + info["cpu_times"].system for info in running if info["name"] == "postgres")


async def main(database_url: str, folder: Path, count: int) -> None:
    await measure_ways(calls(min(count, 50_000), 20))
    store = await PostgresStore.open(database_url, journal="benchmark")
    await measure_appends(store, "20 keys", calls(count, 20))
    await measure_appends(store, "20 keys, a different count of tokens in each", calls(count, 20, distinct_meters=True))
    await measure_appends(store, "2,000 tenants", calls(count, 2000))
    await measure_appends(store, "names with quotes, so decoded", calls(count, 20, escaped=True))
    await measure_reports(store)
    await store.close()
    other = await PostgresStore.open(database_url, journal="benchmark-2")
    await measure_shipping(other, folder, count)
    await other.close()


if __name__ == "__main__":
    given = os.environ.get("SIDECAR_TEST_POSTGRES")
    process = None if given else Process(_SETTINGS)
    try:
        server = Server(given or process.url)  # type: ignore[union-attr]
        with tempfile.TemporaryDirectory() as temporary:
            events = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
            asyncio.run(main(server.migrated().url, Path(temporary), events))
        server.close()
    finally:
        if process is not None:
            process.remove()
