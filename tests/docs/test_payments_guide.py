"""The receiver that the guide shows takes what the sidecar signs, and nothing else."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.billing.notices import request_of
from sidecar.core.accounts import Notice

GUIDE = (Path(__file__).parents[2] / "docs" / "payments.md").read_text()
SECRET, OTHER = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "whsec_" + "OTg3NjU0MzIxMDk4NzY1NDMyMTA5ODc2"
NOTICE = Notice("n1", "webhook", "access.grace", "acme", {"status": "past_due"}, 1_800_000_000 * 10**9)
NOW_S = 1_800_000_100
Recipe = Callable[[str, dict[str, str], bytes, float], bool]


@pytest.fixture
def is_ours() -> Recipe:
    (code,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.M | re.S)
    names: dict[str, Any] = {}
    exec(code, names)
    made: Recipe = names["is_ours"]
    return made


def test_the_recipe_verifies_what_is_sent(is_ours: Recipe) -> None:
    headers, body = request_of(NOTICE, SECRET, NOW_S * 10**9)
    assert is_ours(SECRET, headers, body, NOW_S)
    assert is_ours(SECRET, headers, body, NOW_S + 299.0)
    assert not is_ours(SECRET, headers, body, NOW_S + 300.0)
    assert not is_ours(OTHER, headers, body, NOW_S)
    assert not is_ours(SECRET, headers, body + b" ", NOW_S)
    assert not is_ours(SECRET, headers | {"webhook-id": "msg_other"}, body, NOW_S)
    rotated = headers | {"webhook-signature": f"v1,bm90IHRoaXM= {headers['webhook-signature']}"}
    assert is_ours(SECRET, rotated, body, NOW_S)
