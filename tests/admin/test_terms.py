"""What a tenant of the store has of its own: read as the policies are, replaced as a whole, written down."""

from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from sidecar.admin import Operations, TermsDesk, make_admin_app
from sidecar.config import TenantTerms
from sidecar.core.errors import Conflict, NotFound
from sidecar.core.policy import Admin, Limit, Plan, Quota
from sidecar.core.values import Anchor, Override, Tenant
from tests.admin.conftest import make_mint

PLAN = Plan("pro", limits=(Limit("steady", 10, 10**9),), quotas=(Quota("monthly", "requests", 100, "billing"),))


@pytest.fixture
async def desk(book: Any) -> TermsDesk:
    plans, tenants = (
        dict(book.snapshot.plans) | {"pro": PLAN},
        {"declared": Tenant("declared", "pro", anchor=Anchor(5))},
    )
    book.snapshot = replace(book.snapshot, plans=plans, tenants=tenants)
    await book.tenant("acme", "pro")
    return TermsDesk(book.store, lambda: book.snapshot, TenantTerms(), book.clock, book.changed)


async def test_terms_are_replaced_as_a_whole(desk: TermsDesk, book: Any) -> None:
    given = {
        "anchor": {"day": 31, "time": "09:30"},
        "time_zone": "Europe/Berlin",
        "overrides": {"limits": {"steady": {"limit": 20}}, "quotas": {"monthly": {"overage": "allow"}}},
    }
    told = await desk.set("acme", given, actor="me")
    assert told["terms"]["anchor"] == {"day": 31, "time": "09:30"}
    assert told["terms"]["overrides"]["limits"] == {"steady": {"limit": 20}}
    stored = await book.store.tenant("acme")
    assert (stored.anchor, stored.time_zone) == (Anchor(31, 570), "Europe/Berlin")
    assert stored.overrides.quotas == {"monthly": Override("monthly", overage="allow")}
    assert await desk.show("acme") == told
    assert (await desk.set("acme", {}, actor="me"))["terms"] == {}
    assert (await book.store.tenant("acme")).overrides is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"overides": {}}, 'unknown key "overides"; did you mean "overrides"'),
        ({"overrides": {"limits": {"stedy": {"limit": 1}}}}, 'no limit "stedy"; did you mean "steady"'),
        ({"overrides": {"quotas": {"monthly": {"limit": -1}}}}, "out of range"),
        ({"overrides": {"spend_cap": {"limit": "5 USD"}}}, "has no spend cap"),
        ({"anchor": {"day": 32}}, "out of range"),
        ({"time_zone": "Europe/Berln"}, 'did you mean "Europe/Berlin"'),
        ({"time_zone": 5}, "time_zone"),
    ],
)
async def test_a_fault_changes_nothing_and_names_what_to_write(
    desk: TermsDesk, book: Any, given: dict[str, Any], message: str
) -> None:
    """Field bug 30."""
    with pytest.raises(ValueError, match=message):
        await desk.set("acme", given, actor="me")
    assert (await desk.show("acme"))["terms"] == {}


async def test_declared_tenants_are_changed_in_their_file(desk: TermsDesk) -> None:
    assert (await desk.show("declared"))["terms"] == {"anchor": {"day": 5, "time": "00:00"}}
    with pytest.raises(Conflict, match="declared in the policies"):
        await desk.set("declared", {}, actor="me")
    for call in (desk.show("nobody"), desk.set("nobody", {}, actor="me")):
        with pytest.raises(NotFound, match="nobody"):
            await call


async def test_terms_over_http(desk: TermsDesk, book: Any, world: Any) -> None:
    store = book.store
    operations = Operations(
        store, store, lambda: book.snapshot, make_mint(), book.clock, book.changed, book.flush, terms=desk
    )
    app = make_admin_app(operations, world.sources, list, "t0ken", Admin())
    headers = {"Authorization": "Bearer t0ken"}
    async with TestServer(app) as server, ClientSession(server.make_url("/"), headers=headers) as client:
        body: dict[str, Any] = {"terms": {"time_zone": "Asia/Tokyo"}}
        async with client.put("/api/v1/tenants/acme/terms", json=body) as reply:
            assert (reply.status, (await reply.json())["terms"]) == (200, {"time_zone": "Asia/Tokyo"})
        async with client.get("/api/v1/tenants/acme/terms") as reply:
            assert (await reply.json())["source"] == "store"
        async with client.put("/api/v1/tenants/acme/terms", json={"terms": "x"}) as reply:
            assert (reply.status, (await reply.json())["code"]) == (400, "invalid")
