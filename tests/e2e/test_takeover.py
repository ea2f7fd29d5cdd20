"""A new process takes over from the one that runs: no connection is lost, no call cut, and one book has all calls."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.api import Api
from tests.e2e.conftest import Make
from tests.e2e.process import PATIENCE_S, Sidecar, write_config
from tests.e2e.test_workers import POLICIES, Counting, until


def sidecar(make: Make, folder: Path, api: Api, workers: int, policies: str = POLICIES) -> Sidecar:
    return make(*write_config(folder, api.url, policies, f"workers: {workers}\n"), folder=folder)


@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_a_takeover_under_load_loses_nothing(make: Make, tmp_path: Path, api: Api, before: int, after: int) -> None:
    first = sidecar(make, tmp_path, api, before).start()
    key = first.another_key("acme")
    load = Counting(first.base, key, 4)
    api.hold()
    load.reaches(50)
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(first.call, "GET", "/hold", key)
        assert api.arrived.wait(PATIENCE_S)
        second = sidecar(make, tmp_path, api, after).start("--takeover")
        assert second.base == first.base
        load.reaches(load.answered + 50)
        load.end()
        api.release()
        assert long.result(PATIENCE_S).body == b"held"
    assert first.wait() == 0
    assert (load.faults, load.statuses) == ([], {200})
    until(lambda: second.usage("acme")["requests"] == load.answered + 1)
    assert second.stop() == 0
    assert second.usage("acme")["requests"] == load.answered + 1


def test_a_process_that_cannot_take_over_changes_nothing(make: Make, tmp_path: Path, api: Api) -> None:
    first = sidecar(make, tmp_path, api, 1).start()
    key = first.another_key("acme")
    broken = sidecar(make, tmp_path, api, 1, "routes: 5\n")
    broken.launch("--takeover")
    assert broken.wait() == 2
    elsewhere = sidecar(make, tmp_path, api, 1)
    elsewhere.launch("--takeover", "--listen", "127.0.0.1:1")
    assert elsewhere.wait() == 1
    assert "and not at port 1" in elsewhere.errors
    assert first.call("GET", "/echo", key).status == 200
    assert first.stop() == 0
    nobody = sidecar(make, tmp_path, api, 1)
    nobody.launch("--takeover")
    assert nobody.wait() == 1
    assert "that could be taken over from" in nobody.errors
