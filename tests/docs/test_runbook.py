"""Whoever is paged finds what the alert means and what to do; no alert asks for a metric that is not there."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.admin.families import FAMILIES
from sidecar.cli import make_parser

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "config/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
ROWS = re.findall(r"^\| `(\w+)` \((page|ticket)\) \| (.+?) \| (.+?) \|$", RUNBOOK, re.M)


def test_every_alert_is_in_the_runbook_once_and_no_other() -> None:
    named = sorted(name for name, *_ in ROWS)
    assert named == sorted(rule["alert"] for rule in RULES)
    assert all(len(means) > 10 and len(do) > 10 for _, _, means, do in ROWS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_it_is_and_asks_for_metrics_that_exist(rule: dict[str, Any]) -> None:
    severity = next(severity for name, severity, *_ in ROWS if name == rule["alert"])
    assert rule["labels"]["severity"] == severity
    assert rule["annotations"]["summary"]
    ours = {f"sidecar_{family.name}" for family in FAMILIES}
    asked = set(re.findall(r"\bsidecar_\w+", rule["expr"]))
    assert asked <= ours
    assert asked or rule["alert"] == "SidecarDown"


TOLD = RUNBOOK + " ".join(rule["annotations"]["summary"] for rule in RULES)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`(sidecar [^`]+)`", TOLD))))
def test_what_to_run_is_a_command(command: str) -> None:
    make_parser().parse_args(shlex.split(command)[1:])
