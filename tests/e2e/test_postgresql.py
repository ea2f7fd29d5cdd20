"""The real process on a real PostgreSQL: waits for one that is not there, outlives one that goes, loses nothing."""

import json
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.api import Api
from tests.e2e.process import PATIENCE_S, Sidecar, write_config
from tests.storage.postgres.server import Process, Server

PLANS = "plans:\n  scale: {limits: [{name: burst, limit: 100000, window: 1s}]}\n"


@pytest.fixture
def process() -> Iterator[Process]:
    """A server of this test's own, because it is stopped."""
    made = Process()
    yield made
    made.remove()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def probe(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def until(port: int, path: str, status: int) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            found, text = probe(port, path)
        except OSError:
            found, text = 0, ""
        if found == status:
            return text
        time.sleep(0.05)
    raise AssertionError(f"{path} never answered {status}")


def test_a_server_that_comes_late_and_goes_in_between_costs_nobody_a_record(
    process: Process, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """field-bugs 22: delivery that fails for hours loses nothing (getlago/lago#538, openmeterio/openmeter#5118)."""
    server = Server(process.url)
    monkeypatch.setenv("DATABASE_URL", server.migrated().url)
    more = "storage: ${DATABASE_URL}\nidentity: {api_key: {cache: 1s, stale: 10m}}\n"
    sidecar = Sidecar(tmp_path, *write_config(tmp_path, api.url, PLANS, more))
    admin = free_port()
    try:
        process.stop(signal.SIGINT)
        sidecar.launch("--admin", f"127.0.0.1:{admin}")
        assert json.loads(until(admin, "/readyz", 503))["ready"] is False
        assert probe(admin, "/livez") == (200, "ok\n")
        sidecar.terminate()
        assert sidecar.wait() == 0, "it need not wait for a store to be told to stop"
        process.start()
        key = sidecar.key("acme")  # before the start: a key made later makes the sidecar forget what it has cached
        sidecar.start()
        assert sidecar.call("GET", "/echo", key).status == 200
        process.stop(signal.SIGQUIT)
        assert [sidecar.call("GET", "/echo", key).status for _ in range(20)] == [200] * 20
        sidecar.kill()
        process.start()
        sidecar.start()
        assert sidecar.usage("acme", 21)["requests"] == 21
        assert "correct-horse" not in sidecar.errors
    finally:
        sidecar.close()
