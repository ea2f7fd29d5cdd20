"""Reloads of the real process under load, by signal, command and file watch: nobody notices, and memory stays."""

import http.client
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.e2e.api import Api
from tests.e2e.process import Sidecar, call, connect, write_config

Make = Callable[..., Sidecar]
POLICIES = """\
routes:
  - {name: all, match: {path: "/{path...}"}, upstream: api}
plans:
  open: {limits: [{name: wide, limit: LIMIT, window: 1s}]}
tenants: {acme: {plan: open}}
"""
# From the 500th to the 1,000th reload; rules and pools that nobody collects would be 6 MiB in each process.
MAX_GROWTH_BYTES = 4 * 1024**2


class Load:
    """Clients that call over one connection each, again and again; a failed call or a closed connection is kept."""

    def __init__(self, base: str, key: str, clients: int) -> None:
        self.calls = 0
        self.faults: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(base, key)) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, base: str, key: str) -> None:
        connection = connect(base)
        try:
            connection.connect()
            connection.auto_open = 0  # a connection that is closed shows as a fault
            while not self._stop.is_set():
                connection.request("GET", "/", headers={"X-API-Key": key})
                reply = connection.getresponse()
                reply.read()
                self.calls += 1
                if reply.status != 200:
                    self.faults.append(f"status {reply.status}")
        except (OSError, http.client.HTTPException) as error:
            self.faults.append(repr(error))
        finally:
            connection.close()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def reload_by_turns(
    folder: Path, target: str, sidecar: Sidecar, key: str, times: int, more: str = ""
) -> tuple[list[int], Load]:
    """``times`` reloads under load: new limits, a changed upstream, every tenth a broken file.

    Bytes of the process's own memory after each tenth, and the load."""
    load, sizes = Load(sidecar.base, key, 4), []
    parent = psutil.Process(sidecar.pid)
    processes = [parent, *parent.children()]
    token = (sidecar.data / "admin.token").read_text().strip()
    for turn in range(times):
        limit = "nonsense" if turn % 10 == 9 else str(100_000 + turn)
        write_config(
            folder, target, POLICIES.replace("LIMIT", limit), f"{more}bounds: {{max_headers: {100 + turn % 2}}}\n"
        )
        if turn % 3 == 0:
            file = folder / "sidecar.yaml"
            file.write_text(file.read_text().replace("]}}", f"], max_connections: {500 + turn % 7}}}}}"))
        reply = call(sidecar.admin, "POST", "/api/v1/reload", headers={"Authorization": f"Bearer {token}"})
        assert reply.status == (422 if limit == "nonsense" else 200), reply.body
        if turn % max(1, times // 10) == 0:
            memory = [process.memory_info() for process in processes]
            sizes.append(sum(one.rss - one.shared for one in memory))  # the journal's mapped files come and go
    load.end()
    return sizes, load


def start(make: Make, folder: Path, api: Api, more: str = "") -> tuple[Sidecar, str]:
    words = write_config(folder, api.url, POLICIES.replace("LIMIT", "100_000"), more)
    sidecar = make(*words).start()
    return sidecar, sidecar.another_key("acme")


@pytest.mark.parametrize("workers", [1, 2])
def test_reloads_under_load_are_seen_by_nobody(make: Make, tmp_path: Path, api: Api, workers: int) -> None:
    more = f"workers: {workers}\n"
    sidecar, key = start(make, tmp_path, api, more)
    _, load = reload_by_turns(tmp_path, api.url, sidecar, key, 30, more)
    assert load.faults == []
    assert load.calls > 0
    assert sidecar.usage("acme", load.calls)["requests"] == load.calls
    metrics = call(sidecar.admin, "GET", "/metrics").body.decode()
    assert 'sidecar_config_reloads_total{result="taken"} 27.0' in metrics
    assert 'sidecar_config_reloads_total{result="refused"} 3.0' in metrics
    assert sidecar.stop() == 0


@pytest.mark.chaos
@pytest.mark.parametrize("workers", [1, 2])
def test_a_thousand_reloads_leave_the_memory_flat(make: Make, tmp_path: Path, api: Api, workers: int) -> None:
    more = f"workers: {workers}\n"
    sidecar, key = start(make, tmp_path, api, more)
    sizes, load = reload_by_turns(tmp_path, api.url, sidecar, key, 1_000, more)
    print(f"{load.calls} calls, MiB: {[size >> 20 for size in sizes]}")
    assert load.faults == []
    assert sizes[-1] - sizes[5] < MAX_GROWTH_BYTES
    assert sidecar.usage("acme", load.calls)["requests"] == load.calls


def test_signal_command_and_watch(make: Make, tmp_path: Path, api: Api) -> None:
    sidecar, key = start(make, tmp_path, api)

    def write(path: str, more: str = "") -> None:
        write_config(tmp_path, api.url, POLICIES.replace("LIMIT", "1_000_000").replace("/{path...}", path), more)

    def closes(path: str) -> bool:
        return any(call(sidecar.base, "GET", path, key).status == 404 for _ in range(10_000))

    write("/one")
    assert sidecar.cli("reload").stdout.startswith("reloaded, policy ")
    assert call(sidecar.base, "GET", "/one", key).status == 200
    assert call(sidecar.base, "GET", "/two", key).status == 404
    write("/two", "watch: 50ms\n")
    os.kill(sidecar.pid, signal.SIGHUP)
    assert closes("/one")
    assert call(sidecar.base, "GET", "/two", key).status == 200
    write("/three", "watch: 50ms\n")
    assert closes("/two")
    assert call(sidecar.base, "GET", "/three", key).status == 200
    (tmp_path / "sidecar.yaml").write_text("upstreams: 5\n")
    refused = sidecar.cli("reload", code=1)
    assert "upstreams" in refused.stderr
    assert call(sidecar.base, "GET", "/three", key).status == 200
