"""Tenants, keys and usage from the command line, with a sidecar running and without one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

KEY = re.compile(r"sc_(live|test)_[0-9A-Za-z]{45}\n")


@pytest.fixture(params=["offline", "running"])
def either(request: pytest.FixtureRequest, sidecar: Any) -> Any:
    """The command line in both situations: the same words must do the same."""
    if request.param == "running":
        request.getfixturevalue("running")
    assert sidecar("tenants", "add", "acme", "--plan", "pro").code == 0
    return sidecar


def test_the_key_alone_is_on_stdout(either: Any) -> None:
    made = either("keys", "create", "acme", "--name", "ci", "--test", "--expires", "90d", "--scopes", "a,b")
    assert made.code == 0
    assert KEY.fullmatch(made.out)
    assert made.out.startswith("sc_test_")
    assert "not shown again" in made.err
    assert made.out.strip() not in made.err
    (key,) = json.loads(either("keys", "list", "acme", "--json").out)["keys"]
    assert (key["name"], key["test"], key["scopes"], key["status"]) == ("ci", True, ["a", "b"], "active")
    assert key["expires"] is not None


def test_keys_are_rotated_and_revoked(either: Any) -> None:
    first = json.loads(either("keys", "create", "acme", "--name", "ci", "--json").out)
    assert KEY.fullmatch(first["key"] + "\n")
    rotated = either("keys", "rotate", first["id"], "--overlap", "24h")
    assert KEY.fullmatch(rotated.out)
    assert f"The old key {first['id']} works until" in rotated.err
    rotated = either("keys", "rotate", first["id"], "--overlap", "0")
    assert f"The old key {first['id']} is revoked" in rotated.err
    assert either("keys", "revoke", first["id"]).out == f"key {first['id']} (ci) of acme is revoked\n"
    listed = json.loads(either("keys", "list", "acme", "--json").out)["keys"]
    assert sorted(key["status"] for key in listed) == ["active", "active", "revoked"]
    again = either("keys", "rotate", first["id"])
    assert (again.code, again.out) == (1, "")
    assert "is revoked and cannot be rotated" in again.err


def test_tenants_are_listed_shown_and_set(either: Any) -> None:
    assert either("tenants", "set", "acme", "--plan", "free", "--state", "grace").code == 0
    tenant = json.loads(either("tenants", "show", "acme", "--json").out)
    assert (tenant["plan"], tenant["state"], tenant["source"]) == ("free", "grace", "store")
    assert either("tenants", "add", "beta", "--plan", "free").code == 0
    listed = either("tenants", "list")
    assert [line.split()[:2] for line in listed.out.splitlines()] == [
        ["NAME", "PLAN"],
        ["acme", "free"],
        ["beta", "free"],
    ]
    page = either("tenants", "list", "--limit", "1")
    assert "beta" not in page.out
    assert page.err == "there are more: --after acme\n"
    assert "acme" not in either("tenants", "list", "--after", "acme").out


def test_usage_has_what_a_bill_needs(either: Any) -> None:
    report = json.loads(either("usage", "acme", "--since", "1d", "--json").out)
    assert {"tenant", "requests", "units", "cost", "meters", "routes", "statuses"} <= set(report)
    assert (report["tenant"], report["requests"], report["cost_unit"]) == ("acme", 0, "micros")
    text = either("usage", "acme")
    assert text.out.startswith("acme, from ")
    assert "REQUESTS" in text.out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("tenants", "add", "acme", "--plan", "pro"), "acme"),
        (("tenants", "add", "beta", "--plan", "por"), "no plan 'por'; did you mean pro? Plans:"),
        (("tenants", "add", "a b", "--plan", "pro"), "is not a tenant's name"),
        (("tenants", "show", "ghost"), "no tenant 'ghost'"),
        (("tenants", "set", "acme"), "nothing to change"),
        (("tenants", "set", "acme", "--state", "dead"), "write one of active"),
        (("tenants", "list", "--limit", "0"), "limit must be from 1 to 1000"),
        (("keys", "create", "ghost", "--name", "ci"), "no tenant 'ghost'"),
        (("keys", "create", "acme", "--name", "ci", "--expires", "soon"), "write a number with its unit"),
        (("keys", "revoke", "nope"), "nope"),
        (("keys", "rotate", "nope"), "no key nope"),
        (("usage", "ghost"), "no tenant 'ghost'"),
        (("usage", "acme", "--since", "yesterday"), "is not a time"),
    ],
)
def test_what_cannot_be_done_is_one_message_on_stderr_and_1(either: Any, argv: tuple[str, ...], said: str) -> None:
    result = either(*argv)
    assert (result.code, result.out) == (1, "")
    assert said in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("name", ["..", ".", "a/../b", "%2e%2e", "a?b", "ä", "a#b", ""])
def test_names_never_become_another_address(either: Any, name: str) -> None:
    assert either("tenants", "show", name).code == 1
    assert either("keys", "revoke", name).code == 1


def test_a_tenant_declared_in_the_policies_gets_keys(sidecar: Any, folder: Path) -> None:
    (folder / "policies").mkdir()
    (folder / "policies" / "all.yaml").write_text("plans: {basic: {}}\ntenants: {declared: {plan: basic}}\n")
    made = sidecar("keys", "create", "declared", "--name", "ci")
    assert KEY.fullmatch(made.out), made.err
    assert json.loads(sidecar("tenants", "show", "declared", "--json").out)["source"] == "policies"


def test_a_removed_key_text_is_nowhere_in_the_data_folder(sidecar: Any, folder: Path) -> None:
    """Keys are never stored in clear (Kong/kong#5437)."""
    sidecar("tenants", "add", "acme", "--plan", "pro")
    secret = sidecar("keys", "create", "acme", "--name", "ci").out.strip()[-30:].encode()
    files = [path for path in (folder / "data").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if secret in path.read_bytes()]
