"""Measures the journal, the shipper with SQLite, and the recovery, in the folder given (default: a temporary one).

    python -m benchmarks.ledger [folder] [events]

Prints microseconds per call pair, events per second, the time on the event loop's thread per event, and the longest
that the event loop was held while events were shipped. Nothing is compared with a peer here; ``make bench`` does that.
"""

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from sidecar.core.clock import SystemClock
from sidecar.core.ids import EventIds
from sidecar.core.policy import JournalSettings
from sidecar.core.records import encode_call, encode_intent, principal_fragment, text_fragment
from sidecar.ledger import Journal, Retention, Shipper
from sidecar.storage import SqliteStore
from tests.journals import Text, begin, end

MONTH_NS = 30 * 86_400_000_000_000
_ids = EventIds()
_principals = [principal_fragment(f"tenant{i}", f"k{i:08d}", "pro", sandbox=False) for i in range(20)]
_routes = [text_fragment(name) for name in ("search", "chat", "files")]


def pairs(count: int) -> list[tuple[bytes, bytes]]:
    """Intent and done record of ``count`` calls by 20 keys on 3 routes, all now; half of them take 3 to 8 ms (the
    spread decides how many buckets of latency a batch adds to)."""
    made, draw = [], random.Random(1)
    for i in range(count):
        now_ns = time.time_ns()
        head = (_ids.next(now_ns), now_ns // 1000, _principals[i % 20], _routes[i % 3], b'"GET"')
        took_us = int(draw.lognormvariate(8.5, 0.7))
        done = encode_call(*head, 200, b"ok", 1, 15, 0, 400 + i % 50, took_us, took_us, 700, b'{"requests":1}')
        made.append((encode_intent(head[0], *head[2:]), done))
    return made


def settings(durability: str) -> JournalSettings:
    return JournalSettings(durability=durability, max_bytes=4 * 1024**3)


async def measure_pairs(folder: Path, calls: list[tuple[bytes, bytes]], durability: str, turn: int = 1) -> None:
    """``turn``: calls whose records are written at once."""
    journal = Journal(folder / f"pairs-{durability}-{turn}", settings(durability), SystemClock())
    journal.open()
    slices = []
    part = calls[:1000]  # the same over and over: in service a record is written from the cache that it was made in
    for _ in range(len(calls) // len(part)):
        entries = [Text(*call) for call in part]
        began = time.perf_counter()
        for at in range(0, len(part), turn):
            for entry in entries[at : at + turn]:
                journal.begin(entry, len(entry.intent))
                journal.end(entry)
            journal.flush()
        slices.append((time.perf_counter() - began) / len(part) * 1e6)
        await asyncio.sleep(0)
    what = f"begin+end, {durability:7}, {turn:2} in a frame"
    print(f"{what}: median {statistics.median(slices):.2f} us, mean {statistics.mean(slices):.2f} us")
    journal.close()


async def measure_raw_writes(folder: Path, calls: list[tuple[bytes, bytes]]) -> None:
    fd = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    began = time.perf_counter()
    part = calls[:1000]
    for _ in range(len(calls) // len(part)):
        for intent, done in part:
            os.write(fd, intent)
            os.write(fd, done)
    print(f"two os.write, no frame, no checksum: {(time.perf_counter() - began) / len(calls) * 1e6:.2f} us")
    os.close(fd)


async def measure_steady(folder: Path, calls: list[tuple[bytes, bytes]]) -> None:
    """The loop's thread while calls arrive and are shipped at once: what shipping adds to it."""
    store = SqliteStore.open(folder / "steady" / "sidecar.db")
    journal = Journal(folder / "steady" / "journal", settings("process"), SystemClock())
    shipper = Shipper(journal, store, SystemClock(), keep=Retention(MONTH_NS, 13 * MONTH_NS, 120 * MONTH_NS))
    await shipper.recover()
    shipper.start()
    busy = 0.0
    cpu = time.thread_time()
    for number, (intent, done) in enumerate(calls):
        if number % 20 == 0:
            busy -= time.thread_time()
        end(journal, begin(journal, intent), done)
        if number % 20 == 19:
            busy += time.thread_time()
            await asyncio.sleep(0.0005)  # 20 calls every 0.5 ms: at most 40,000 a second
    total = time.thread_time() - cpu
    await shipper.flush()
    sleeping = time.thread_time()
    for _ in range(len(calls) // 20):
        await asyncio.sleep(0.0005)
    sleeping = time.thread_time() - sleeping
    added = max(total - busy - sleeping, 0.0) / len(calls) * 1e6
    print(f"shipping as calls arrive: adds {added:.2f} us/event to the loop's thread")
    assert await shipper.stop()
    journal.close()
    store.close()


async def measure_shipping(folder: Path, calls: list[tuple[bytes, bytes]]) -> None:
    """The whole way with the loop idle but for it: what the store can take, and what it costs the loop's thread."""
    store = SqliteStore.open(folder / "ship" / "sidecar.db")
    journal = Journal(folder / "ship" / "journal", settings("process"), SystemClock())
    shipper = Shipper(journal, store, SystemClock(), keep=Retention(MONTH_NS, 13 * MONTH_NS, 120 * MONTH_NS))
    await shipper.recover()
    for intent, done in calls:
        end(journal, begin(journal, intent), done)
    held: list[float] = []
    watching = asyncio.create_task(watch(held))
    cpu, began = time.thread_time(), time.perf_counter()
    await shipper.flush()
    took = time.perf_counter() - began
    watching.cancel()
    on_loop = (time.thread_time() - cpu) / len(calls) * 1e6
    print(
        f"journal to SQLite: {len(calls) / took:,.0f} events/s; loop thread {on_loop:.2f} us/event with the watcher; "
        f"loop held: p99 {sorted(held)[int(len(held) * 0.99)] * 1e3:.1f} ms, longest {max(held) * 1e3:.1f} ms"
    )
    began = time.perf_counter()
    now_us = time.time_ns() // 1000
    report = await store.usage("tenant1", since_us=0, until_us=now_us + 60_000_000)
    print(f"usage report of one of 20 tenants: {report.totals.requests:,} calls in {time.perf_counter() - began:.4f} s")
    assert await shipper.stop()
    journal.close()
    store.close()


async def watch(held: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.0005)
        held.append(max(time.perf_counter() - began - 0.0005, 0.0))


async def measure_recovery(folder: Path, calls: list[tuple[bytes, bytes]]) -> None:
    journal = Journal(folder / "recover" / "journal", settings("process"), SystemClock())
    journal.open()
    for intent, done in calls:
        end(journal, begin(journal, intent), done)
    journal.close()
    store = SqliteStore.open(folder / "recover" / "sidecar.db")
    journal = Journal(folder / "recover" / "journal", settings("process"), SystemClock())
    shipper = Shipper(journal, store, SystemClock(), keep=Retention(MONTH_NS, 13 * MONTH_NS, 120 * MONTH_NS))
    began = time.perf_counter()
    await shipper.recover()
    took = time.perf_counter() - began
    print(f"recovery of {2 * len(calls):,} records: {took:.2f} s ({2 * len(calls) / took:,.0f} records/s)")
    journal.close()
    store.close()


async def main(folder: Path, events: int) -> None:
    calls = pairs(events)
    await measure_raw_writes(folder, calls)
    for durability in ("process", "group"):
        for turn in (1, 20):
            await measure_pairs(folder, calls, durability, turn)
    await measure_steady(folder, calls[:100_000])
    await measure_shipping(folder, calls)
    await measure_recovery(folder, calls)


if __name__ == "__main__":
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 200_000
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as temporary:
        asyncio.run(main(Path(temporary), count))
