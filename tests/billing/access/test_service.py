"""The pages on a socket, and who of several nodes works."""

import asyncio
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from sidecar.admin import make_public_app
from sidecar.billing.access import Payments
from sidecar.billing.access.endpoint import WEBHOOK, WELCOME, WebhookEndpoint
from sidecar.core.accounts import Arrival
from sidecar.core.clock import ManualClock
from sidecar.core.errors import StoreFull
from tests.billing.access.conftest import House

NOW_S = 1_800_000_000
BODY = json.dumps(
    {"id": "evt_1", "object": "event", "type": "invoice.paid", "data": {"object": {"id": "in_1"}}}
).encode()
Client = TestClient[web.Request, web.Application]


def signature(body: bytes, secret: str = "whsec_test") -> dict[str, str]:
    mac = hmac.new(secret.encode(), b"%d." % NOW_S + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={NOW_S},v1={mac}"}


def payments(house: House, node: str = "a") -> Payments:
    return Payments(house.stripe, lambda: house.snapshot, house.store, house.mint, node, house.clock)


@pytest.fixture
async def page(house: House) -> AsyncIterator[Client]:
    """The pages of a node that does not work anything off."""
    node = payments(house)
    app = make_public_app(None, node.routes())
    async with TestClient(TestServer(app)) as client:
        yield client
    await node.close()


async def test_a_delivery_is_on_the_disk_when_it_is_answered(house: House, page: Client) -> None:
    for _ in range(3):
        assert (await page.post(WEBHOOK, data=BODY, headers=signature(BODY))).status == 200
    assert [one.id for one in await house.store.arrivals(at_ns=2**62, limit=10)] == ["evt_1"]
    assert not house.fake.calls, "Stripe is asked afterwards"


@pytest.mark.parametrize("data", [b"", b"\xff", b"{}", b"x" * 600_000])
async def test_whatever_else_is_400(page: Client, data: bytes) -> None:
    for headers in ({}, {"Stripe-Signature": "t=,v1="}, {"Stripe-Signature": "v1=\udcff"}, signature(BODY)):
        reply = await page.post(WEBHOOK, data=data, headers=headers)
        assert (reply.status, reply.content_type) == (400, "application/problem+json")


async def test_a_store_that_is_full_asks_for_another_attempt() -> None:
    async def full(arrival: Arrival) -> bool:
        raise StoreFull("the disk is full")

    counts: dict[str, int] = {}
    clock = ManualClock(wall_ns=NOW_S * 10**9)
    app = web.Application()
    app.router.add_post("/", WebhookEndpoint(full, ("whsec_test",), clock, counts, lambda: None).answer)
    async with TestClient(TestServer(app)) as client:
        reply = await client.post("/", data=BODY, headers=signature(BODY))
        assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
    assert counts == {"store_failed": 1}


@pytest.mark.parametrize(
    "data", [b"", b"\xff=\xfe", b"session_id=%00", b"&" * 4000, b"x" * 9000, b"session_id=cs_'\"<b>"]
)
async def test_a_form_of_nonsense_gets_a_page(page: Client, data: bytes) -> None:
    reply = await page.post(WELCOME, data=data, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert reply.status in (400, 404)
    assert "<b>" not in await reply.text()


async def test_the_key_comes_after_a_click_and_stays_nowhere(house: House, page: Client) -> None:
    """A preview takes nothing; the browser that clicked has the key again when it goes back; no other has it."""
    metadata = {"sidecar": "sidecar", "sidecar_tenant": "acme", "sidecar_plan": "pro"}
    session = house.checkout(**metadata)["id"]
    house.fake.sessions.complete(session)
    button = await page.get(WELCOME, params={"session_id": session})
    token = hidden(await button.text())
    assert await house.store.tenants() == [], "a preview takes nothing"
    cookie = button.headers["Set-Cookie"]
    assert all(part in cookie for part in (f"={token};", "HttpOnly", "SameSite=Lax"))
    assert "Secure" not in cookie
    form = {"session_id": session, "token": token}
    shown = await page.post(WELCOME, data=form)
    match = re.search(r"<pre>(sk_live_\w+)</pre>", await shown.text())
    assert match is not None
    for reply in (button, shown):
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["Content-Security-Policy"].endswith("frame-ancestors 'none'; form-action 'self'")
    back = await page.get(WELCOME, params={"session_id": session})
    assert hidden(await back.text()) == token, "by the cookie"
    assert await house.store.claimed_ns("first-key-shown:acme") == house.clock.wall_ns()
    assert match[0] in await (await page.post(WELCOME, data=form)).text()
    page.session.cookie_jar.clear()
    house.access(public_url="https://api.example.com")
    other = await page.get(WELCOME, params={"session_id": session})
    assert "; Secure" in other.headers["Set-Cookie"]
    stranger = await page.post(WELCOME, data={"session_id": session, "token": hidden(await other.text())})
    assert "shown before" in await stranger.text()


async def test_who_comes_without_a_token_gets_the_button(house: House, page: Client) -> None:
    reply = await page.post(WELCOME, data={"session_id": "cs_test_0123456789"})
    assert reply.status == 200
    assert len(hidden(await reply.text())) == 32
    assert not house.fake.calls


def hidden(text: str) -> str:
    """The token of the form."""
    match = re.search(r'name="token" value="([^"]+)"', text)
    assert match is not None
    return match[1]


async def test_one_node_works_and_another_takes_over(house: House) -> None:
    """The second does nothing while the first leads, and begins when it ends."""
    customer = house.fake.customer()
    house.declare(acme=customer)
    first, second = payments(house), payments(house, "b")
    first.start()
    await _until(house, "acme")
    second.start()
    house.declare(acme=customer, other=customer)
    await asyncio.sleep(0)
    assert await house.store.account("other") is None
    await first.close()
    await _until(house, "other")
    await second.close()


async def _until(house: House, tenant: str) -> None:
    async with asyncio.timeout(30):
        while await house.store.account(tenant) is None:
            await asyncio.sleep(0.05)
