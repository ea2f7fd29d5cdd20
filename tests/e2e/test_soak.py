"""Mixed load for long: the memory of all processes stays flat. `make soak` takes an hour; the tests a few seconds."""

import http.client
import os
import statistics
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.api import Api
from tests.e2e.conftest import Make
from tests.e2e.process import Sidecar, connect
from tests.e2e.test_workers import several

SAMPLES = 40
MIX = (
    ("GET", "/bytes/100", None),
    ("GET", "/chunked/200000", None),
    ("POST", "/echo", b"x" * 50_000),
    ("GET", "/status/404", None),
    ("HEAD", "/bytes/1000", None),
    ("GET", "/short", None),
    ("GET", "/drop", None),
)


class Mixed:
    """Clients that go through MIX, with a good key, with an unknown one every seventh time, and on connections of
    twenty calls each."""

    def __init__(self, base: str, key: str, clients: int) -> None:
        self.calls = self.served = 0
        self._base, self._key = base, key
        self._lock, self.stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, turn: int) -> None:
        while not self.stop.is_set():
            connection = connect(self._base)
            for _ in range(20):
                turn += 1
                method, path, body = MIX[turn % len(MIX)]
                key = self._key if turn % 7 else f"sc_live_{turn:012d}"
                try:
                    connection.request(method, path, body, {"X-API-Key": key})
                    reply = connection.getresponse()
                    reply.read()
                    good = reply.status == 200
                except (OSError, http.client.HTTPException):  # the API breaks some replies on purpose
                    good = False
                    connection.close()
                with self._lock:
                    self.calls += 1
                    self.served += good
                if self.stop.is_set():
                    break
            connection.close()

    def end(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()


def own_bytes(processes: list[psutil.Process]) -> int:
    """Of all processes, without the journal's mapped files, which come and go."""
    memory = [process.memory_info() for process in processes]
    return sum(one.rss - one.shared for one in memory)


def soak(sidecar: Sidecar, key: str, seconds: float) -> tuple[list[int], Mixed]:
    """Bytes at SAMPLES moments, and the load."""
    parent = psutil.Process(sidecar.pid)
    processes = [parent, *parent.children()]
    load, sizes, began = Mixed(sidecar.base, key, 4), [], time.monotonic()
    for sample in range(1, SAMPLES + 1):
        load.stop.wait(max(0.0, began + seconds * sample / SAMPLES - time.monotonic()))
        sizes.append(own_bytes(processes))
    load.end()
    return sizes, load


def growth(sizes: list[int]) -> float:
    """Of the last quarter over the second: the first one fills caches."""
    quarter = len(sizes) // 4
    return statistics.median(sizes[-quarter:]) / statistics.median(sizes[quarter : 2 * quarter]) - 1


def report(sizes: list[int], load: Mixed) -> str:
    mebibytes = " ".join(f"{size / 1024**2:.1f}" for size in sizes)
    verdict = "flat" if growth(sizes) < 0.03 else "NOT flat"
    return f"{load.calls} calls; MiB over time: {mebibytes}; {verdict}: {growth(sizes):+.1%} from the second quarter on"


def test_growth_is_told_from_noise() -> None:
    assert growth([50, 80, 100, 101, 99, 100, 101, 100]) < 0.03
    assert growth([50, 80, 100, 105, 110, 115, 120, 125]) > 0.1


@pytest.mark.parametrize("workers", [1, 2])
def test_mixed_load_for_a_moment(make: Make, tmp_path: Path, api: Api, workers: int) -> None:
    sidecar = several(make, tmp_path, api, workers=workers)
    sizes, load = soak(sidecar, sidecar.another_key("acme"), 2)
    assert load.served
    assert report(sizes, load).startswith(f"{load.calls} calls; MiB over time: ")
    assert sizes[-1] - sizes[0] < 32 * 1024**2 * (workers + 1)
    assert sidecar.stop() == 0


@pytest.mark.chaos
def test_memory_is_flat_over_an_hour_of_mixed_load(make: Make, tmp_path: Path, api: Api) -> None:
    sidecar = several(make, tmp_path, api, workers=int(os.environ.get("SOAK_WORKERS", "2")))
    sizes, load = soak(sidecar, sidecar.another_key("acme"), 60 * float(os.environ.get("SOAK_MINUTES", "60")))
    print(report(sizes, load))
    assert growth(sizes) < 0.03
