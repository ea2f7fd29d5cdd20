"""Every refusal is a problem document (RFC 9457) with the right status, reaches no upstream and consumes nothing."""

import re
from collections.abc import Iterator

import pytest

from tests.e2e.api import Api
from tests.e2e.conftest import Make
from tests.e2e.process import Sidecar, call, raw, write_config

POLICIES = """
meters: {requests: {count: requests}}
plans:
  small:
    limits: [{name: trickle, limit: 3, window: 1h, scope: [tenant]}]
    quotas: [{name: monthly, meter: requests, limit: 1_000, period: month, overage: block}]
    upgrade: Ask for the plan large.
  tiny:
    quotas: [{name: monthly, meter: requests, limit: 2, period: month, overage: block}]
  large:
    features: [reports]
    limits: [{name: wide, limit: 1_000_000, window: 1m, scope: [tenant]}]
tenants:
  late: {plan: large, state: suspended}
  reader: {plan: large, state: read_only}
  gone: {plan: large, state: closed}
routes:
  - {name: reports, match: {methods: [GET], path: /reports}, upstream: api, feature: reports}
  - {name: admin, match: {path: /secret}, upstream: api, scopes: [staff]}
  - {name: small, match: {path: /small}, upstream: api, max_body: 1KiB}
  - {name: echo, match: {methods: [GET, POST], path: "/echo/{rest...}"}, upstream: api}
"""


@pytest.fixture(scope="module")
def strict(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder = tmp_path_factory.mktemp("strict")
    sidecar = Sidecar(folder, *write_config(folder, api.url, POLICIES)).start()
    yield sidecar
    sidecar.close()


@pytest.fixture(scope="module")
def large(strict: Sidecar) -> str:
    return strict.key("large-co", plan="large")


def test_no_key(strict: Sidecar) -> None:
    reply = strict.call("GET", "/echo/")
    assert (reply.status, reply.problem()["code"]) == (401, "key_missing")
    assert reply.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    "wrong",
    ["truncated", "mistyped", "oversized", "another brand", "empty words", "not ASCII", "doubled in one header"],
)
def test_keys_that_cannot_be_keys(strict: Sidecar, large: str, wrong: str) -> None:
    text = {
        "truncated": large[:-3],
        "mistyped": large[:-1] + ("a" if large[-1] != "a" else "b"),
        "oversized": large * 200,
        "another brand": "xx" + large[2:],
        "empty words": "sc_live_",
        "not ASCII": large[:-1] + "\xe9",
        "doubled in one header": f"{large}, {large}",
    }[wrong]
    reply = strict.call("GET", "/echo/", text)
    assert reply.status == 401
    assert reply.problem()["code"] in {"key_malformed", "key_unknown"}
    assert text not in reply.body.decode("latin-1")


def test_a_key_that_nobody_made(strict: Sidecar, large: str, make: Make, api: Api) -> None:
    """Well-formed, with a right checksum, from another sidecar's book."""
    foreign = make("--upstream", api.url).key("acme")
    reply = strict.call("GET", "/echo/", foreign)
    assert (reply.status, reply.problem()["code"]) == (401, "key_unknown")


def test_two_different_keys(strict: Sidecar, large: str) -> None:
    other = strict.another_key("large-co")
    reply = strict.call("GET", "/echo/", large, headers={"Authorization": f"Bearer {other}"})
    assert (reply.status, reply.problem()["code"]) == (401, "credentials_ambiguous")


def test_two_key_headers(strict: Sidecar, large: str) -> None:
    other = strict.another_key("large-co")
    lines = f"X-API-Key: {large}\r\nX-API-Key: {other}\r\n"
    answer = raw(strict.base, f"GET /echo/ HTTP/1.1\r\nHost: a\r\n{lines}Connection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"credentials_ambiguous" in answer


def test_a_revoked_key(strict: Sidecar) -> None:
    key = strict.key("revoking", plan="large")
    fields = {name.lower(): value for name, value in strict.call("GET", "/echo/", key).json()["headers"]}
    strict.cli("keys", "revoke", fields["x-key-id"])
    reply = strict.call("GET", "/echo/", key)
    assert (reply.status, reply.problem()["code"]) == (401, "key_revoked")


def test_an_expired_key(strict: Sidecar) -> None:
    strict.cli("tenants", "add", "expiring", "--plan", "large")
    key = strict.another_key("expiring", "--expires", "1us")
    reply = strict.call("GET", "/echo/", key)
    assert (reply.status, reply.problem()["code"]) == (401, "key_expired")


@pytest.mark.parametrize(
    ("tenant", "method", "status"), [("late", "GET", 402), ("reader", "POST", 402), ("gone", "GET", 403)]
)
def test_access_states(strict: Sidecar, tenant: str, method: str, status: int) -> None:
    key = strict.another_key(tenant)
    reply = strict.call(method, "/echo/", key)
    assert reply.status == status
    assert reply.problem()["code"] == {402: "payment_required", 403: "tenant_closed"}[status]


def test_read_only_may_read(strict: Sidecar) -> None:
    assert strict.call("GET", "/echo/", strict.another_key("reader")).status == 200


def test_a_feature_that_the_plan_has_not(strict: Sidecar, large: str) -> None:
    key = strict.key("featureless", plan="small")
    reply = strict.call("GET", "/reports", key)
    assert (reply.status, reply.problem()["code"]) == (403, "feature_not_in_plan")
    assert strict.call("GET", "/reports", large).status == 200


def test_a_scope_that_the_key_has_not(strict: Sidecar, large: str) -> None:
    narrow = strict.another_key("large-co", "--scopes", "visitor")
    reply = strict.call("GET", "/secret", narrow)
    assert (reply.status, reply.problem()["code"]) == (403, "scope_missing")
    assert strict.call("GET", "/secret", strict.another_key("large-co", "--scopes", "staff,visitor")).status == 200


def test_addresses_and_methods_without_a_route(strict: Sidecar, large: str) -> None:
    assert strict.call("GET", "/nowhere", large).problem()["code"] == "route_unknown"
    reply = strict.call("DELETE", "/echo/", large)
    assert (reply.status, reply.problem()["code"]) == (405, "method_not_allowed")
    assert set(re.split(r",\s*", reply.headers["Allow"])) == {"GET", "HEAD", "POST"}


def test_a_body_over_the_bound(strict: Sidecar, large: str, api: Api) -> None:
    before = api.seen.get("/small", 0)
    reply = strict.call("POST", "/small", large, body=b"x" * 1025)
    assert (reply.status, reply.problem()["code"]) == (413, "body_too_large")
    assert api.seen.get("/small", 0) == before
    assert strict.call("POST", "/small", large, body=b"x" * 1024).status == 200


def test_a_limit_announces_itself_and_refuses(strict: Sidecar, api: Api) -> None:
    """field-bugs 2, 7: envoyproxy/ratelimit#185, Kong/kong#4379: headers move, a refusal consumes nothing."""
    key = strict.key("limited", plan="small")
    before = api.seen.get("/echo/", 0)
    replies = [strict.call("GET", "/echo/", key) for _ in range(5)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
    assert api.seen["/echo/"] == before + 3
    remaining = [re.search(r'"trickle";r=(\d+)', reply.headers["RateLimit"]) for reply in replies]
    assert [int(match[1]) for match in remaining if match] == [2, 1, 0, 0, 0]
    assert all('"trickle";q=3;w=3600' in reply.headers["RateLimit-Policy"] for reply in replies)
    refused = replies[-1]
    assert refused.problem()["code"] == "limit_exceeded"
    assert refused.problem()["violated-policies"] == ["trickle"]
    assert "large" in refused.problem()["upgrade"]
    assert 0 < int(refused.headers["Retry-After"]) <= 3600
    assert strict.usage("limited", 3)["requests"] == 3


def test_a_quota_that_is_used_up(strict: Sidecar) -> None:
    key = strict.key("quotaed", plan="tiny")
    replies = [strict.call("GET", "/echo/", key) for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert replies[2].problem()["code"] == "quota_exceeded"
    assert int(replies[2].headers["Retry-After"]) > 0


def test_a_limit_is_shared_by_all_keys_of_a_tenant(strict: Sidecar) -> None:
    """field-bugs 1: apache/apisix#12946, traefik/traefik#13706."""
    first = strict.key("sharing", plan="small")
    second = strict.another_key("sharing")
    statuses = [strict.call("GET", "/echo/", key).status for key in (first, second, first, second)]
    assert statuses == [200, 200, 200, 429]


def test_an_upstream_that_is_down(make: Make) -> None:
    sidecar = make("--upstream", "http://127.0.0.1:9").start()
    key = sidecar.key("acme")
    for _ in range(3):
        reply = sidecar.call("GET", "/", key)
        assert (reply.status, reply.problem()["code"]) == (503, "upstream_unavailable")
        assert b"127.0.0.1" not in reply.body  # where it stands is for the operator, who is told once
    assert sidecar.errors.count("no connection to http://127.0.0.1:9: ") == 1


def test_an_upstream_that_hangs_up(front: Sidecar) -> None:
    key = front.key("dropped")
    reply = front.call("POST", "/drop", key, body=b"x")
    assert (reply.status, reply.problem()["code"]) == (502, "upstream_failed")


def test_a_refusal_carries_the_request_id(strict: Sidecar) -> None:
    reply = call(strict.base, "GET", "/echo/")
    assert reply.headers["X-Request-ID"] in reply.problem()["instance"]
