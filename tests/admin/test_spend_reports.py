"""``sidecar usage`` by the tenant's own periods, with its cap and its credits beside what was used."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from sidecar.admin import CreditDesk, Operations, make_admin_app
from sidecar.core.money import Money
from sidecar.core.policy import Admin, MeterPrice, Plan, Price, SpendCap
from tests.admin.conftest import make_mint

PRICE = Price(Money(Fraction(0), "USD"), (MeterPrice("requests", 1, 1, Money(Fraction("0.10"), "USD")),))


@pytest.fixture
async def desk(book: Any) -> CreditDesk:
    capped = Plan("capped", price=PRICE, spend_cap=SpendCap(Money(Fraction(5), "USD"), "day", "Europe/Berlin"))
    plans = {"pre": Plan("pre", price=PRICE, prepaid=True), "capped": capped}
    book.snapshot = replace(book.snapshot, plans=dict(book.snapshot.plans) | plans)
    await book.tenant("acme", "pre")
    await book.tenant("beta", "capped")
    await book.tenant("free", "free")
    return CreditDesk(book.store, book.store, lambda: book.snapshot, book.clock, book.changed, book.flush)


@pytest.fixture
def operations(desk: CreditDesk, book: Any) -> Operations:
    store = book.store
    return Operations(
        store, store, lambda: book.snapshot, make_mint(), book.clock, book.changed, book.flush, credits=desk
    )


async def test_credits_burned_and_left_stand_beside_the_use(
    desk: CreditDesk, operations: Operations, book: Any
) -> None:
    await desk.grant("acme", "0.45 USD", source="a", actor="me")
    await book.add(*(book.record(n, started_us=book.now_us) for n in range(4)))
    spend = (await operations.usage("acme", period="billing"))["spend"]
    assert (spend["metered"], spend["cap"]) == (300_000, None), "one of four is included"
    assert spend["credits"] == {"burned": 300_000, "left": 150_000, "uncovered": 0}
    await book.add(*(book.record(n + 10, started_us=book.now_us) for n in range(4)))
    spend = (await operations.usage("acme"))["spend"]
    assert spend["credits"] == {"burned": 450_000, "left": 0, "uncovered": 250_000}
    book.clock.advance(40 * 86_400)
    later = (await operations.usage("acme", period="billing"))["spend"]
    assert later["credits"] == {"burned": 0, "left": 0, "uncovered": 250_000}, "of the running period"


async def test_a_cap_stands_beside_what_was_spent_in_its_own_period(operations: Operations, book: Any) -> None:
    await book.add(*(book.record(n, tenant="beta", started_us=book.now_us) for n in range(6)))
    report = await operations.usage("beta", period="day:Europe/Berlin")
    cap = report["spend"]["cap"]
    assert (cap["limit"], cap["spent"], cap["overage"]) == (5_000_000, 500_000, "block")
    assert report["since"] == cap["since"], "the same day of the same zone"
    assert report["requests"] == 6
    assert "spend" not in await operations.usage("free")


async def test_periods_are_those_of_the_tenant(operations: Operations, desk: CreditDesk, book: Any) -> None:
    since, until = await desk.period("acme", "billing")
    before, ended = await desk.period("acme", "previous")
    assert (until, ended) == (None, since)
    assert before < since
    for wrong in ("year", "day:Mars/Base", "day:", "billing:UTC", "2026-10"):
        with pytest.raises(ValueError, match="is no period"):
            await operations.usage("acme", period=wrong)


async def test_a_period_over_http(operations: Operations, world: Any) -> None:
    app = make_admin_app(operations, world.sources, list, "t0ken", Admin())
    headers = {"Authorization": "Bearer t0ken"}
    async with TestServer(app) as server, ClientSession(server.make_url("/"), headers=headers) as client:
        async with client.get("/api/v1/usage/beta", params={"period": "month"}) as reply:
            assert (await reply.json())["spend"]["cap"]["spent"] == 0
        async with client.get("/api/v1/usage/beta", params={"period": "month", "since": "1d"}) as reply:
            assert reply.status == 400
