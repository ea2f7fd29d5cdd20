"""Real processes on one real Redis: one concurrency limit for all of them, and a killed one gives its places back."""

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
    test_keys: free
    concurrency: [{name: parallel, limit: 3}]
tenants: {acme: {plan: free}}
routes: [{name: all, match: {path: "/{rest...}"}, upstream: api}]
"""
_PATIENCE_S = 60


class Fleet:
    """Two nodes, and calls that wait at the upstream."""

    def __init__(self, folder: Path, api: Api, redis: Server) -> None:
        self.api = api
        self.nodes = []
        for number in range(2):
            (folder / f"n{number}").mkdir()
            more = f"limits: {redis.url}\n"
            words = write_config(folder / f"n{number}", api.url, POLICIES, more)
            self.nodes.append(Sidecar(folder / f"n{number}", *words).start())
        self.keys = [node.another_key("acme") for node in self.nodes]
        self.statuses: list[int] = []
        self.calls: list[threading.Thread] = []

    def hold(self, number: int) -> None:
        """A call that has reached the upstream and stays there."""
        self.api.hold()
        thread = threading.Thread(target=self._call, args=(number,))
        thread.start()
        self.calls.append(thread)
        assert self.api.arrived.wait(_PATIENCE_S)

    def _call(self, number: int) -> None:
        try:
            self.statuses.append(self.nodes[number].call("GET", "/hold", key=self.keys[number]).status)
        except OSError:
            self.statuses.append(0)  # its node was killed

    def passes(self, number: int) -> int:
        return self.nodes[number].call("GET", "/echo", key=self.keys[number]).status

    def soon(self, number: int) -> float:
        """Seconds until a call passes there."""
        began = time.monotonic()
        while self.passes(number) != 200:
            assert time.monotonic() < began + _PATIENCE_S
        return time.monotonic() - began

    def close(self) -> None:
        self.api.release()
        for thread in self.calls:
            thread.join(_PATIENCE_S)
        for node in self.nodes:
            node.close()


@pytest.fixture
def fleet(tmp_path: Path, api: Api) -> Iterator[Fleet]:
    with running() as redis:
        made = Fleet(tmp_path, api, redis)
        yield made
        made.close()


def test_nodes_have_one_concurrency_limit_together(fleet: Fleet) -> None:
    """Kong/kong#2669, tyk#1244: two nodes of 3 are 3, and what ends makes room on either."""
    for number in (0, 0, 1):
        fleet.hold(number)
    replies = [fleet.nodes[number].call("GET", "/echo", key=fleet.keys[number]) for number in (0, 1)]
    assert [reply.status for reply in replies] == [429, 429]
    assert replies[0].problem()["code"] == "concurrency_exceeded"
    assert replies[0].problem()["policies"][0]["used"] == 3
    explained = fleet.nodes[1].cli("explain", "--tenant", "acme", "--route", "all").stdout
    assert "429 concurrency_exceeded" in explained
    fleet.api.release()
    for thread in fleet.calls:
        thread.join(_PATIENCE_S)
    assert Counter(fleet.statuses) == {200: 3}
    for number in (0, 1):
        fleet.soon(number)


@pytest.mark.chaos
def test_a_killed_node_gives_its_places_back(fleet: Fleet) -> None:
    """Nobody is refused for calls that died with their process."""
    for _ in range(3):
        fleet.hold(0)
    assert fleet.passes(1) == 429
    fleet.nodes[0].kill()
    assert fleet.passes(1) == 429
    assert 20 < fleet.soon(1) < 40
