"""What sharing limits costs: the sidecar with limits of its own, with limits in Redis, with money there too, in turns.

Redis runs on the load generator's core, as it would on another machine. Its own time per call of a script, and how many
calls there were for each request, stand below the table; with ten limits one call holds all ten.
"""

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks import redis_store, report, turns, under_test
from benchmarks.lineup import Peer, Server, Setting
from benchmarks.stage import Failed, Stage

_LEAST = 0.9
_MOST_US = 150  # of Redis for a call with ten limits
_QUOTAS = "    quotas:\n      - {name: monthly, meter: requests, limit: 10_000_000_000"
_MINUTE = {"window: 1s": "window: 1m"}
_MONEY = """\
    price: {meters: {requests: {amount: "0.000001 USD"}}}
    spend_cap: {limit: "100000.00 USD", period: month, overage: block}
"""
_TEN = "".join(
    f"      - {{name: more-{number}, limit: {10_000_000 + number}, window: {number}m, scope: [key]}}\n"
    for number in range(2, 10)
)


def _start(name: str, edits: Mapping[str, str], setting: Setting) -> Server:
    redis = 0
    if name != "local":
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
        _seen[name] = took_us / calls
        return f"{said}; Redis ran {calls:,} scripts of {took_us / calls:.0f} us, {calls / requests:.4f} per request"

    return Server(sidecar.process, sidecar.port, sidecar.key, sidecar.tiny_key, confirm)


_seen: dict[str, float] = {}  # peer to microseconds of Redis per script


def _peer(name: str, title: str, does: str, edits: Mapping[str, str]) -> Peer:
    return Peer(name, title, does, "nothing", partial(_start, name, edits), checks_keys=True, limits=True)


_PEERS = (
    _peer("local", "limits of its own", "two windows and a quota in the process", {}),
    _peer("minute", "limits in Redis", "two windows of a minute and the quota, leased from Redis", _MINUTE),
    _peer("second", "one of them per second", "a window of a second, one of a minute, the quota, leased", {}),
    _peer("ten", "ten limits in Redis", "ten windows of minutes and the quota", {**_MINUTE, _QUOTAS: _TEN + _QUOTAS}),
    _peer("money", "limits and money in Redis", "two, the quota, a spend cap", {**_MINUTE, _QUOTAS: _MONEY + _QUOTAS}),
)


def measure(stage: Stage, load: turns.Options, say: Callable[[str], None]) -> report.Part:
    """Five sidecars in turns, and the share of the first one's rate that those with Redis reach."""
    _seen.clear()
    results = turns.measure(stage, _PEERS, load, say)
    names = {
        "minute": "rate with limits in Redis over limits of its own",
        "second": "rate with one limit per second in Redis over limits of its own",
        "money": "rate with limits and money in Redis over limits of its own",
    }
    marks = report.share_marks(results, "local", names, _LEAST)
    if "ten" in _seen:
        title = "Redis' time for a call with ten limits and a quota"
        marks += (report.Mark(title, f"{_seen['ten']:.0f} us", f"under {_MOST_US} us", _seen["ten"] < _MOST_US),)
    return report.part_alone("Limits in Redis", report.lane_part(results, load), marks)
