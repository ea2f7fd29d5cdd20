"""What sharing limits costs: the sidecar with limits of its own, with limits in Redis, and both with money, in turns.

Redis runs on the load generator's core, as it would on another machine; how many of its scripts ran for each request,
and how long each took there, stands below the table. What a call with ten limits takes Redis is measured by itself,
on a core that nothing else needs, with windows that are full of cells.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from statistics import median

from benchmarks import redis_store, report, turns, under_test
from benchmarks.lineup import Peer, Server, Setting
from benchmarks.stage import Failed, Stage
from sidecar.core.leases import Ask, CounterAsk, life_us
from sidecar.core.redis_address import RedisAddress
from sidecar.storage.redis import RedisLimitStore

_LEAST = 0.9
_MOST_US = 150  # of Redis for a call with ten limits
_QUOTAS = "    quotas:\n      - {name: monthly, meter: requests, limit: 10_000_000_000"
_MINUTE = {"window: 1s": "window: 1m"}
_MONEY = """\
    price: {meters: {requests: {amount: "0.000001 USD"}}}
    spend_cap: {limit: "100000.00 USD", period: month, overage: block}
"""
_WINDOW_US = 900_000  # of the ten
_BATCH = 200


def _start(name: str, edits: Mapping[str, str], setting: Setting) -> Server:
    redis = 0
    if not name.startswith("own"):
        redis = redis_store.start(setting.stage, f"redis-{name}")
        edits = {"limits: local\n": f"limits: redis://127.0.0.1:{redis}\n", **edits}
    sidecar = under_test.start(setting.stage, f"sidecar-{name}", setting.upstream, edits=edits)

    def confirm(requests: int) -> str:
        said = sidecar.confirm(requests)
        if not redis:
            return said
        calls, took_us = redis_store.scripts(redis)
        if calls == 0:
            raise Failed("Redis ran no script: the limits are not there")
        return f"{said}; Redis ran {calls:,} scripts of {took_us / calls:.0f} us, {calls / requests:.4f} per request"

    return Server(sidecar.process, sidecar.port, sidecar.key, sidecar.tiny_key, confirm)


def _peer(name: str, title: str, does: str, edits: Mapping[str, str]) -> Peer:
    return Peer(name, title, does, "nothing", partial(_start, name, edits), checks_keys=True, limits=True)


_PEERS = (
    _peer("own", "limits of its own", "two windows and a quota in the process", {}),
    _peer("minute", "limits in Redis", "two windows of a minute and the quota, leased from Redis", _MINUTE),
    _peer("second", "one of them per second", "a window of a second, one of a minute, the quota, leased", {}),
    _peer("own-money", "limits and money of its own", "two, the quota, a spend cap", {_QUOTAS: _MONEY + _QUOTAS}),
    _peer("money", "limits and money in Redis", "two, the quota, a spend cap", {**_MINUTE, _QUOTAS: _MONEY + _QUOTAS}),
)


def measure(stage: Stage, load: turns.Options, say: Callable[[str], None]) -> report.Part:
    """Five sidecars in turns, and the share of the rate with limits of its own that each with Redis reaches."""
    results = turns.measure(stage, _PEERS, load, say)
    names = {
        "minute": "rate with limits in Redis over limits of its own",
        "second": "rate with one limit per second in Redis over limits of its own",
    }
    marks = report.share_marks(results, "own", names, _LEAST)
    names = {"money": "rate with limits and money in Redis over both of its own"}
    marks += report.share_marks(results, "own-money", names, _LEAST)
    took_us = asyncio.run(_ten(stage))
    title = "Redis' time for a call with ten limits, median of 20 times 200"
    marks += (report.Mark(title, f"{took_us:.0f} us", f"under {_MOST_US} us", took_us < _MOST_US),)
    return report.part_alone("Limits in Redis", report.lane_part(results, load), marks)


async def _ten(stage: Stage) -> float:
    """Microseconds of Redis per call that takes a unit of each of ten limits."""
    port, calls = redis_store.start(stage, "redis-ten", on_load_core=False), count(1)
    store = RedisLimitStore(RedisAddress.parse(f"redis://127.0.0.1:{port}"), budget_s=5)
    counters = tuple(CounterAsk(f"limit-{i}", 10**9, _WINDOW_US, life_us(_WINDOW_US)) for i in range(10))

    async def call() -> None:
        await store.lease(Ask("acme", 1, 1, 0, 0, next(calls), counters))

    try:
        full = time.monotonic() + 2 * _WINDOW_US / 1e6
        while time.monotonic() < full:
            await call()
        took_us = []
        for _ in range(20):
            before = redis_store.scripts(port)
            for _ in range(_BATCH):
                await call()
            ran, us = (now - then for now, then in zip(redis_store.scripts(port), before, strict=True))
            took_us.append(us / ran)
        return median(took_us)
    finally:
        await store.close()
