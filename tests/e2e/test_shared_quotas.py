"""Two real processes on one Redis and one PostgreSQL: one quota, whatever is killed, flushed or restarted."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.api import Api
from tests.e2e.process import PATIENCE_S, Sidecar, write_config
from tests.storage.postgres.server import shared_server
from tests.storage.redis.server import Server, running

POLICIES = """
plans:
  free: {quotas: [{name: monthly, meter: requests, limit: 60, period: month}]}
tenants: {acme: {plan: free}, bell: {plan: free}, crash: {plan: free}}
routes: [{name: echo, match: {path: "/echo/{rest...}"}, upstream: api}]
"""


@pytest.fixture
def redis() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def nodes(api: Api, redis: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Sidecar]]:
    with ExitStack() as stack:
        monkeypatch.setenv("DATABASE_URL", stack.enter_context(shared_server()).migrated().url)
        made = []
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            monkeypatch.setenv("PEPPER", "s" * 43)
            peppers = (
                "identity: {api_key: {peppers: [{id: one, secret: '${PEPPER}'}]}}\n"  # both know each other's keys
            )
            more = f"storage: ${{DATABASE_URL}}\nlimits: {redis.url}\n{peppers}"
            made.append(Sidecar(folder, *write_config(folder, api.url, POLICIES, more)))
            stack.callback(made[-1].close)
            made[-1].start()
        yield made


def calls(node: Sidecar, key: str, times: int) -> Counter[int]:
    return Counter(node.call("GET", "/echo/", key=key).status for _ in range(times))


def settled_within(redis: Server, nodes: list[Sidecar], key: str) -> None:
    """Both refuse: nothing is out any more."""
    deadline = time.monotonic() + PATIENCE_S
    while any(node.call("GET", "/echo/", key=key).status != 429 for node in nodes):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_two_processes_hold_one_quota_through_a_flush_and_a_restart_of_redis(
    nodes: list[Sidecar], redis: Server
) -> None:
    """Kong/kong#2669, unkeyed/unkey#403, envoyproxy/ratelimit#297: exactly 60, and 503 while nobody can know."""
    a, b = nodes
    key = a.another_key("acme")
    seen = calls(a, key, 25) + calls(b, key, 25)
    assert seen == {200: 50}
    assert a.usage("acme", 50)["requests"] == 50  # the ledger has it all
    redis.cli("FLUSHALL")
    seen += calls(b, key, 20) + calls(a, key, 20)
    assert seen[200] == 60
    redis.stop()
    assert set(calls(a, key, 3)) <= {429, 503}
    assert set(calls(b, a.another_key("bell"), 4)) == {503}
    redis.start()  # with nothing in it
    settled_within(redis, nodes, key)
    assert calls(a, key, 10) + calls(b, key, 10) == {429: 20}
    assert a.usage("acme", 60)["requests"] == 60


def test_a_killed_process_takes_little_with_it_and_nothing_is_admitted_twice(nodes: list[Sidecar]) -> None:
    """BerriAI/litellm#27639: what it had in hand comes back after 30 s (tests/admission), what it had served counts."""
    a, b = nodes
    key = a.another_key("crash")
    assert calls(a, key, 30) == {200: 30}
    a.kill()
    seen = calls(b, key, 40)
    a.start()
    seen += calls(a, key, 10)
    assert 45 <= 30 + seen[200] <= 60
    assert a.usage("crash", 30 + seen[200])["requests"] <= 60
