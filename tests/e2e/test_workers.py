"""Several workers: what one process promises holds for all of them together, whichever of them is killed."""

import http.client
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.e2e.api import Api
from tests.e2e.conftest import Make
from tests.e2e.process import PATIENCE_S, Sidecar, call, connect, until, write_config
from tests.e2e.test_reloads import Load
from tests.e2e.test_scrape import samples

POLICIES = """\
meters: {requests: {count: requests}}
routes:
  - {name: all, match: {path: "/{path...}"}, upstream: api}
plans:
  open:
    limits: [{name: wide, limit: 1_000_000, window: 1s}]
    concurrency: [{name: parallel, limit: 1_000, scope: [tenant]}]
  tight:
    limits: [{name: ten, limit: 10, window: 1h, scope: [tenant]}]
  counted:
    quotas: [{name: month, meter: requests, limit: 10, period: month, overage: block}]
  narrow:
    concurrency: [{name: parallel, limit: 3}]
tenants: {acme: {plan: open}, tiny: {plan: tight}, few: {plan: counted}, slim: {plan: narrow}}
"""


def crew(sidecar: Sidecar) -> list[psutil.Process]:
    """The workers' processes."""
    return psutil.Process(sidecar.pid).children()


def several(make: Make, folder: Path, api: Api, *, workers: int = 2) -> Sidecar:
    return make(*write_config(folder, api.url, POLICIES, f"workers: {workers}\n")).start()


@pytest.fixture
def pair(make: Make, tmp_path: Path, api: Api) -> Iterator[Sidecar]:
    yield several(make, tmp_path, api)


def test_every_worker_takes_calls_and_one_book_has_them(pair: Sidecar) -> None:
    key = pair.another_key("acme")
    for _ in range(40):
        assert pair.call("GET", "/bytes/100", key).status == 200
    assert all(len(worker.net_connections("tcp")) >= 1 for worker in crew(pair))
    assert all(list((pair.data / f"journal-{number}").glob("*.segment")) for number in (1, 2))
    assert pair.usage("acme")["requests"] == 40
    assert samples(pair)["sidecar_requests_total"] == 40
    assert pair.stop() == 0
    assert pair.usage("acme")["requests"] == 40


@pytest.mark.parametrize("tenant", ["tiny", "few"], ids=["limit", "quota"])
def test_a_limit_and_a_quota_are_one_for_all_workers(pair: Sidecar, tenant: str) -> None:
    """Kong/kong#2669, TykTechnologies/tyk#1244: workers that counted for themselves let 2 x 10 pass."""
    key = pair.another_key(tenant)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: pair.call("GET", "/echo", key).status, range(60)))
    assert (statuses.count(200), statuses.count(429)) == (10, 50)


def test_a_concurrency_limit_is_one_for_all_workers(pair: Sidecar, api: Api) -> None:
    key = pair.another_key("slim")
    api.hold()
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(pair.call, "GET", "/hold", key) for _ in range(12)]
        try:
            until(lambda: sum(call.done() for call in calls) == 9)  # refused; the others wait at the API
        finally:
            api.release()
        statuses = [call.result().status for call in calls]
    assert (statuses.count(200), statuses.count(429)) == (3, 9)


def test_a_revoked_key_is_refused_by_every_worker_at_once(pair: Sidecar) -> None:
    """TykTechnologies/tyk#1287: the answer to the operator comes when all workers have heard."""
    key = pair.another_key("acme")
    for _ in range(20):
        assert pair.call("GET", "/echo", key).status == 200
    listed = json.loads(pair.cli("keys", "list", "acme", "--json").stdout)
    pair.cli("keys", "revoke", listed["keys"][0]["id"])
    assert {pair.call("GET", "/echo", key).status for _ in range(20)} == {401}


class Counting:
    """Clients that call over connections of their own and count what they got; one that breaks is made anew."""

    def __init__(self, base: str, key: str, clients: int) -> None:
        self.answered = self.broken = 0
        self.statuses: set[int] = set()
        self.faults: list[str] = []
        self._base, self._key = base, key
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            connection, used = connect(self._base), False
            try:
                while not self._stop.is_set():
                    try:
                        connection.request("GET", "/bytes/100", headers={"X-API-Key": self._key})
                        reply = connection.getresponse()
                    except (ConnectionResetError, BrokenPipeError):  # the end, or a reset where the call met the close
                        if not used:
                            raise
                        with self._lock:
                            self.broken += 1
                        break  # closed while idle, as this call went out: clients try again (RFC 9112, 9.3.1)
                    used = True
                    assert len(reply.read()) == 100 or reply.status != 200
                    with self._lock:
                        self.answered += reply.status == 200
                        self.statuses.add(reply.status)
                    if reply.will_close:
                        break
            except (OSError, http.client.HTTPException) as error:
                with self._lock:
                    self.broken += 1
                    self.faults.append(repr(error))
            finally:
                connection.close()

    def reaches(self, count: int) -> None:
        until(lambda: self.answered >= count)

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_killed_worker_is_replaced_and_nothing_that_was_answered_is_lost(pair: Sidecar) -> None:
    """kill -9 under load: each reply that a client holds is in usage once; what was in flight may be there too."""
    key = pair.another_key("acme")
    load = Counting(pair.base, key, 6)
    load.reaches(200)
    for _ in range(3):
        victim = crew(pair)[0]
        victim.kill()
        victim.wait(PATIENCE_S)
        until(lambda: len(crew(pair)) == 2)
        load.reaches(load.answered + 200)
    load.end()
    assert load.statuses == {200}
    assert load.broken <= 3 * 6
    assert load.answered <= pair.usage("acme")["requests"] <= load.answered + load.broken
    assert samples(pair)["sidecar_worker_replacements_total"] == 3
    assert pair.stop() == 0
    assert load.answered <= pair.usage("acme")["requests"] <= load.answered + load.broken


def test_counters_never_go_back_when_a_worker_ends(pair: Sidecar) -> None:
    key = pair.another_key("acme")
    for _ in range(30):
        assert pair.call("GET", "/echo", key).status == 200
    before = samples(pair)
    for worker in crew(pair):
        worker.kill()
    until(lambda: call(pair.admin, "GET", "/readyz").status == 200 and samples(pair)["sidecar_workers"] == 2)
    after = samples(pair)
    fallen = [name for name in before if name.endswith(("_total", "_count", "_bucket")) and after[name] < before[name]]
    assert fallen == []
    assert after["sidecar_requests_total"] == 30


def test_a_killed_parent_takes_its_workers_along_and_the_next_one_ships_their_journals(
    make: Make, tmp_path: Path, api: Api
) -> None:
    sidecar = several(make, tmp_path, api)
    key = sidecar.another_key("acme")
    load = Counting(sidecar.base, key, 4)
    load.reaches(200)
    workers = crew(sidecar)
    os.kill(sidecar.pid, signal.SIGKILL)
    sidecar.wait()
    gone, alive = psutil.wait_procs(workers, PATIENCE_S)
    load.end()
    assert (len(gone), alive) == (2, [])
    assert load.answered <= sidecar.usage("acme")["requests"] <= load.answered + load.broken
    sidecar.start()
    assert sidecar.call("GET", "/echo", key).status == 200
    assert load.answered + 1 <= sidecar.usage("acme")["requests"]


def test_one_process_goes_on_where_workers_left_and_back(make: Make, tmp_path: Path, api: Api) -> None:
    sidecar = several(make, tmp_path, api)
    key = sidecar.another_key("acme")
    for _ in range(10):
        assert sidecar.call("GET", "/echo", key).status == 200
    workers = crew(sidecar)
    sidecar.kill()
    psutil.wait_procs(workers, PATIENCE_S)
    write_config(tmp_path, api.url, POLICIES)
    sidecar.start()
    assert sidecar.usage("acme")["requests"] == 10
    assert sidecar.call("GET", "/echo", key).status == 200
    assert sidecar.stop() == 0
    write_config(tmp_path, api.url, POLICIES, "workers: 3\n")
    sidecar.start()
    assert len(crew(sidecar)) == 3
    assert sidecar.call("GET", "/echo", key).status == 200
    assert sidecar.usage("acme")["requests"] == 12


def test_a_stop_lets_calls_in_flight_end(pair: Sidecar, api: Api) -> None:
    key = pair.another_key("acme")
    api.hold()
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(pair.call, "GET", "/hold", key) for _ in range(4)]
        until(lambda: api.seen.get("/hold", 0) >= 4)
        pair.terminate()
        until(lambda: "stopping" in pair.errors)
        reply = call(pair.admin, "GET", "/readyz")
        assert (reply.status, reply.json()["reasons"]) == (503, ["the sidecar is shutting down"])
        api.release()
        assert {one.result(PATIENCE_S).body for one in calls} == {b"held"}
    assert pair.wait() == 0
    assert pair.usage("acme")["requests"] == 4


def test_a_reload_is_taken_by_all_workers_or_by_none(pair: Sidecar, tmp_path: Path, api: Api) -> None:
    key = pair.another_key("acme")
    load = Load(pair.base, key, 4)
    write_config(tmp_path, api.url, POLICIES.replace("/{path...}", "/bytes/{n}"), "workers: 2\n")
    load.end()
    assert load.faults == []
    assert pair.cli("reload").stdout.startswith("reloaded, policy ")
    assert {pair.call("GET", "/echo", key).status for _ in range(20)} == {404}
    (tmp_path / "sidecar.yaml").write_text("workers: 2\nupstreams: 5\n")
    pair.cli("reload", code=1)
    assert {pair.call("GET", "/bytes/5", key).status for _ in range(20)} == {200}
    for worker in crew(pair):  # who comes after them has the last good one, not what is on the disk
        worker.kill()
    until(lambda: samples(pair)["sidecar_workers"] == 2)
    assert {pair.call("GET", "/bytes/5", key).status for _ in range(20)} == {200}
    assert pair.call("GET", "/echo", key).status == 404


def test_a_port_that_is_taken_is_said(make: Make, tmp_path: Path, api: Api) -> None:
    first = several(make, tmp_path, api)
    folder = tmp_path / "second"
    folder.mkdir()
    words = write_config(folder, api.url, POLICIES, "workers: 2\n")
    second = make(*words, folder=folder)
    second.launch("--listen", first.base.removeprefix("http://"))
    assert second.wait() == 1
    assert "is taken: another program listens there" in second.errors


def test_the_link_answers_nobody_but_the_workers(pair: Sidecar) -> None:
    assert (pair.data / "link").stat().st_mode & 0o777 == 0o600
    talk = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('link'); print(s.recv(1))"
    done = subprocess.run(["python3", "-c", talk], cwd=pair.data, capture_output=True, text=True, check=False)
    assert "b''" in done.stdout or "ConnectionReset" in done.stderr
