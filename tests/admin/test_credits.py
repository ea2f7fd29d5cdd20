"""Credits on a real store: granted once, burned by what the ledger holds, listed, revoked, and asked for by HTTP."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from sidecar.admin import CreditDesk, Operations, make_admin_app
from sidecar.core.errors import Conflict, NotFound
from sidecar.core.money import Money
from sidecar.core.policy import Admin, MeterPrice, Plan, Price
from tests.admin.conftest import make_mint

TOKEN = "t0ken"
PRICE = Price(Money(Fraction(0), "USD"), (MeterPrice("requests", 0, 1, Money(Fraction("0.10"), "USD")),))


@pytest.fixture
async def desk(book: Any) -> CreditDesk:
    book.snapshot = replace(
        book.snapshot,
        plans=dict(book.snapshot.plans)
        | {"pre": Plan("pre", price=PRICE, prepaid=True), "post": Plan("post", price=PRICE)},
    )
    await book.tenant("acme", "pre")
    await book.tenant("beta", "post")
    return CreditDesk(book.store, book.store, lambda: book.snapshot, book.clock, book.changed, book.flush)


async def test_a_top_up_is_granted_once_and_burned_by_use(desk: CreditDesk, book: Any) -> None:
    """unkeyed/unkey#3304: the same source again, an hour later, adds nothing."""
    made = await desk.grant("acme", "0.55 USD", source="pi_1", actor="me")
    assert (made["new"], made["left_text"], made["state"]) == (True, "0.55 USD", "open")
    book.clock.advance(3600)
    assert (await desk.grant("acme", "0.55 USD", source="pi_1", actor="me"))["new"] is False
    with pytest.raises(Conflict, match="pi_1"):
        await desk.grant("acme", "5.50 USD", source="pi_1", actor="me")
    await desk.grant("acme", "0.20 USD", source="promo", priority="1", expires="1d", actor="me")
    await book.add(*(book.record(n, started_us=book.now_us) for n in range(3)))
    found = await desk.balance("acme")
    assert (found["available_text"], found["uncovered"], found["prepaid"]) == ("0.45 USD", 0, True)
    assert [(one["source"], one["left_text"]) for one in found["grants"]] == [("pi_1", "0.45 USD")]
    page = await desk.listing("acme", limit=1)
    assert [(one["source"], one["burned"]) for one in page["grants"]] == [("pi_1", 100_000)]
    rest = await desk.listing("acme", after=page["next"])
    assert [(one["source"], one["state"]) for one in rest["grants"]] == [("promo", "burned")]


async def test_what_is_used_beyond_the_grants_is_not_taken_from_later_ones(desk: CreditDesk, book: Any) -> None:
    await desk.grant("acme", "0.15 USD", source="a", actor="me")
    await book.add(*(book.record(n, started_us=book.now_us) for n in range(3)))
    assert (await desk.balance("acme"))["uncovered"] == 150_000
    book.clock.advance(120)
    await desk.grant("acme", "1.00 USD", source="b", actor="me")
    assert (await desk.balance("acme"))["available"] == 1_000_000


async def test_a_revoked_grant_cannot_be_burned(desk: CreditDesk, book: Any) -> None:
    await desk.grant("acme", "1.00 USD", source="a", actor="me")
    assert (await desk.revoke("acme", "a", actor="me"))["revoked"] is not None
    book.clock.advance(60)
    assert (await desk.balance("acme"))["available"] == 0
    assert (await desk.listing("acme"))["grants"][0]["state"] == "revoked"
    with pytest.raises(NotFound, match="nothing"):
        await desk.revoke("acme", "nothing", actor="me")


async def test_a_plan_that_is_not_prepaid_burns_nothing(desk: CreditDesk, book: Any) -> None:
    await desk.grant("beta", "1.00 USD", source="a", actor="me")
    await book.add(book.record(1, tenant="beta", started_us=book.now_us))
    found = await desk.balance("beta")
    assert (found["available"], found["prepaid"]) == (1_000_000, False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"amount": "5"}, "currency"),
        ({"amount": "5 EUR"}, "prices are in USD"),
        ({"amount": "0 USD"}, "no amount to grant"),
        ({"amount": "-5 USD"}, "no amount to grant"),
        ({"amount": "0.0000001 USD"}, "no amount to grant"),
        ({"amount": "5000000000 USD"}, "no amount to grant"),
        ({"amount": "5 USD", "source": "a b"}, "source"),
        ({"amount": "5 USD", "priority": "-1"}, "priority"),
        ({"amount": "5 USD", "expires": "1s"}, "expires"),
        ({"amount": "5 USD", "note": "x" * 201}, "note"),
    ],
)
async def test_what_cannot_be_granted_is_refused(desk: CreditDesk, given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        await desk.grant("acme", actor="me", **given)
    assert (await desk.listing("acme"))["grants"] == []


async def test_nobody_is_granted_anything_who_is_not_there(desk: CreditDesk) -> None:
    with pytest.raises(NotFound, match="nobody"):
        await desk.grant("nobody", "5 USD", actor="me")


async def test_credits_over_http(desk: CreditDesk, book: Any, world: Any) -> None:
    store = book.store
    operations = Operations(
        store, store, lambda: book.snapshot, make_mint(), book.clock, book.changed, book.flush, credits=desk
    )
    app = make_admin_app(operations, world.sources, list, TOKEN, Admin())
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Actor": "cli:eve"}
    async with TestServer(app) as server, ClientSession(server.make_url("/"), headers=headers) as client:
        body = {"amount": "5.00 USD", "source": "pi/1"}
        for status in (201, 200):
            async with client.post("/api/v1/tenants/acme/credits", json=body) as reply:
                assert reply.status == status
        async with client.get("/api/v1/tenants/acme/credits/balance") as reply:
            assert (await reply.json())["available_text"] == "5.00 USD"
        async with client.post("/api/v1/tenants/acme/credits/revoke", json={"source": "pi/1"}) as reply:
            assert (await reply.json())["source"] == "pi/1"
        async with client.get("/api/v1/tenants/acme/credits", params={"limit": 1}) as reply:
            assert len((await reply.json())["grants"]) == 1
        async with client.post("/api/v1/tenants/acme/credits", json={"amount": "5 EUR"}) as reply:
            assert (reply.status, (await reply.json())["code"]) == (400, "invalid")
        async with client.get("/api/v1/tenants/acme/credits", headers={"Authorization": ""}) as reply:
            assert reply.status == 401
