"""Two real processes on one Redis and one PostgreSQL: one quota, whatever is killed, flushed or restarted."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.api import Api
from tests.e2e.fleet import two_nodes
from tests.e2e.process import Sidecar, until
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
    with two_nodes(tmp_path, api, redis, POLICIES, monkeypatch) as made:
        yield made


def calls(node: Sidecar, key: str, times: int) -> Counter[int]:
    return Counter(node.call("GET", "/echo/", key=key).status for _ in range(times))


def settled_within(nodes: list[Sidecar], key: str) -> None:
    """Both refuse: nothing is out any more."""
    until(lambda: all(node.call("GET", "/echo/", key=key).status == 429 for node in nodes))


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

    def all_have_passed() -> bool:
        seen.update(calls(a, key, 1) + calls(b, key, 1))
        return seen[200] >= 60

    until(all_have_passed)  # what a node had told nobody counts twice until the counter is compared, seconds later
    assert seen[200] == 60
    redis.stop()
    assert set(calls(a, key, 3)) <= {429, 503}
    assert set(calls(b, a.another_key("bell"), 4)) == {503}
    redis.start()  # with nothing in it
    settled_within(nodes, key)
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
