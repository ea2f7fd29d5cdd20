"""Webhooks that never come: what Stripe lists brings the same, within a minute, whoever was down meanwhile.

Requests and answers are held against Stripe's OpenAPI document by the fixture.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sidecar.billing.access import events
from sidecar.billing.access.events import EventPoll
from sidecar.billing.access.inbox import EVENTS_S
from sidecar.billing.stripe import StripeClient
from sidecar.core.billing import RowQuery
from tests.billing.access.conftest import RESTRICTED, House
from tests.billing.access.test_rejections import report, row_of

MARKS = {"sidecar": "sidecar", "sidecar_tenant": "acme", "sidecar_plan": "pro"}


@pytest.fixture
def acme(house: House) -> str:
    customer = house.fake.customer(name="acme")
    house.declare(acme=customer)
    return customer


async def restart(house: House) -> None:
    house.inbox = house.another_inbox()
    await house.inbox.round()


async def test_access_follows_a_whole_life_without_one_webhook(house: House, acme: str) -> None:
    """Bought, unpaid, ended, bought again, and nothing was delivered: each is so here after EVENTS_S."""
    await house.inbox.round()
    made: list[dict[str, Any]] = []
    steps: list[tuple[Callable[[], Any], str, str]] = [
        (lambda: made.append(house.subscribe(acme)), "active", "active"),
        (lambda: fail(house, acme), "past_due", "grace"),
        (lambda: house.fake.subscriptions.cancel(made[0]["id"], {}), "canceled", "read_only"),
        (lambda: house.subscribe(acme), "active", "active"),
    ]
    for step, status, access in steps:
        step()
        house.fake.advance(EVENTS_S[1])
        await house.inbox.round()
        account = await house.store.account("acme")
        assert account is not None
        assert (account.status, account.access.value) == (status, access)


def fail(house: House, customer: str) -> None:
    """The next month's invoice is not paid."""
    house.fake.knobs.payments[customer] = "fail"
    house.fake.advance(31 * 86_400 + 7_200)
    house.fake.knobs.payments.pop(customer)


@pytest.mark.parametrize("days", [0.1, 10, 29])
async def test_who_was_down_reads_on_where_the_last_one_ended(house: House, days: float) -> None:
    """A checkout has no account yet that reading everybody again could find."""
    await house.inbox.round()
    house.fake.advance(EVENTS_S[1])
    house.fake.sessions.complete(house.checkout(**MARKS)["id"])
    house.fake.advance(days * 86_400)
    await restart(house)
    assert await house.access_of() == ("active", "pro")
    assert await house.told() == ["tenant.created"]


async def test_a_list_that_fails_for_days_loses_nothing(house: House) -> None:
    await house.inbox.round()
    house.fake.sessions.complete(house.checkout(**MARKS)["id"])
    house.fake.fail_next("drop_before", "/v1/events", times=200)
    await house.advance(3)
    assert await house.store.account("acme") is None
    assert "events" in house.counts.faults
    house.fake.knobs.faults.clear()
    await house.advance(0.01)
    assert await house.access_of() == ("active", "pro")
    assert house.counts.faults == {}


async def test_reports_of_refused_events_are_listed_too(house: House) -> None:
    house.fake.meter("acme_tokens")
    row = await row_of(house)
    await house.inbox.round()
    await report(house, row.identifier)
    house.fake.advance(EVENTS_S[1])
    await house.inbox.round()
    (found,) = await house.store.rows(RowQuery())
    assert found.state == "rejected"
    house.fake.advance(EVENTS_S[1])
    await house.inbox.round()
    assert house.counts.events == {"polled": 1, "done": 1}, "once"


async def test_more_than_one_reading_holds_is_read_in_stretches(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uneven ones, with a second that holds more than one reading itself, and thin ones in several pages."""
    monkeypatch.setattr(events, "MOST", 150)
    poll = EventPoll(house.store, house.client, house.clock, house.counts)
    assert await poll.poll() is False
    draw = random.Random(7)
    for _ in range(60):
        house.fake.advance(draw.choice([0, 1, 1, 30, 4_000]))
        for _ in range(draw.choice([1, 5, 40])):
            house.fake.world.emit("invoice.paid", {"id": "in_1", "customer": "cus_1"})
            house.fake.world.emit("invoice.created", {"id": "in_1", "customer": "cus_1"})
            house.fake.world.emit_thin("v1.billing.meter.no_meter_found", {}, {})
    house.fake.advance(300)
    handled = (*events.TYPES, *events.REPORTS)
    wanted = {id for id, event in house.fake.world.events.items() if event["type"] in handled}
    readings = 0
    while await poll.poll():
        readings += 1
        assert readings < 400
    held = {arrival.id for arrival in await house.store.arrivals(at_ns=house.clock.wall_ns(), limit=100_000)}
    assert held == wanted
    assert not poll.blind(3_600)


async def test_a_second_too_full_to_be_read_has_everybody_read_again(
    house: House, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST", 100)
    await house.inbox.round()
    house.fake.advance(600)
    house.subscribe(acme)
    for _ in range(250):
        house.fake.world.emit("invoice.paid", {"id": "in_1", "customer": "cus_1"})
    house.fake.advance(600)
    for _ in range(40):
        await house.inbox.round()
    assert await house.access_of() == ("active", "pro")
    assert (await house.store.cursor("events") or 0) >= house.clock.wall_ns() // 10**9 - 700


async def test_without_the_right_to_list_everybody_is_read_again_every_hour(house: House, acme: str) -> None:
    house.fake._keys[RESTRICTED] = frozenset({"rak_subscription_read"})
    house.use(RESTRICTED)
    await house.inbox.round()
    house.subscribe(acme)
    await house.advance(0.03)
    assert (await house.access_of())[1] is None
    await house.advance(0.02)
    assert await house.access_of() == ("active", "pro")
    assert "Events: Read" in house.counts.faults["events"]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"data": 5, "next_page_url": None},
        {"data": [5], "next_page_url": None},
        {"data": [{"id": 5, "type": []}], "next_page_url": None},
        {"data": [], "next_page_url": "/v2/core/events?page=a"},
        {"data": [{"id": "evt_1"}], "next_page_url": "/v2/core/events"},
        {"data": [{"id": "evt_1"}], "next_page_url": "/v2/core/events?page=a"},
    ],
)
async def test_lists_that_are_none_change_nothing(house: House, answer: dict[str, Any]) -> None:
    async def given(request: web.Request) -> web.Response:
        return web.json_response(answer)

    app = web.Application()
    app.router.add_get("/{path:.*}", given)
    async with TestServer(app) as served:
        client = StripeClient(replace(house.stripe, api=str(served.make_url("")).rstrip("/")))
        assert await EventPoll(house.store, client, house.clock, house.counts).poll() is False
        await client.close()
    assert await house.store.arrivals(at_ns=house.clock.wall_ns(), limit=10) == []
