"""check, config show, version, and the exit codes of wrong use."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sidecar as package

GOOD = "upstreams: {api: {targets: [http://127.0.0.1:9000]}}\n"
PRICED = (
    "meters: {tokens: {from: response.json, path: $.n}}\n"
    'plans: {pro: {price: {meters: {tokens: {per: 1_000_000, amount: "2.50 USD"}}}}}\n'
)


def test_check_says_what_is_good_in_one_line(sidecar: Any, folder: Path) -> None:
    assert sidecar("check").out.startswith("the built-in configuration is good: ")
    (folder / "sidecar.yaml").write_text(GOOD)
    result = sidecar("check")
    assert (result.code, result.out.count("\n"), result.err) == (0, 1, "")
    assert result.out.startswith("sidecar.yaml is good: 1 upstream, ")
    (folder / "sidecar.yaml").write_text(GOOD + PRICED)
    assert sidecar("check").out.splitlines()[2].split() == "pro tokens 0.0000025 USD 0.0025 USD 2.50 USD".split()
    document = json.loads(sidecar("check", "--json", "--config", "sidecar.yaml").out)
    assert document["prices"] == [
        {"plan": "pro", "meter": "tokens", "1": "0.0000025 USD", "1000": "0.0025 USD", "1000000": "2.50 USD"}
    ]
    assert (document["ok"], document["faults"], document["upstreams"]) == (True, [], 1)


def test_check_prints_every_fault_and_ends_with_2(sidecar: Any, folder: Path) -> None:
    (folder / "bad.yaml").write_text(GOOD + "listn: 0.0.0.0:8080\nadmin: {listen: nowhere}\n")
    result = sidecar("check", "--config", "bad.yaml")
    assert result.code == 2
    assert [line.split(": ")[0] for line in result.out.splitlines()] == ["bad.yaml:2", "bad.yaml:3"]
    document = json.loads(sidecar("check", "--config", "bad.yaml", "--json").out)
    assert document["ok"] is False
    assert [fault["line"] for fault in document["faults"]] == [2, 3]
    assert set(document["faults"][0]) == {"file", "line", "path", "message"}
    assert sidecar("check", "--config", "missing.yaml").code == 2


def test_other_commands_end_with_2_on_a_bad_configuration(sidecar: Any, folder: Path) -> None:
    (folder / "sidecar.yaml").write_text("listn: 1\n")
    for argv in (("run",), ("config", "show"), ("tenants", "list"), ("usage", "acme")):
        result = sidecar(*argv)
        assert (result.code, result.out) == (2, "")
        assert "sidecar.yaml:1: " in result.err


def test_run_without_an_upstream_says_how_to_name_one(sidecar: Any) -> None:
    result = sidecar("run")
    assert result.code == 2
    assert "--upstream" in result.err


def test_config_show_masks_secrets(sidecar: Any, folder: Path) -> None:
    (folder / "secret").write_text("hunter2hunter2hunter2hunter2")
    (folder / "sidecar.yaml").write_text(GOOD + "admin: {token: 'file:secret'}\n")
    shown = sidecar("config", "show", "--effective")
    assert shown.code == 0, shown.err
    assert "127.0.0.1:9000" in shown.out
    assert "hunter2" not in shown.out
    document = json.loads(sidecar("config", "show", "--effective", "--json").out)
    assert "upstreams" in document


def test_version(sidecar: Any) -> None:
    words = sidecar("version").out.split()
    assert words[0] == "sidecar"
    assert json.loads(sidecar("version", "--json").out) == {"version": words[1]}
    assert sidecar("--version").out.split() == words


@pytest.mark.parametrize(
    "argv",
    [(), ("nonsense",), ("tenants",), ("tenants", "add"), ("keys", "create", "a"), ("usage",), ("check", "--jsn")],
)
def test_wrong_use_ends_with_2_and_the_usage_on_stderr(sidecar: Any, argv: tuple[str, ...]) -> None:
    result = sidecar(*argv)
    assert (result.code, result.out) == (2, "")
    assert "usage: sidecar" in result.err


def test_a_closed_pipe_is_quiet(folder: Path) -> None:
    code = "import sys; from sidecar.cli import main; sys.stdin.readline(); sys.exit(main(['version']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    process.stdin.write(b"go\n")
    process.stdin.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(10), errors) == (141, b"")


def test_a_command_against_a_running_sidecar_needs_no_heavy_module() -> None:
    """Listing keys must not pay for an event loop, the HTTP server, the database and the YAML reader."""
    code = (
        "import sys; import sidecar.cli; "
        "print([name for name in ('aiohttp', 'asyncio', 'apsw', 'yaml', 'uvloop', 'cryptography', 'prometheus_client') "
        "if name in sys.modules])"
    )
    folder = Path(package.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout == "[]\n"
