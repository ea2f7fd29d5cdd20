"""A saved report becomes a statement to sign; one that was changed does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.billing import digest_of
from sidecar.cli.statements import statement
from sidecar.core.errors import SidecarError

LINE = {
    "tenant": "acme",
    "customer": "cus_1",
    "meter": "requests",
    "event_name": "api_requests",
    "period": {"start_s": 1_793_491_200, "end_s": 1_796_083_200},
    "ledger": 12_345,
    "assigned": 12_345,
    "payee": 12_345,
    "agrees": True,
    "differences": [],
    "invoice": {"id": "in_1", "number": "ABC-0001", "quantity": 12_345, "final": True},
}
DIFFERENCE = {
    "kind": "missing",
    "ours": 5,
    "theirs": 0,
    "minute": 29_891_520,
    "note": "row 7",
    "action": "it is sent again",
}


def saved(folder: Path, *lines: dict[str, Any], **more: Any) -> tuple[Path, dict[str, Any]]:
    report: dict[str, Any] = {"at_s": 1_796_100_000, "instance": "abcdefgh", "lines": list(lines)}
    report |= {"digest": digest_of(report), "next": None} | more
    (folder / "r.json").write_text(json.dumps(report, indent=2))
    return folder / "r.json", report


def test_it_has_all_that_is_signed(tmp_path: Path) -> None:
    draft = {"id": "in_2", "number": None, "quantity": None, "final": False}
    others = ({**LINE, "tenant": "beta", "payee": None, "invoice": draft}, {**LINE, "tenant": "c", "invoice": None})
    file, report = saved(tmp_path, LINE, *others)
    text, agrees = statement(str(file))
    assert agrees
    for words in (
        "acme (cus_1), requests, 2026-11-01 00:00:00 UTC to 2026-12-01 00:00:00 UTC",
        "served 12,345, asked for 12,345, at the payee 12,345: agrees",
        "at the payee not known",
        "invoice ABC-0001 (in_1), final: asks for 12,345",
        "invoice in_2, a draft: no quantity yet",
        "no invoice over this period",
        "requests: served 37,035, asked for 37,035, at the payee 24,690",
        report["digest"],
        "Checked by:",
    ):
        assert words in text


def test_differences_and_what_is_not_listed_are_said(tmp_path: Path) -> None:
    file, _ = saved(tmp_path, {**LINE, "agrees": False, "differences": [DIFFERENCE]}, next="acme")
    text, agrees = statement(str(file))
    assert not agrees
    assert "missing at 2026-11-01 00:00:00 UTC: ours 5, theirs 0. row 7; it is sent again" in text
    assert "NOT ALL TENANTS: those after acme" in text


def test_a_changed_report_is_refused(tmp_path: Path) -> None:
    file, report = saved(tmp_path, LINE)
    file.write_text(json.dumps(report).replace("12345", "12346"))
    with pytest.raises(SidecarError, match="was changed"):
        statement(str(file))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"at_s": 1}', '"x"'])
def test_what_is_no_report_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(SidecarError, match="is no report"):
        statement(str(tmp_path / "r.json"))
    with pytest.raises(SidecarError, match="cannot be read"):
        statement(str(tmp_path / "none.json"))
