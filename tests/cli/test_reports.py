"""Grouped usage, exports and margins from the command line, with a sidecar running and without one."""

import csv
import io
import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli import output
from sidecar.cli.files import whole_file


@pytest.fixture(params=["offline", "running"])
def either(request: pytest.FixtureRequest, sidecar: Any) -> Any:
    """The command line in both situations: the same words must do the same."""
    if request.param == "running":
        request.getfixturevalue("running")
    assert sidecar("tenants", "add", "acme", "--plan", "pro").code == 0
    return sidecar


def test_grouped_usage(either: Any) -> None:
    page = json.loads(either("usage", "acme", "--by", "route,day", "--since", "2d", "--limit", "5", "--json").out)
    assert (page["by"], page["rows"], page["next"]) == (["route", "day"], [], None)
    text = either("usage", "--by", "tenant", "--sandbox", "any").out
    assert text.startswith("from ")
    assert "TENANT" in text
    refused = either("usage", "--by", "rout")
    assert (refused.code, "cannot be grouped by 'rout'" in refused.err) == (1, True)
    assert "not a cursor" in either("usage", "--by", "route", "--after", "x").err


@pytest.mark.parametrize("argv", [("usage",), ("usage", "acme", "--limit", "5"), ("usage", "acme", "--route", "a")])
def test_wrong_use_says_what_is_missing(sidecar: Any, argv: tuple[str, ...]) -> None:
    result = sidecar(*argv)
    assert (result.code, result.out) == (2, "")
    assert "--by" in result.err


def test_exports_to_a_file_and_to_stdout(either: Any, folder: Path) -> None:
    done = either("export", "acme", "--what", "events", "--output", "events.csv")
    assert (done.code, done.out, done.err) == (0, "", "wrote events.csv\n")
    printed = either("export", "acme", "--format", "csv")
    assert printed.out.replace("\r\n", "\n") == (folder / "events.csv").read_text()
    assert next(csv.reader(io.StringIO(printed.out)))[:3] == ["event_id", "time", "tenant"]
    parquet = ("--what", "usage", "--by", "tenant", "--format", "parquet", "--output", "u.parquet")
    assert either("export", *parquet).code == 0
    assert (folder / "u.parquet").read_bytes().endswith(b"PAR1")


def test_an_export_that_fails_leaves_what_was_there(either: Any, folder: Path) -> None:
    (folder / "events.csv").write_text("older")
    for argv in (("ghost",), ("acme", "--since", "40d"), ("acme", "--route", "a")):
        result = either("export", *argv, "--output", "events.csv")
        assert (result.code, result.out) == (1, "")
    assert (folder / "events.csv").read_text() == "older"
    assert not list(folder.glob(".*.part"))


@pytest.mark.parametrize("name", ["", "."])
def test_an_output_that_is_no_file_is_wrong_use(sidecar: Any, name: str) -> None:
    result = sidecar("export", "--output", name)
    assert (result.code, "is no file's name" in result.err) == (2, True)


def test_an_output_in_no_folder_names_the_folder(sidecar: Any) -> None:
    result = sidecar("export", "--output", "nowhere/a.csv")
    assert (result.code, result.err) == (1, "sidecar: nowhere: there is no such folder\n")


def test_a_tenant_without_a_name_is_not_found(either: Any) -> None:
    assert "''" in either("usage", "").err


def test_what_is_true_or_false_is_written_as_it_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("SANDBOX",), [[True], [False]])
    assert capsys.readouterr().out.split() == ["SANDBOX", "true", "false"]


def test_margins(either: Any) -> None:
    page = json.loads(either("margin", "--by", "tenant", "--tenant", "acme", "--buffer", "30%", "--json").out)
    assert [row["tenant"] for row in page["rows"]] == ["acme"]
    assert page["baseline"]["buffer"] == "30%"
    text = either("margin", "--by", "plan").out
    assert "REVENUE" in text
    assert "USD" in text
    text = either("margin", "--period", "billing").out
    assert "each tenant's running billing period" in text
    assert ("SINCE" in text, "acme" in text) == (True, True)
    page = json.loads(either("margin", "--period", "previous", "--by", "plan", "--json").out)
    assert (page["period"], page["rows"]) == ("previous", []), "it was made just now"
    refused = either("margin", "--period", "billing", "--month", "2026-10")
    assert (refused.code, "exclude each other" in refused.err) == (1, True)
    refused = either("margin", "--buffer", "a lot")
    assert (refused.code, "percentage" in refused.err) == (1, True)


def test_a_connection_cut_in_the_middle_is_an_error_and_no_file(
    sidecar: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken export never looks whole."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Disposition: attachment\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(head + b"5\r\nhello\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        monkeypatch.setenv("SIDECAR_ADMIN", f"127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("SIDECAR_ADMIN_TOKEN", "t")
        result = sidecar("export", "--output", "events.csv")
        thread.join(10)
    assert result.code == 1
    assert "broke off in the middle" in result.err
    assert list(folder.iterdir()) == []


def test_a_file_takes_its_name_when_it_is_whole(folder: Path) -> None:
    path = folder / "a"
    with whole_file(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    with pytest.raises(KeyError), whole_file(path) as file:
        file.write(b"broken")
        raise KeyError
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in folder.iterdir()] == ["a"]
