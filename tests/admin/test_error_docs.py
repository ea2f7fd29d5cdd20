"""docs/errors.md and docs/admin-api.md name every code with its status, and no other."""

import re
from pathlib import Path

from sidecar.admin.replies import ADMIN_TITLES
from sidecar.core.problems import CODES, problem

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"^\| `(\w+)` \| (\d{3}) \| ([^|]+) \| ([^|]+) \|$", re.M)


def test_every_problem_code_has_its_cause_and_way_out() -> None:
    rows = ROW.findall((DOCS / "errors.md").read_text())
    assert {(code, int(status)) for code, status, _, _ in rows} == {(code, problem(code, "").status) for code in CODES}
    assert len(rows) == len(CODES)


def test_every_admin_code_has_its_cause_and_way_out() -> None:
    rows = ROW.findall((DOCS / "admin-api.md").read_text())
    assert {(code, int(status)) for code, status, _, _ in rows} == {
        (code, status) for code, (status, _) in ADMIN_TITLES.items()
    }
