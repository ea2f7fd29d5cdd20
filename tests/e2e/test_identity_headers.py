"""What the API learns about its caller, and what a caller cannot make it believe (http.md 1.8, 1.10, 1.11)."""

import pytest

from tests.e2e.process import Sidecar, raw


@pytest.fixture(scope="module")
def key(front: Sidecar) -> str:
    return front.key("identified", plan="scale")


def fields(front: Sidecar, key: str, **headers: str) -> list[tuple[str, str]]:
    sent = {name.replace("__", "-"): value for name, value in headers.items()}
    reply = front.call("GET", "/echo", key, headers=sent)
    assert reply.status == 200
    return [(name.lower(), value) for name, value in reply.json()["headers"]]


def test_the_api_is_told_who_calls(front: Sidecar, key: str) -> None:
    seen = dict(fields(front, key))
    assert seen["x-tenant-id"] == "identified"
    assert seen["x-plan"] == "scale"
    assert seen["x-key-id"]
    assert seen["x-key-id"] in key


def test_the_key_stays_here(front: Sidecar, key: str) -> None:
    assert all(key not in value for _, value in fields(front, key))
    reply = front.call("GET", "/echo", headers={"Authorization": f"Bearer {key}"})
    assert key.encode() not in reply.body


@pytest.mark.parametrize(
    "name", ["X-Tenant-ID", "x-tenant-id", "X_Tenant_ID", "X-Tenant_ID", "X-Plan", "X_Plan", "X-Key-ID"]
)
def test_a_client_cannot_say_who_it_is(front: Sidecar, key: str, name: str) -> None:
    reply = front.call("GET", "/echo", key, headers={name: "forged"})
    assert b"forged" not in reply.body
    names = [line[0].lower().replace("_", "-") for line in reply.json()["headers"]]
    assert names.count(name.lower().replace("_", "-")) == 1


def test_connection_cannot_remove_the_identity(front: Sidecar, key: str) -> None:
    """http.md 1.8: strip first, add our own fields after."""
    seen = dict(fields(front, key, Connection="close, X-Tenant-ID, X-Secret-Hop", X__Secret__Hop="1"))
    assert seen["x-tenant-id"] == "identified"
    assert "x-secret-hop" not in seen


def test_one_request_id_everywhere(front: Sidecar, key: str) -> None:
    reply = front.call("GET", "/echo", key, headers={"X-Request-ID": "mine"})
    upstream = {name.lower(): value for name, value in reply.json()["headers"]}["x-request-id"]
    assert reply.headers["X-Request-ID"] == upstream
    assert upstream != "mine"


def test_forwarded_for_is_replaced_for_strangers(front: Sidecar, key: str) -> None:
    values = [value for name, value in fields(front, key, X__Forwarded__For="203.0.113.9") if name == "x-forwarded-for"]
    assert values == ["127.0.0.1"]


def test_foreign_authorization_passes(front: Sidecar, key: str) -> None:
    assert dict(fields(front, key, Authorization="Basic dTpw"))["authorization"] == "Basic dTpw"


def test_the_target_passes_byte_for_byte(front: Sidecar, key: str) -> None:
    """http.md 1.10: never a URL join."""
    target = "//evil/p%2F%c3%a9?a=%20&&b=c;d"
    head = f"GET {target} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n"
    answer = raw(front.base, head.encode())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert f'"target": "{target}"'.encode() in answer
