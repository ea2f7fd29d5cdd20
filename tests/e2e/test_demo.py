"""`make demo` does what the README says: it is run, and its output read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_the_demo_shows_what_it_promises(tmp_path: Path) -> None:
    """Each expected status was seen, or the demo itself ends with 1."""
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--once"],
        cwd=ROOT,
        env=os.environ | {"DEMO_DATA": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for word in (
        "200 GET",
        "401 GET",
        "403 POST",
        "429 GET",
        "RateLimit:",
        "Retry-After:",
        "X-Request-ID:",
        "402 POST",
        "read-only",
        "demo_requests  value",
        "demo_units  value",
    ):
        assert word in done.stdout
    for event in ("demo_requests", "demo_units"):
        found = re.search(rf"^{event} +(\d+) +(\d+)  the same$", done.stdout, re.MULTILINE)
        assert found is not None, done.stdout
        assert found[1] == found[2]
        assert int(found[1]) >= 23
    assert "DIFFERENT" not in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_demo_sells_the_shipped_plans() -> None:
    """Number by number, besides the feature that its API has."""
    shipped, shown = (
        yaml.safe_load((ROOT / folder / "plans.yaml").read_text())["plans"] for folder in ("policies", "demo/policies")
    )
    for plan in shown.values():
        plan.pop("features", None)
    assert shown == shipped
    meters = [yaml.safe_load((ROOT / folder / "meters.yaml").read_text()) for folder in ("policies", "demo/policies")]
    for meter in meters[1]["meters"].values():
        assert meter.pop("stripe_event").startswith("demo_")
    assert meters[0] == meters[1]
