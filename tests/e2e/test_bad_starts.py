"""What cannot start says why in plain words, with the right exit code, without a traceback, and loses nothing."""

import os
import socket
import sqlite3
from pathlib import Path

import pytest

from tests.e2e.api import Api
from tests.e2e.conftest import Make
from tests.e2e.process import command, write_config

GOOD = """
plans: {any: {limits: [{name: wide, limit: 1_000, window: 1m}]}}
routes: [{name: rest, match: {path: "/{rest...}"}, upstream: api}]
"""
FREE = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")


@pytest.mark.parametrize("which", ["--listen", "--admin"])
def test_a_port_that_is_taken(tmp_path: Path, which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        words = ["run", "--upstream", "http://127.0.0.1:9", "--data", "data", *FREE, which, address]
        done = command(*words, cwd=tmp_path, code=1)
    assert address.split(":")[1] in done.stderr


@pytest.mark.parametrize("which", ["--listen", "--admin"])
def test_an_address_that_is_not_this_machines(tmp_path: Path, which: str) -> None:
    """203.0.113.0/24 is for documentation (RFC 5737): no machine has it."""
    words = ["run", "--upstream", "http://127.0.0.1:9", "--data", "data", *FREE, which, "203.0.113.5:8080"]
    done = command(*words, cwd=tmp_path, code=1)
    assert "sidecar: cannot listen on 203.0.113.5:8080: " in done.stderr


def test_nothing_to_protect(tmp_path: Path) -> None:
    """No file and no --upstream: the message names both ways out."""
    done = command("run", "--data", "data", *FREE, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert "--upstream" in done.stderr
    assert "sidecar.yaml" in done.stderr


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ("plans: {any: {limits: [{name: wide, limit: 1, windw: 1m}]}}\n", "windw"),
        ("plans: [\n", "all.yaml"),
        ("plans: {any: {limits: [{name: wide, limit: 1, window: 60}]}}\n", "all.yaml:1"),
        ("tenants: {acme: {plan: nowhere}}\n" + GOOD, "nowhere"),
        ("\x00", "all.yaml"),
    ],
)
def test_broken_policies(tmp_path: Path, policies: str, expected: str) -> None:
    """field-bugs 30: the fault is named with its place; `run` and `check` agree; exit 2."""
    words = write_config(tmp_path, "http://127.0.0.1:9", policies)
    for verb in (("check",), ("run", *FREE)):
        done = command(*verb, *words, cwd=tmp_path, code=2)
        assert expected in done.stdout + done.stderr


def test_every_fault_at_once(tmp_path: Path) -> None:
    policies = "plans: {any: {limitz: []}}\nroutes: [{name: a, match: {path: b}}]\nmeterz: {}\n"
    words = write_config(tmp_path, "http://127.0.0.1:9", policies)
    done = command("check", *words, cwd=tmp_path, code=2)
    faults = [line for line in (done.stdout + done.stderr).splitlines() if "all.yaml:" in line]
    assert len(faults) >= 3


def test_good_configuration_passes(tmp_path: Path) -> None:
    command("check", *write_config(tmp_path, "http://127.0.0.1:9", GOOD), cwd=tmp_path, code=0)


def test_a_configuration_file_that_is_not_there(tmp_path: Path) -> None:
    done = command("run", "--config", "missing.yaml", *FREE, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert "missing.yaml" in done.stderr


def test_unknown_words(tmp_path: Path) -> None:
    assert command("frobnicate", cwd=tmp_path).returncode == 2
    assert command("run", "--lisen", "x", cwd=tmp_path).returncode == 2


def database(data: Path) -> Path:
    found = [path for path in data.rglob("*.db") if path.is_file()]
    assert len(found) == 1
    return found[0]


def test_a_database_that_is_corrupt(make: Make, api: Api) -> None:
    """It is neither used nor replaced: the message names the file, the bytes stay for whoever repairs it."""
    sidecar = make("--upstream", api.url)
    sidecar.key("acme")
    file = database(sidecar.data)
    for side in (f"{file}-wal", f"{file}-shm"):
        Path(side).unlink(missing_ok=True)
    file.write_bytes(b"not a database, but long enough to be looked at" * 100)
    before = file.read_bytes()
    done = command("run", "--upstream", api.url, "--data", str(sidecar.data), *FREE, cwd=sidecar.folder, code=1)
    assert file.name in done.stderr
    assert file.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_data_folder_that_is_read_only(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o500)
    done = command("run", "--upstream", "http://127.0.0.1:9", "--data", str(data), *FREE, cwd=tmp_path, code=1)
    assert "data" in done.stderr


def test_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    done = command("run", "--upstream", "http://127.0.0.1:9", "--data", "data", *FREE, cwd=tmp_path, code=1)
    assert "data" in done.stderr


def test_a_database_that_another_program_locks(make: Make, api: Api) -> None:
    sidecar = make("--upstream", api.url)
    sidecar.key("acme")
    other = sqlite3.connect(database(sidecar.data), isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        done = command("run", "--upstream", api.url, "--data", str(sidecar.data), *FREE, cwd=sidecar.folder, code=1)
    finally:
        other.close()
    assert "lock" in done.stderr.lower() or "another" in done.stderr.lower()
    sidecar.start()
