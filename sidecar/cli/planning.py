"""``sidecar plan NEW``: what new policies would change, and for whom, before they are loaded."""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sidecar.cli import output
from sidecar.cli.reach import config_file, in_force, perform
from sidecar.core.errors import ConfigError
from sidecar.core.units import parse_duration_ns

if TYPE_CHECKING:
    from sidecar.config import Change

_PAGE: Final = 200
_QUESTION_BYTES: Final = 48 * 1024  # the admin port takes 64 KiB
_LONGEST_S: Final = 3600  # of a limit's window, for which the minutes of the last day are looked at
_SHOWN: Final = 20  # tenants per plan, in the text
NOTHING, FAULTY, CHANGES = 0, 1, 2


def plan(options: argparse.Namespace) -> int:
    """0: nothing changes, 2: something does, 1: the new policies have faults."""
    from sidecar.config import compare, policy_set

    if options.tenants < 0:
        raise ValueError("--tenants must be 0 or more")
    old = in_force(options)
    try:
        new = policy_set(_load(options, old["policies"]))
    except ConfigError as error:
        return _faults(options, error)
    changes = compare(old["policies"], new)
    asked = _question(changes, new)
    tenants = _tenants(options, asked) if asked and options.tenants else {"tenants": [], "seen": 0, "next": None}
    if options.json:
        document = {"changes": [asdict(change) for change in changes], "running": old["running"], "faults": []}
        output.out_json(document | {"tenants": tenants["tenants"], "seen": tenants["seen"], "next": tenants["next"]})
    else:
        _show(changes, tenants, old["running"])
    return CHANGES if changes else NOTHING


def _load(options: argparse.Namespace, old: dict[str, Any]) -> Any:
    from sidecar.config import Overrides, load

    new = Path(options.new)
    whole = new if new.is_file() else new / "sidecar.yaml"
    given = whole.is_file() and (new.is_dir() or new.name == "sidecar.yaml")
    path = whole if given else config_file(options)
    policies = None if given else str(new)
    snapshot = load(path, Overrides(data=options.data, policies=policies), os.environ, needs_upstream=False)
    if snapshot.upstreams or not any(route.get("upstream") for route in old.get("routes", [])):
        return snapshot
    # The running one was given its only upstream on the command line: routes mean that one.
    overrides = Overrides(upstream="http://127.0.0.1:9", data=options.data, policies=policies)
    return load(path, overrides, os.environ)


def _faults(options: argparse.Namespace, error: ConfigError) -> int:
    if options.json:
        output.out_json({"changes": [], "faults": [asdict(fault) for fault in error.faults]})
    else:
        output.out(str(error))
        output.note(f"{len(error.faults)} {'fault' if len(error.faults) == 1 else 'faults'}")
    return FAULTY


def _question(changes: Sequence["Change"], new: dict[str, Any]) -> dict[str, Any]:
    """What is asked about the tenants of each plan that changes (admin.impact)."""
    asked: dict[str, Any] = {}
    for change in changes:
        if not change.plan or (change.kind == "plan" and change.action == "added"):
            continue
        of = asked.setdefault(change.plan, {"gone": False, "quotas": [], "limits": [], "trials": []})
        if change.kind == "plan" and change.action == "removed":
            of["gone"] = True
        elif change.action != "removed" and change.kind in ("limit", "quota", "concurrency"):
            _ask(of, change, new["plans"][change.plan])
    return asked


def _ask(of: dict[str, Any], change: "Change", plan: dict[str, Any]) -> None:
    key = {"limit": "limits", "quota": "quotas", "concurrency": "concurrency"}[change.kind]
    name = change.path.removeprefix(f"plans.{change.plan}.{key}.")
    policy = next(one for one in plan[key] if one["name"] == name)
    if policy["mode"] != "enforce":
        return
    # What it would have refused says nothing of a looser one.
    if change.fields.get("mode", ("", ""))[0] == "shadow" and "looser" not in change.effect:
        of["trials"].append(name)
    if change.kind == "quota" and policy["overage"] == "block":
        shown = {part: policy[part] for part in ("name", "meter", "limit", "period")}
        of["quotas"].append(shown | {"time_zone": policy.get("time_zone", "UTC")})
    if change.kind == "limit" and policy["scope"] == ["tenant"]:
        window_s = parse_duration_ns(policy["window"]) // 10**9
        if 60 <= window_s <= _LONGEST_S:
            of["limits"].append({"name": name, "limit": policy["limit"], "window_s": window_s})


def _tenants(options: argparse.Namespace, asked: dict[str, Any]) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    walked: dict[str, Any] = {}
    for part in _parts(asked):
        walked = _walk(options, part)
        found += walked["tenants"]
    return walked | {"tenants": sorted(found, key=lambda tenant: str(tenant["tenant"]))}


def _walk(options: argparse.Namespace, asked: dict[str, Any]) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    seen, after = 0, ""
    while True:
        limit = min(_PAGE, options.tenants - seen)
        page = perform(options, "impact", {"plans": asked, "after": after, "limit": limit})
        found += page["tenants"]
        seen += page["seen"]
        if page["next"] is None or seen >= options.tenants:
            return {"tenants": found, "seen": seen, "next": page["next"]}
        after = page["next"]


def _parts(asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Questions that fit into a request's body; there is at least one."""
    part: dict[str, Any] = {}
    size = 0
    for name, of in asked.items():
        more = len(json.dumps({name: of}))
        if part and size + more > _QUESTION_BYTES:
            yield part
            part, size = {}, 0
        part[name] = of
        size += more
    yield part


def _show(changes: Sequence["Change"], tenants: dict[str, Any], running: bool) -> None:
    output.note(
        "compared with the policies " + ("of the running sidecar" if running else "on disk; no sidecar runs here")
    )
    if not changes:
        output.out("nothing changes")
        return
    for change in changes:
        mark = {"added": "+", "removed": "-", "changed": "~"}[change.action]
        effect = f"  ({change.effect})" if change.effect else ""
        output.out(f"{mark} {change.kind} {change.path}{effect}")
        for name, (before, after) in change.fields.items():
            output.out(f"    {name}: {_text(before)} -> {_text(after)}")
    by_plan: dict[str, list[dict[str, Any]]] = {}
    for tenant in tenants["tenants"]:
        by_plan.setdefault(tenant["plan"], []).append(tenant)
    for plan, affected in by_plan.items():
        output.out(f"\nplan {plan}: {len(affected)} {'tenant' if len(affected) == 1 else 'tenants'}")
        told = [(tenant["tenant"], line) for tenant in affected for line in _lines(tenant)]
        for name, line in told[:_SHOWN]:
            output.out(f"    {name}: {line}")
        if len(told) > _SHOWN:
            output.out(f"    and {len(told) - _SHOWN} more; --json has all")
    if tenants["next"] is not None:
        output.note(f"only the first {tenants['seen']:,} tenants were looked at; --tenants N looks at more")


def _lines(tenant: dict[str, Any]) -> list[str]:
    if tenant["gone"]:
        return ["its plan is gone: every call answers 403 plan_unknown"]
    lines = [
        f"over the quota {one['quota']} at once: {one['used']:,} used of {one['limit']:,}, until {one['until']}"
        for one in tenant["over"]
    ]
    lines += [
        f"would have been refused by {one['limit']}: {one['units']:,} units in one window within the last day, "
        f"{one['allowed']:,} allowed"
        for one in tenant["busy"]
    ]
    return lines + [
        f"would have been refused by {one['policy']} (shadow mode): {one['requests']:,} calls within the last day"
        for one in tenant["trials"]
    ]


def _text(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
