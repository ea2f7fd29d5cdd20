"""``sidecar plan``: what changes, for whom, and the exit code for pipelines."""

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.records import UsageRecord, encode_record
from sidecar.storage import SqliteStore

CONFIG = 'upstreams: {api: {targets: ["http://127.0.0.1:9"]}}\npolicies: policies/\n'
POLICIES = """\
meters: {requests: {count: requests}}
routes: [{name: search, match: {path: /search}, units: 5}]
plans:
  free:
    test_keys: free
    limits:
      - {name: steady, limit: 600, window: 1m}
      - {name: trial, limit: 60, window: 1m, scope: [key], mode: shadow}
    quotas:
      - {name: daily, meter: requests, limit: 100, period: day}
      - {name: mine, meter: requests, limit: 3000, period: billing}
  old: {limits: [{name: steady, limit: 10, window: 1m}]}
tenants:
  acme: {plan: free}
  busy: {plan: free}
  calm: {plan: free}
  gone: {plan: old}
"""
_US = 1_000_000


@pytest.fixture
def files(folder: Path) -> Path:
    (folder / "sidecar.yaml").write_text(CONFIG)
    for name in ("policies", "new"):
        (folder / name).mkdir()
        (folder / name / "all.yaml").write_text(POLICIES)
    return folder


def rewrite(folder: Path, *changes: tuple[str, str]) -> None:
    text = POLICIES
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "new" / "all.yaml").write_text(text)


def use(folder: Path, tenant: str, minute: int, units: int, meters: dict[str, int]) -> None:
    """One call of ``tenant`` so many minutes ago, in the ledger."""
    (folder / "data").mkdir(exist_ok=True)
    store = SqliteStore.open(folder / "data" / "sidecar.db")
    at = (int(time.time()) // 60 - minute) * 60 * _US
    record = UsageRecord(
        f"00000000-0000-7000-8000-{hash((tenant, minute, units)) & 0xFFFFFFFFFFFF:012x}",
        at, tenant, "k", "free", False, "search", "GET", 200, "ok", units, 0, 0, 0, 1, 1, 1, meters,
    )  # fmt: skip

    async def append() -> None:
        position = await store.position()
        await store.append([encode_record(record)], replace(position, offset=position.offset + 1))

    asyncio.run(append())
    store.close()


def told(sidecar: Any, *more: str, code: int = 2) -> dict[str, Any]:
    result = sidecar("plan", "new", "--json", *more)
    assert result.code == code, result
    document: dict[str, Any] = json.loads(result.out)
    return document


def test_the_same_policies_change_nothing(sidecar: Any, files: Path) -> None:
    result = sidecar("plan", "new")
    assert (result.code, result.out) == (0, "nothing changes\n")
    assert "on disk; no sidecar runs here" in result.err
    assert told(sidecar, code=0)["changes"] == []


def test_every_kind_of_change_is_named_with_what_follows(sidecar: Any, files: Path) -> None:
    rewrite(
        files,
        ("limit: 600, window: 1m", "limit: 300, window: 1m"),
        (", mode: shadow", ""),
        ("units: 5", "units: 4"),
        ("meters: {requests: {count: requests}}", "meters: {requests: {count: requests, statuses: [2xx]}}"),
        ("  old: {limits: [{name: steady, limit: 10, window: 1m}]}\n", '  pro: {price: {base: "9.00 USD"}}\n'),
        ("gone: {plan: old}", "gone: {plan: pro}"),
        ("limit: 3000, period: billing", "limit: 3000, period: billing, overage: allow"),
    )
    changes = {change["path"]: change for change in told(sidecar)["changes"]}
    assert {path: (change["action"], change["effect"]) for path, change in changes.items()} == {
        "plans.free.limits.steady": ("changed", "tighter"),
        "plans.free.limits.trial": ("changed", "enforced from then on, with what it has counted"),
        "plans.free.quotas.mine": ("changed", "calls beyond it pass"),
        "plans.old": ("removed", "its tenants get 403 plan_unknown"),
        "plans.pro": ("added", ""),
        "routes.search": ("changed", ""),
        "meters.requests": ("changed", ""),
        "tenants.gone": ("changed", ""),
    }
    assert changes["plans.free.limits.steady"]["fields"] == {"limit": [600, 300]}
    assert changes["routes.search"]["fields"] == {"units": [5, 4]}
    text = sidecar("plan", "new").out
    assert "~ limit plans.free.limits.steady  (tighter)\n    limit: 600 -> 300\n" in text
    assert "+ plan plans.pro\n" in text


def test_whom_it_hits_by_what_the_ledger_holds(sidecar: Any, files: Path) -> None:
    """Over a lowered quota, busier than a lowered limit, marked by a trial, on a plan that goes; overrides count."""
    for minute in (0, 1):
        use(files, "acme", minute, 1, {"requests": 15})
    for minute in (30, 31):
        use(files, "busy", minute, 200, {"requests": 1, "_shadow.trial?": 7})
    use(files, "calm", 40, 90, {"requests": 1})
    rewrite(
        files,
        ("limit: 600, window: 1m", "limit: 300, window: 2m"),
        (", mode: shadow", ""),
        ("limit: 100, period: day", "limit: 10, period: day"),
        ("  old: {limits: [{name: steady, limit: 10, window: 1m}]}\n", ""),
        ("  gone: {plan: old}\n", ""),
    )
    found = {tenant["tenant"]: tenant for tenant in told(sidecar)["tenants"]}
    assert found["gone"]["gone"] is True
    acme, busy, calm = found["acme"], found["busy"], found["calm"]
    # At midnight the day's quota begins anew, so that what is used of it may be what came a minute ago or none.
    assert all((one["quota"], one["limit"]) == ("daily", 10) and one["used"] in (15, 30) for one in acme["over"])
    assert busy["busy"] == [{"limit": "steady", "units": 400, "allowed": 300}]
    assert busy["trials"] == [{"policy": "trial", "requests": 14}]
    assert (calm["busy"], calm["over"], calm["trials"]) == ([], [], [])
    text = sidecar("plan", "new").out
    assert "plan free: 3 tenants" in text
    assert "busy: would have been refused by trial (shadow mode): 14 calls within the last day" in text
    assert "gone: its plan is gone: every call answers 403 plan_unknown" in text


def test_a_tenants_own_number_is_the_one_that_counts(sidecar: Any, files: Path) -> None:
    for name in ("policies", "new"):
        text = (files / name / "all.yaml").read_text()
        mine = "acme: {plan: free, overrides: {limits: {steady: {limit: 500}}}}"
        (files / name / "all.yaml").write_text(text.replace("acme: {plan: free}", mine))
    use(files, "acme", 30, 400, {"requests": 1})
    use(files, "busy", 30, 400, {"requests": 1})
    new = files / "new" / "all.yaml"
    new.write_text(new.read_text().replace("limit: 600, window: 1m", "limit: 300, window: 1m"))
    assert [(one["tenant"], len(one["busy"])) for one in told(sidecar)["tenants"]] == [
        ("acme", 0),
        ("busy", 1),
        ("calm", 0),
    ]


def test_the_walk_over_tenants_is_bounded_and_says_so(sidecar: Any, files: Path) -> None:
    rewrite(files, ("limit: 600", "limit: 500"))
    document = told(sidecar, "--tenants", "2")
    assert ([one["tenant"] for one in document["tenants"]], document["seen"], document["next"]) == (
        ["acme", "busy"],
        2,
        "busy",
    )
    assert "only the first 2 tenants were looked at" in sidecar("plan", "new", "--tenants", "2").err
    assert told(sidecar, "--tenants", "0")["tenants"] == []
    assert sidecar("plan", "new", "--tenants", "-1").code == 1


def test_faults_are_listed_as_check_does(sidecar: Any, files: Path) -> None:
    rewrite(files, ("window: 1m}", "window: 60}"), ("units: 5", "unit: 5"))
    result = sidecar("plan", "new")
    assert (result.code, result.out) == (
        1,
        'new/all.yaml:2: routes[0]: unknown key "unit"; did you mean "units"?\n'
        'new/all.yaml:7: plans.free.limits[0].window: "60" has no unit; write 60s if you mean that\n'
        'new/all.yaml:12: plans.old.limits[0].window: "60" has no unit; write 60s if you mean that\n',
    )
    assert "3 faults" in result.err
    assert [fault["line"] for fault in told(sidecar, code=1)["faults"]] == [2, 7, 12]


def test_a_whole_configuration_may_be_given_too(sidecar: Any, files: Path) -> None:
    other = files / "other"
    (other / "policies").mkdir(parents=True)
    (other / "sidecar.yaml").write_text(CONFIG)
    (other / "policies" / "all.yaml").write_text(POLICIES.replace("limit: 600", "limit: 700"))
    for given in ("other", "other/sidecar.yaml"):
        assert "plans.free.limits.steady  (looser)" in sidecar("plan", given).out
    (files / "empty").mkdir()
    assert "the folder holds no *.yaml file" in sidecar("plan", "empty").out


def test_against_the_running_one(sidecar: Any, running: str, folder: Path) -> None:
    """A sidecar that serves nothing of the kind yet says so."""
    (folder / "new").mkdir()
    (folder / "new" / "all.yaml").write_text("plans: {free: {limits: [{name: burst, limit: 1, window: 1s}]}}\n")
    sidecar("tenants", "add", "acme", "--plan", "pro")
    result = sidecar("plan", "new", "--json")
    assert result.code == 2, result.err
    document = json.loads(result.out)
    assert document["running"] is True
    assert [(one["tenant"], one["gone"]) for one in document["tenants"]] == [("acme", True)]
