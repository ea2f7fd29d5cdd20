"""The admin listener over real sockets: who may speak, what is refused, what is answered."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from sidecar.admin import make_admin_app, make_public_app
from sidecar.core.errors import StoreError
from sidecar.core.policy import Admin

TOKEN = "t0ken"


@pytest.fixture
async def client(world: Any) -> AsyncIterator[ClientSession]:
    settings = Admin(hosts=("ops.example",))
    app = make_admin_app(
        world.operations, world.sources, lambda: world.reasons, TOKEN, settings, lambda: world.warnings
    )
    async with TestServer(app) as server, ClientSession(server.make_url("/")) as session:
        session.headers["Authorization"] = f"Bearer {TOKEN}"
        yield session


async def problem_of(reply: Any) -> tuple[int, str, str]:
    assert reply.content_type == "application/problem+json"
    document = await reply.json()
    assert document["status"] == reply.status
    return reply.status, document["code"], document["detail"]


async def test_the_whole_life_of_a_tenant_and_its_keys(client: ClientSession, world: Any) -> None:
    async with client.post("/api/v1/tenants", json={"name": "acme", "plan": "pro"}) as reply:
        assert reply.status == 201
    async with client.patch("/api/v1/tenants/acme", json={"state": "grace"}, headers={"X-Actor": "cli:eve"}) as reply:
        assert (await reply.json())["state"] == "grace"
    async with client.get("/api/v1/tenants", params={"limit": 1}) as reply:
        assert (await reply.json())["next"] == "acme"
    async with client.get("/api/v1/tenants/acme") as reply:
        assert (await reply.json())["plan"] == "pro"
    body = {"name": "ci", "test": True, "scopes": ["a"], "expires": "90d"}
    async with client.post("/api/v1/tenants/acme/keys", json=body) as reply:
        assert reply.status == 201
        assert reply.headers["Cache-Control"] == "no-store"
        made = await reply.json()
        assert made["key"].startswith("sc_test_")
    async with client.post(f"/api/v1/keys/{made['id']}/rotate", json={"overlap": "1h"}) as reply:
        assert (await reply.json())["replaces"]["id"] == made["id"]
    async with client.post(f"/api/v1/keys/{made['id']}/revoke") as reply:
        assert (await reply.json())["status"] == "revoked"
    async with client.get("/api/v1/tenants/acme/keys") as reply:
        assert [key["status"] for key in (await reply.json())["keys"]] == ["revoked", "active"]
    async with client.get("/api/v1/usage/acme", params={"since": "1h"}) as reply:
        assert (await reply.json())["requests"] == 0
    assert world.store.audit[:2] == [("admin-api", "add_tenant"), ("cli:eve", "set_tenant")]


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Basic t0ken", "t0ken", "Bearer t0kenx"])
async def test_the_api_wants_the_token(client: ClientSession, header: str | None) -> None:
    del client.headers["Authorization"]
    headers = {} if header is None else {"Authorization": header}
    for path in ("/api/v1/tenants", "/api/v1/no-such-thing"):
        async with client.get(path, headers=headers) as reply:
            status, code, detail = await problem_of(reply)
            assert (status, code) == (401, "unauthorized")
            assert reply.headers["WWW-Authenticate"].startswith("Bearer")
            assert TOKEN not in detail


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:9901", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:9901", 200),
        ("ops.example:9901", 200),
        ("evil.example", 421),
        ("evil.example:9901", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost@evil.example", 421),
        ("", 421),
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/livez", "/api/v1/tenants"])
async def test_foreign_host_names_are_turned_away(client: ClientSession, host: str, status: int, path: str) -> None:
    async with client.get(path, headers={"Host": host}) as reply:
        assert reply.status == status


async def test_probes_need_no_token_and_say_why_not_ready(client: ClientSession, world: Any) -> None:
    del client.headers["Authorization"]
    async with client.get("/livez") as reply:
        assert (reply.status, await reply.text()) == (200, "ok\n")
    async with client.get("/readyz") as reply:
        assert (reply.status, await reply.json()) == (200, {"ready": True, "reasons": [], "warnings": []})
    world.warnings.append("the ledger has been failing for 61 s")
    async with client.get("/readyz") as reply:
        assert (reply.status, (await reply.json())["warnings"]) == (200, world.warnings)
    world.reasons.append("no target of api is up")
    async with client.get("/readyz") as reply:
        assert reply.status == 503
        assert await reply.json() == {"ready": False, "reasons": world.reasons, "warnings": world.warnings}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"name": "a"}, "plan is missing"),
        ({"name": "a", "plan": None}, "plan is missing"),
        ({"name": "a", "plan": 7}, "plan must be a text"),
        ({"name": "a", "plan": "pro", "plam": "pro"}, "'plam' is not known here; did you mean plan?"),
        ({"name": "a", "plan": "pro", "zzz": 1}, "'zzz' is not known here; known are name, plan"),
        (["a"], "the body must be a JSON object"),
        ({"name": "a b", "plan": "pro"}, "'a b' is not a tenant's name"),
    ],
)
async def test_wrong_bodies_are_told_what_is_wrong(client: ClientSession, body: Any, detail: str) -> None:
    async with client.post("/api/v1/tenants", json=body) as reply:
        status, code, said = await problem_of(reply)
        assert (status, code) == (400, "invalid")
        assert said.startswith(detail)


async def test_mistyped_members_of_a_key_are_refused(client: ClientSession) -> None:
    for body, detail in (
        ({"name": "ci", "test": "yes"}, "test must be true or false"),
        ({"name": "ci", "scopes": "a"}, "scopes must be a list of texts"),
        ({"name": "ci", "scopes": [1]}, "scopes must be a list of texts"),
    ):
        async with client.post("/api/v1/tenants/declared/keys", json=body) as reply:
            assert await problem_of(reply) == (400, "invalid", detail)


@pytest.mark.parametrize("raw", [b"{", b"\xff", b"[" * 60_000, b'"' + b"a" * 100])
async def test_broken_json_is_a_400(client: ClientSession, raw: bytes) -> None:
    async with client.post("/api/v1/tenants", data=raw, headers={"Content-Type": "application/json"}) as reply:
        assert (await problem_of(reply))[:2] == (400, "invalid")


async def test_bodies_are_bounded_and_json(client: ClientSession) -> None:
    headers = {"Content-Type": "application/json"}
    async with client.post("/api/v1/tenants", data=b"a" * 65_537, headers=headers) as reply:
        assert (await problem_of(reply))[:2] == (413, "body_too_large")
    async with client.post("/api/v1/tenants", data=b"name=a", headers={"Content-Type": "text/plain"}) as reply:
        assert (await problem_of(reply))[:2] == (415, "not_json")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=-1", "limit=1001", "limit=1&limit=2", "lmit=1", "limit=%C2%B2"]
)
async def test_wrong_queries_are_a_400(client: ClientSession, query: str) -> None:
    async with client.get(f"/api/v1/tenants?{query}") as reply:
        assert (await problem_of(reply))[:2] == (400, "invalid")


async def test_what_is_not_there_or_not_allowed_is_a_problem_document(client: ClientSession) -> None:
    async with client.get("/api/v1/tenants/ghost") as reply:
        assert (await problem_of(reply))[:2] == (404, "not_found")
    async with client.get("/nothing") as reply:
        assert (await problem_of(reply))[:2] == (404, "not_found")
    async with client.delete("/api/v1/tenants/ghost") as reply:
        assert (await problem_of(reply))[:2] == (405, "method_not_allowed")
        assert "PATCH" in reply.headers["Allow"]
    async with client.post("/api/v1/tenants", json={"name": "declared", "plan": "pro"}) as reply:
        assert (await problem_of(reply))[:2] == (409, "conflict")
    async with client.post("/api/v1/keys/k1/revoke", headers={"X-Actor": "a b"}) as reply:
        assert (await problem_of(reply))[:2] == (400, "invalid")


async def test_a_failing_store_is_a_503_and_a_bug_a_500_without_details(client: ClientSession, world: Any) -> None:
    async def fails(name: str) -> None:
        raise world.error

    world.store.tenant = fails
    world.error = StoreError("the disk is full")
    async with client.get("/api/v1/tenants/a") as reply:
        assert await problem_of(reply) == (503, "store_unavailable", "the disk is full")
    world.error = KeyError("secret detail")
    async with client.get("/api/v1/tenants/a") as reply:
        assert await problem_of(reply) == (500, "internal_error", "The sidecar's log says why.")


async def test_every_reply_carries_the_security_headers_and_no_cors(client: ClientSession) -> None:
    for path in ("/livez", "/metrics", "/api/v1/tenants", "/nothing"):
        async with client.get(path, headers={"Origin": "https://evil.example"}) as reply:
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            assert reply.headers["Cache-Control"] == "no-store"
            assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
            assert not [name for name in reply.headers if name.startswith("Access-Control") or name == "Set-Cookie"]


async def test_the_public_paths_show_life_and_keys_alone() -> None:
    jwks = {"keys": [{"kty": "OKP"}]}
    async with TestServer(make_public_app(jwks)) as server, ClientSession(server.make_url("/")) as session:
        async with session.get("/_sidecar/livez") as reply:
            assert reply.status == 200
        async with session.get("/_sidecar/jwks.json") as reply:
            assert json.loads(await reply.text()) == jwks
        async with session.post("/_sidecar/livez") as reply:
            assert (await problem_of(reply))[:2] == (405, "method_not_allowed")
        async with session.get("/_sidecar/metrics") as reply:
            assert (await problem_of(reply))[:2] == (404, "route_unknown")
    async with (
        TestServer(make_public_app(None)) as server,
        ClientSession(server.make_url("/")) as session,
        session.get("/_sidecar/jwks.json") as reply,
    ):
        assert (await problem_of(reply))[:2] == (404, "route_unknown")
