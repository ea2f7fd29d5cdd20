"""Problem documents (RFC 9457)."""

import json

import pytest

from sidecar.core.problems import CODES, QUOTA_EXCEEDED, problem


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_makes_a_document(code: str) -> None:
    refusal = problem(code, "détail", extra={"more": 1})
    document = json.loads(refusal.body(instance="0199c82c-c000-70a0-a59a-156e23000001"))
    assert 400 <= document["status"] <= 599
    assert document["code"] == code
    assert (document["detail"], document["more"]) == ("détail", 1)
    assert document["instance"].startswith("urn:uuid:")
    assert document["type"] in (f"urn:sidecar:problem:{code}", QUOTA_EXCEEDED)
    assert "instance" not in json.loads(refusal.body())


def test_limits_have_the_registered_type() -> None:
    assert {code for code in CODES if problem(code, "").type == QUOTA_EXCEEDED} == {
        "limit_exceeded",
        "concurrency_exceeded",
        "quota_exceeded",
    }


def test_an_unknown_code_is_a_bug() -> None:
    with pytest.raises(KeyError):
        problem("nothing", "")
