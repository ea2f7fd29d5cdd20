"""Margins under prepaid plans: what credits bring in is revenue when it is burned, as far as it was paid for."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from sidecar.admin import RunningMargin
from sidecar.core.money import Money
from sidecar.core.policy import MeterPrice, Plan, Price
from sidecar.core.spend import spend_terms
from sidecar.core.values import Anchor, Tenant
from sidecar.metering import NO_ROUTE, Use, spend_state
from tests.admin.test_margins import by_name, scraped

DAY_US = 86_400_000_000
NOVEMBER_US = 1_793_491_200_000_000  # 2026-11-01T00:00:00Z
PRICE = Price(Money(Fraction(0), "USD"), (MeterPrice("requests", 10, 1, Money(Fraction("0.10"), "USD")),))


@pytest.fixture(autouse=True)
async def prepaid(book: Any) -> None:
    """It is the 23rd of November; acme's billing periods begin on the 15th. A call costs 0.10 beyond ten a period."""
    plan = Plan("pre", price=PRICE, prepaid=True)
    tenants = {"acme": Tenant("acme", "pre", anchor=Anchor(15, 0), created_ns=1)}
    book.snapshot = replace(book.snapshot, plans=dict(book.snapshot.plans) | {"pre": plan}, tenants=tenants)


async def at(book: Any, day: int) -> None:
    """The clock stands at this day of November, 2026, at 12:00; 0 and below are of October: 0 is the 31st."""
    wall_us = NOVEMBER_US + (day - 1) * DAY_US + DAY_US // 2
    book.clock.jump_wall((wall_us - book.now_us) / 10**6)


async def call(book: Any, number: int, count: int, **changes: Any) -> None:
    """So many calls now."""
    await book.add(*(book.record(number + n, started_us=book.now_us, cost=1_000, **changes) for n in range(count)))


async def grant(book: Any, amount: str, source: str, **changes: Any) -> None:
    await book.credits.grant("acme", amount, source=source, actor="me", **changes)


async def account(book: Any, **asked: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await book.operations.margin(by="tenant", tenant="acme", **asked))["rows"][0]
    return found


async def test_a_top_up_is_revenue_when_it_is_burned(book: Any) -> None:
    await at(book, 20)
    await grant(book, "20.00 USD", "pi_1")
    assert (await book.operations.margin(by="tenant"))["totals"]["revenue"] == 0, "paid, and not earned yet"
    await call(book, 0, 12)
    found = await account(book, period="billing")
    assert (found["revenue"], found["credits"], found["unpaid"]) == (200_000, 200_000, 0), "ten are included"
    assert (found["cost"], found["margin"]) == (12_000, 188_000)
    await call(book, 20, 8)
    assert (await account(book))["revenue"] == 1_000_000


async def test_a_present_earns_nothing_and_is_burned_first(book: Any) -> None:
    await at(book, 20)
    await grant(book, "20.00 USD", "pi_1")
    await grant(book, "0.30 USD", "welcome", priority="10", paid="0 USD")
    await call(book, 0, 15)
    found = await account(book)
    assert (found["revenue"], found["credits"], found["unpaid"]) == (200_000, 200_000, 300_000)
    assert found["below_floor"] is False


async def test_a_discount_earns_what_was_paid(book: Any) -> None:
    """8.50 for 10.00: each burned 0.10 earns 0.085, and all of it 8.50."""
    await at(book, 20)
    await grant(book, "10.00 USD", "pi_1", paid="8.50 USD")
    await call(book, 0, 20)
    found = await account(book)
    assert (found["revenue"], found["unpaid"]) == (850_000, 150_000)
    await call(book, 100, 200)
    found = await account(book)
    assert (found["revenue"], found["unpaid"]) == (8_500_000, 1_500_000 + 11_000_000), "110 calls are not covered"


async def test_what_no_grant_covers_is_no_revenue(book: Any) -> None:
    await at(book, 20)
    await call(book, 0, 15)
    found = await account(book)
    assert (found["revenue"], found["unpaid"]) == (0, 500_000)
    assert found["below_floor"] is True


async def test_what_is_left_when_credits_expire_is_earned_then(book: Any) -> None:
    """The money was paid and nothing is owed for it any more; it belongs to no route. What is revoked went back."""
    await at(book, 16)
    await grant(book, "5.00 USD", "pi_1", expires="2d")
    await grant(book, "3.00 USD", "pi_2", expires="2d", paid="1.50 USD")
    await grant(book, "4.00 USD", "pi_3", expires="2d")
    await call(book, 0, 20)
    await book.credits.revoke("acme", "pi_3", actor="me")
    assert (await account(book))["revenue"] == 1_000_000
    await at(book, 20)
    found = await account(book)
    assert (found["revenue"], found["credits"]) == (6_500_000, 6_500_000)
    routes = by_name(await book.operations.margin(by="route", tenant="acme"), "route")
    assert {name: row["revenue"] for name, row in routes.items()} == {"search": 1_000_000, NO_ROUTE: 5_500_000}
    assert (await account(book, since="2026-11-15", until="2026-11-18"))["revenue"] == 1_000_000


async def test_routes_share_what_was_burned_by_what_they_used(book: Any) -> None:
    await at(book, 20)
    await grant(book, "20.00 USD", "pi_1")
    await call(book, 0, 30, route="search")
    await call(book, 100, 10, route="chat")
    routes = by_name(await book.operations.margin(by="route"), "route")
    assert {name: row["revenue"] for name, row in routes.items()} == {"search": 2_250_000, "chat": 750_000}
    by_month = await book.operations.margin(by="month")
    assert by_month["totals"]["credits"] == 3_000_000


async def settle(book: Any) -> None:
    """As the account is read before a call."""
    store = book.store

    async def total(tenant: str, meter: str, since_us: int, until_us: int, sandbox: bool) -> int:
        return await store.meter_total(tenant, meter, since_us=since_us, until_us=until_us, sandbox=sandbox)

    terms = spend_terms(PRICE, "month:1:0:15:0:UTC", None, True)
    credit = await store.credit("acme")
    _, burns = await spend_state(Use("acme", terms, total), terms, credit, book.clock.wall_ns())
    assert burns.settle is not None
    settled, burned, shares = burns.settle
    until = None if credit[0] is None else credit[0].until
    assert await store.settle_credits(settled, burned, if_until=until, shares=shares)


async def test_settling_changes_no_margin_and_neither_does_a_later_price(book: Any) -> None:
    await at(book, -10)
    await grant(book, "1.00 USD", "pi_1")
    await grant(book, "9.00 USD", "pi_2", paid="3.00 USD")
    await call(book, 0, 30)
    await at(book, 5)
    await call(book, 100, 20)
    await at(book, 18)
    await call(book, 200, 15)
    asked: list[dict[str, str]] = [
        {"period": "previous"}, {"period": "billing"}, {"month": "2026-10"}, {"month": "2026-11"},
        {"since": "2026-10-15", "until": "2026-11-04"},
    ]  # fmt: skip
    before = [await account(book, **one) for one in asked]
    assert (before[0]["revenue"], before[0]["unpaid"]) == (1_000_000 + 1_000_000, 2_000_000), "40 paid calls"
    assert before[1]["revenue"] == round(500_000 / 3)
    assert before[2]["revenue"] + before[3]["revenue"] == before[0]["revenue"] + before[1]["revenue"]
    await settle(book)
    assert [await account(book, **one) for one in asked] == before
    dearer = Price(Money(Fraction(0), "USD"), (MeterPrice("requests", 0, 1, Money(Fraction(1), "USD")),))
    plan = Plan("pre", price=dearer, prepaid=True)
    book.snapshot = replace(book.snapshot, plans=dict(book.snapshot.plans) | {"pre": plan})
    assert (await account(book, period="previous"))["revenue"] == before[0]["revenue"]


async def test_the_scrape_shows_what_credits_brought_in(book: Any, world: Any) -> None:
    await at(book, 20)
    await grant(book, "20.00 USD", "pi_1", paid="10.00 USD")
    await call(book, 0, 30)
    running = RunningMargin(book.store, book.store, lambda: book.snapshot, book.clock)
    await running.reckon()
    found = await scraped(world, running)
    names = ("revenue", "credits", "unpaid", "period_revenue")
    assert [found[f"sidecar_margin_{name}"][0].value for name in names] == [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("paid", ["5.01 USD", "1.00 EUR", "0.0000001 USD", "-1 USD", "much"])
async def test_what_cannot_have_been_paid_is_told(book: Any, paid: str) -> None:
    with pytest.raises(ValueError, match=r"paid|amount of money"):
        await grant(book, "5.00 USD", "pi_1", paid=paid)
    assert (await book.credits.listing("acme"))["grants"] == []


async def test_a_grant_says_what_was_paid(book: Any) -> None:
    await grant(book, "5.00 USD", "pi_1")
    await grant(book, "5.00 USD", "welcome", paid="0 USD")
    shown = (await book.credits.listing("acme"))["grants"]
    assert [(one["source"], one["paid"], one["paid_text"]) for one in shown] == [
        ("pi_1", 5_000_000, "5.00 USD"),
        ("welcome", 0, "0.00 USD"),
    ]
