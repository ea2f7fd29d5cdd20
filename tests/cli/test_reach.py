"""Which sidecar a command talks to, with which token, and what it says when none answers."""

import argparse
import asyncio
import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from sidecar.app import open_offline
from sidecar.cli.reach import perform
from sidecar.cli.remote import Remote
from sidecar.config import Overrides, load
from sidecar.core.errors import SidecarError


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_running_one_is_used_while_it_holds_the_store(sidecar: Any, running: str) -> None:
    sidecar("tenants", "add", "acme", "--plan", "pro")
    assert "acme" in sidecar("tenants", "list").out
    assert "acme" in sidecar("tenants", "list", "--data", "data").out


def test_the_environment_names_another(sidecar: Any, running: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar("tenants", "add", "acme", "--plan", "pro")
    for address in (running, f"http://{running}", f"http://{running}/"):
        monkeypatch.setenv("SIDECAR_ADMIN", address)
        assert "acme" in sidecar("tenants", "list").out
    monkeypatch.setenv("SIDECAR_ADMIN_TOKEN", "wrong")
    refused = sidecar("tenants", "list")
    assert (refused.code, refused.out) == (1, "")
    assert "the admin token was not accepted" in refused.err
    assert "wrong" not in refused.err


def test_nobody_at_the_named_address_is_an_error_not_a_second_writer(
    sidecar: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDECAR_ADMIN", f"127.0.0.1:{closed_port()}")
    monkeypatch.setenv("SIDECAR_ADMIN_TOKEN", "t")
    result = sidecar("tenants", "add", "acme", "--plan", "pro")
    assert result.code == 1
    assert "no sidecar listens at" in result.err
    assert not (folder / "data").exists()


@pytest.mark.parametrize("address", ["nonsense", "ftp://127.0.0.1:1", "http://", "127.0.0.1:99999", "127.0.0.1:x"])
def test_an_address_that_is_none_is_told_so(address: str) -> None:
    with pytest.raises(SidecarError, match="is not an admin address"):
        Remote(address, "t", "cli:me")


def test_a_note_left_by_a_killed_one_is_ignored(sidecar: Any, folder: Path) -> None:
    assert sidecar("tenants", "add", "acme", "--plan", "pro").code == 0
    note = folder / "data" / "run.json"
    for content in (
        json.dumps({"pid": 2**22 + 1, "admin": "127.0.0.1:9"}),
        json.dumps({"pid": os.getpid(), "admin": f"127.0.0.1:{closed_port()}"}),
        "{",
        "[]",
        "",
    ):
        note.write_text(content)
        (folder / "data" / "admin.token").write_text("t")
        assert "acme" in sidecar("tenants", "list").out


async def test_a_lock_that_stays_is_an_error_after_a_few_seconds(folder: Path) -> None:
    """Two writers never: the store stays locked, nobody answers, the command gives up and says what to do."""
    pauses: list[float] = []
    options = argparse.Namespace(config=None, data="data")
    snapshot = load(None, Overrides(data="data"), {}, needs_upstream=False)
    async with open_offline(snapshot):
        with pytest.raises(SidecarError, match="set SIDECAR_ADMIN to its admin port"):
            await asyncio.to_thread(perform, options, "tenants_list", {}, pauses.append)
    assert sum(pauses) == pytest.approx(4.9)


def test_a_broken_file_does_not_keep_anybody_from_the_running_one(sidecar: Any, running: str, folder: Path) -> None:
    sidecar("tenants", "add", "acme", "--plan", "pro")
    (folder / "sidecar.yaml").write_text("listn: 1\n")
    assert sidecar("tenants", "list").code == 2
    assert "acme" in sidecar("tenants", "list", "--data", "data").out


def test_what_is_no_admin_port_is_told_so(sidecar: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

        thread = threading.Thread(target=answer)
        thread.start()
        monkeypatch.setenv("SIDECAR_ADMIN", f"127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("SIDECAR_ADMIN_TOKEN", "t")
        result = sidecar("tenants", "list")
        thread.join(10)
    assert result.code == 1
    assert "is no sidecar's admin port" in result.err


def test_a_missing_token_is_told_so(sidecar: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECAR_ADMIN", "127.0.0.1:1")
    result = sidecar("tenants", "list")
    assert (result.code, "set SIDECAR_ADMIN_TOKEN" in result.err) == (1, True)


@pytest.mark.parametrize("token", ["hush\r", "hu\nsh", "hush ", "hush\u20ac"])
def test_a_token_that_no_header_takes_is_refused_unquoted(
    sidecar: Any, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("SIDECAR_ADMIN", "127.0.0.1:1")
    monkeypatch.setenv("SIDECAR_ADMIN_TOKEN", token)
    result = sidecar("tenants", "list")
    assert (result.code, "SIDECAR_ADMIN_TOKEN" in result.err, "hu" in result.err) == (1, True, False)


def test_data_folders_that_cannot_be_used_are_told_so(sidecar: Any, folder: Path) -> None:
    (folder / "file").write_text("")
    result = sidecar("tenants", "list", "--data", "file/data")
    assert (result.code, result.out) == (1, "")
    assert "Traceback" not in result.err
    assert result.err.startswith("sidecar: ")
