"""Four real processes on one real Redis: never over the limit, few calls, and what happens when Redis goes."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.api import Api
from tests.e2e.process import Sidecar, write_config
from tests.storage.redis.server import Server, running

POLICIES = """
plans:
  free:
    limits:
      - {{name: steady, limit: {limit}, window: {window}, scope: [tenant]{more}}}
tenants: {{acme: {{plan: free}}}}
routes: [{{name: echo, match: {{path: "/echo/{{rest...}}"}}, upstream: api}}]
"""


@pytest.fixture
def redis() -> Iterator[Server]:
    with running() as server:
        yield server


def make(folder: Path, api: Api, redis: Server, limit: int, window: str, more: str = "") -> Sidecar:
    folder.mkdir()
    policies = POLICIES.format(limit=limit, window=window, more=more)
    return Sidecar(folder, *write_config(folder, api.url, policies, f"limits: {redis.url}\n"))


def hammer(sidecar: Sidecar, key: str, until: float, seen: list[tuple[float, float, int]]) -> None:
    while time.monotonic() < until:
        before = time.monotonic()
        status = sidecar.call("GET", "/echo/", key=key).status
        seen.append((before, time.monotonic(), status))


def test_four_processes_never_exceed_one_limit(api: Api, redis: Server, tmp_path: Path) -> None:
    """traefik/traefik#13706, Kong/kong#2669: four nodes, one limit of 150 in any 3 s."""
    nodes = [make(tmp_path / f"n{i}", api, redis, 150, "3s").start() for i in range(4)]
    try:
        keys = [node.another_key("acme") for node in nodes]
        seen: list[tuple[float, float, int]] = []
        until = time.monotonic() + 8
        threads = [
            threading.Thread(target=hammer, args=(node, key, until, seen))
            for node, key in zip(nodes, keys, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for node in nodes:
            node.close()
    assert {status for *_, status in seen} == {200, 429}
    passed = [(before, after) for before, after, status in seen if status == 200]
    # Each was admitted between ``before`` and ``after``: those that lie wholly within 3 s are certainly in one window.
    most = max(sum(start <= before and after < start + 3 for before, after in passed) for start, _ in passed)
    assert 100 < most <= 150


def test_redis_that_goes_and_comes_back(api: Api, redis: Server, tmp_path: Path) -> None:
    """Kong/kong#2382, envoyproxy/ratelimit#1143, #297: not ready, then 503 while gone, then well."""
    redis.stop()
    sidecar = make(tmp_path / "n", api, redis, 1000, "1m", ", exact: true, on_store_error: deny")
    starter = threading.Thread(target=sidecar.start)
    starter.start()
    time.sleep(1.5)
    assert starter.is_alive(), "it must wait for Redis"
    redis.start()
    starter.join(30)
    try:
        key = sidecar.another_key("acme")
        assert sidecar.call("GET", "/echo/", key=key).status == 200
        redis.stop()
        replies = [sidecar.call("GET", "/echo/", key=key) for _ in range(6)]
        assert Counter(reply.status for reply in replies) == {503: 6}
        assert replies[-1].problem()["code"] == "limits_unavailable"
        redis.start()
        deadline = time.monotonic() + 30
        while sidecar.call("GET", "/echo/", key=key).status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        sidecar.close()
