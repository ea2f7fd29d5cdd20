"""``sidecar explain``: offline and through the admin port, for people and for programs."""

import json
from pathlib import Path
from typing import Any

import pytest

POLICIES = """\
upstreams: {api: {targets: ["http://127.0.0.1:9"]}}
meters: {requests: {count: requests}}
routes:
  - {name: search, match: {path: /search}, units: 5}
  - {name: post, match: {methods: [POST, PUT], path: /post}}
  - {name: open, match: {path: /open}, auth: none, plan: free}
plans:
  free:
    test_keys: free
    limits:
      - {name: burst, limit: 10, window: 1s, scope: [key]}
      - {name: trial, limit: 5, window: 1m, mode: shadow}
      - {name: org, limit: 50, window: 2s, scope: ["header:X-Org", ip]}
    quotas: [{name: daily, meter: requests, limit: 10, period: day}]
tenants: {acme: {plan: free}}
"""


@pytest.fixture
def policies(folder: Path) -> None:
    (folder / "sidecar.yaml").write_text(POLICIES)


@pytest.mark.usefixtures("policies")
def test_offline_it_says_that_counters_in_process_are_empty(sidecar: Any) -> None:
    told = sidecar("explain", "--tenant", "acme", "--route", "search")
    assert told.code == 0
    assert "acme: GET at search, 5 units, plan free (sidecar.yaml:9)" in told.out
    assert "now: It passes, as far as is known." in told.out
    assert "sidecar.yaml:11" in told.out
    assert "no sidecar runs here" in told.err
    assert "say --key KEY_ID" in told.err
    assert "say --header 'x-org: ...'" in told.err


@pytest.mark.usefixtures("policies")
def test_json_holds_every_fact(sidecar: Any) -> None:
    key = json.loads(sidecar("keys", "create", "acme", "--name", "k", "--json").out)["id"]
    words = ("explain", "--tenant", "acme", "--route", "search", "--key", key, "--ip", "2001:db8::7", "--json")
    document = json.loads(sidecar(*words, "--header", "X-Org: a", "--header", "X-More: b").out)
    assert (document["live"], document["say"], document["store"], document["test"]) == (False, [], None, False)
    assert document["answer"] == {"status": None, "code": None, "detail": "It passes."}
    assert [one["check"] for one in document["checks"]] == ["tenant", "key", "state", "plan", "feature", "scopes"]
    burst, org, daily, trial = document["policies"]
    assert burst == {
        "name": "burst",
        "kind": "limit",
        "mode": "enforce",
        "scope": ["key"],
        "limit": 10,
        "window": "1s",
        "bucket": f'free/burst key="{key}"',
        "needs": [],
        "used": 0,
        "leased": None,
        "remaining": 10,
        "reset_s": 0,
        "on_store_error": None,
        "exact": None,
        "refuses": False,
        "from": "sidecar.yaml:11",
    }
    assert org["bucket"] == 'free/org header:x-org="a" ip="2001:db8::/64"'
    assert (daily["kind"], daily["meter"], daily["overage"], daily["remaining"]) == ("quota", "requests", "block", 10)
    assert (trial["mode"], trial["refuses"]) == ("shadow", False)
    sidecar("keys", "revoke", key)
    answer = json.loads(sidecar(*words).out)["answer"]
    assert (answer["status"], answer["code"]) == (401, "key_revoked")


@pytest.mark.usefixtures("policies")
def test_what_is_asked_wrongly_says_what_to_write(sidecar: Any) -> None:
    acme = ("explain", "--tenant", "acme", "--route")
    for words, said in (
        ((*acme, "serch"), "did you mean search?"),
        (("explain", "--route", "search"), "name a tenant"),
        (("explain", "--tenant", "nobody", "--route", "search"), "there is no tenant 'nobody'"),
        ((*acme, "open"), "auth: none"),
        ((*acme, "search", "--key", "no"), "has no key 'no'"),
        ((*acme, "search", "--ip", "here"), "is no address"),
        ((*acme, "search", "--header", "X-Org"), "is no header"),
        ((*acme, "search", "--method", "get"), "is no method"),
        ((*acme, "post", "--method", "GET"), "takes POST, PUT, not GET"),
    ):
        told = sidecar(*words)
        assert (told.code, told.out) == (1, "")
        assert said in told.err
    assert "POST at post" in sidecar(*acme, "post").out
    assert "callers without a key: GET at open" in sidecar("explain", "--route", "open").out
    assert "acme with a test key" in sidecar(*acme, "search", "--test").out


def test_through_the_admin_port(sidecar: Any, running: str) -> None:
    sidecar("tenants", "add", "acme", "--plan", "free")
    told = sidecar("explain", "--tenant", "acme", "--route", "all", "--header", "X-A: 1", "--header", "X-B: 2")
    assert (told.code, told.out) == (1, "")
    assert "there is no route 'all'" in told.err


def test_it_says_what_the_caller_s_address_decides(folder: Path, sidecar: Any) -> None:
    (folder / "sidecar.yaml").write_text(
        'upstreams: {api: {targets: ["http://127.0.0.1:9"]}}\naddresses: {deny: [10.9.0.0/16]}\n'
        "routes: [{name: inner, match: {path: /inner}, addresses: {allow: [10.0.0.0/8]}}]\n"
        "plans: {free: {test_keys: free}}\ntenants: {acme: {plan: free}}\n"
    )
    for ip, code in (("10.1.2.3", None), ("10.9.2.3", "address_denied"), ("192.0.2.1", "address_denied")):
        words = ("explain", "--tenant", "acme", "--route", "inner", "--ip", ip, "--json")
        document = json.loads(sidecar(*words).out)
        assert (document["checks"][0]["check"], document["checks"][0]["code"]) == ("address", code)
        assert document["answer"]["code"] == code
    told = sidecar("explain", "--tenant", "acme", "--route", "inner")
    assert "it depends on the ip: say it" in told.out
