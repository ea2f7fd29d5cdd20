"""Margins by the tenants' own billing periods, as ``sidecar usage --period`` picks them."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from sidecar.admin import RunningMargin, make_admin_app
from sidecar.core.accounts import Account, Period
from sidecar.core.policy import Admin
from sidecar.core.values import Anchor, Tenant
from tests.admin.test_margins import by_name, scraped

DAY_US = 86_400_000_000
ROUTES = ("chat", "search")
HOUR_US = 3_600_000_000
NOVEMBER_US = 1_793_491_200_000_000  # 2026-11-01T00:00:00Z
FIFTEENTH_US = NOVEMBER_US + 14 * DAY_US
OCTOBER_15_US = FIFTEENTH_US - 31 * DAY_US


async def fill(book: Any) -> None:
    """It is the 23rd. ``anchored``: from the 15th; ``berlin``: months there; ``plain``: the calendar; ``subscribed``:
    from the 10th at 09:30, its plan is its subscription's."""
    tenants = {
        "anchored": Tenant("anchored", "pro", anchor=Anchor(15, 0), created_ns=1),
        "berlin": Tenant("berlin", "pro", time_zone="Europe/Berlin", created_ns=1),
        "plain": Tenant("plain", "pro", created_ns=1),
    }
    book.snapshot = replace(book.snapshot, tenants=tenants)
    await book.tenant("subscribed", "free")
    begun_s = (NOVEMBER_US + 9 * DAY_US) // 10**6 + 34_200
    subscription = Account(
        "subscribed", "cus_1", "sub_1", "active", "pro", periods=(Period(begun_s, begun_s + 30 * 86_400),)
    )
    await book.store.save_account(subscription, actor="me", at_ns=1)
    calls = []
    for name in (*tenants, "subscribed"):
        for number, at in enumerate((OCTOBER_15_US, NOVEMBER_US, FIFTEENTH_US)):
            base = len(calls)
            calls += [
                book.record(base + n, tenant=name, started_us=at + HOUR_US, cost=100_000, route=ROUTES[n % 2])
                for n in range((60, 60, 110)[number])
            ]
    await book.add(*calls)


async def test_the_price_of_a_month_is_that_of_the_plan_that_is_paid_for(book: Any) -> None:
    await fill(book)
    plain, subscribed = [(await book.operations.usage(name, since="30d"))["month"] for name in ("plain", "subscribed")]
    assert subscribed == plain


async def test_each_tenant_is_shown_by_its_own_running_period(book: Any) -> None:
    """What is included is used up once in each billing period: 170 calls in November, 170 in the plain month, but 110
    since the 15th."""
    await fill(book)
    page = await book.operations.margin(period="billing")
    rows = by_name(page, "tenant")
    assert (page["by"], page["period"], page["since"], page["until"]) == ("tenant", "billing", None, None)
    now = "2026-11-23T12:35:00Z"
    assert {name: (row["since"], row["until"]) for name, row in rows.items()} == {
        "anchored": ("2026-11-15T00:00:00Z", now),
        "berlin": ("2026-10-31T23:00:00Z", now),
        "plain": ("2026-11-01T00:00:00Z", now),
        "subscribed": ("2026-11-10T09:30:00Z", now),
    }
    assert {name: row["requests"] for name, row in rows.items()} == {
        "anchored": 110,
        "berlin": 170,
        "plain": 170,
        "subscribed": 110,
    }
    minutes = (8 * 1440 + 755, 30 * 1440)
    assert rows["anchored"]["revenue"] == round(29_000_000 * Fraction(*minutes)) + 500_000
    assert rows["plain"]["revenue"] == round(29_000_000 * Fraction(22 * 1440 + 755, 30 * 1440)) + 3_500_000
    assert rows["subscribed"]["revenue"] > 500_000, "the plan is its subscription's"
    assert (page["baseline"]["since"], page["baseline"]["until"]) == ("2026-11-01T00:00:00Z", now)


async def test_the_period_before_is_whole(book: Any) -> None:
    await fill(book)
    rows = by_name(await book.operations.margin(period="previous"), "tenant")
    anchored = rows["anchored"]
    assert (anchored["since"], anchored["until"]) == ("2026-10-15T00:00:00Z", "2026-11-15T00:00:00Z")
    assert (anchored["requests"], anchored["revenue"]) == (120, 29_000_000 + 20 * 50_000), "its invoice, to the micro"
    plain = rows["plain"]
    assert (plain["since"], plain["until"], plain["revenue"]) == (
        "2026-10-01T00:00:00Z",
        "2026-11-01T00:00:00Z",
        29_000_000,
    )


async def test_margin_and_usage_mean_the_same_period(book: Any) -> None:
    await fill(book)
    for period in ("billing", "previous"):
        rows = by_name(await book.operations.margin(period=period), "tenant")
        for name in rows:
            since, _ = await book.credits.period(name, period)
            assert rows[name]["since"] == since
            usage = await book.operations.usage(name, since=since, until=rows[name]["until"])
            assert usage["requests"] == rows[name]["requests"]


async def test_a_calendar_month_cuts_billing_periods_without_losing_anything(book: Any) -> None:
    """October's part of the period from the 15th of October and November's part of it are its invoice."""
    await fill(book)
    names = {"since": "2026-10-15", "until": "2026-11-15", "tenant": "anchored"}
    whole = await book.operations.margin(by="month", **names)
    assert whole["totals"]["revenue"] == 30_000_000
    assert [(row["month"], row["requests"]) for row in whole["rows"]] == [("2026-10", 60), ("2026-11", 60)]
    fee = 29_000_000 * Fraction(17, 31)
    assert whole["rows"][0]["revenue"] == pytest.approx(fee, abs=1)
    edges = "2026-10-15", "2026-11-01", "2026-11-01T02:00:00Z", "2026-11-15"
    cut = [
        await book.operations.margin(tenant="anchored", since=since, until=until) for since, until in pairwise(edges)
    ]
    assert abs(sum(page["totals"]["revenue"] for page in cut) - 30_000_000) <= 2
    assert cut[1]["totals"]["requests"] == 60


async def test_views_of_own_periods_add_up_to_the_same(book: Any) -> None:
    await fill(book)
    pages = [await book.operations.margin(by=by, period="billing") for by in ("tenant", "plan", "route", "month")]
    for page in pages:
        for side in ("revenue", "cost", "requests", "successful"):
            assert sum(row[side] for row in page["rows"]) == page["totals"][side] == pages[0]["totals"][side]


async def test_pages_of_own_periods_keep_their_moment(book: Any) -> None:
    """A period that ends between two pages stays the running one of the list."""
    await fill(book)
    first = await book.operations.margin(period="billing", limit=1)
    book.clock.advance(30 * 86_400)
    rest = await book.operations.margin(period="billing", limit=9, after=first["next"])
    assert [row["tenant"] for row in first["rows"] + rest["rows"]] == ["anchored", "berlin", "plain", "subscribed"]
    assert {row["until"] for row in rest["rows"]} == {"2026-11-23T12:35:00Z"}
    for wrong in ({"period": "previous"}, {"by": "tenant"}):
        with pytest.raises(ValueError, match="not a cursor"):
            await book.operations.margin(**wrong, after=first["next"])


async def test_a_period_of_the_calendar_is_one_for_all(book: Any) -> None:
    await fill(book)
    page = await book.operations.margin(period="month:Europe/Berlin", by="tenant")
    assert (page["since"], page["until"]) == ("2026-10-31T23:00:00Z", "2026-11-23T12:35:00Z")
    assert "since" not in page["rows"][0]
    assert (await book.operations.margin(period="day"))["since"] == "2026-11-23T00:00:00Z"


async def test_a_month_has_begun_in_its_first_microsecond(book: Any) -> None:
    book.clock.advance((NOVEMBER_US + 30 * DAY_US) // 10**6 - book.clock.wall_ns() // 10**9)
    page = await book.operations.margin()
    assert (page["since"], page["until"]) == ("2026-12-01T00:00:00Z", "2026-12-01T00:01:00Z")


async def test_own_periods_older_than_the_minutes_count_from_the_hour(book: Any) -> None:
    await fill(book)
    book.snapshot = replace(
        book.snapshot, settings=replace(book.snapshot.settings, minute_sums_ns=1 * 86_400_000_000_000)
    )
    rows = by_name(await book.operations.margin(period="billing"), "tenant")
    assert rows["subscribed"]["requests"] == 110
    assert rows["anchored"]["requests"] == 110


async def test_own_periods_over_http(book: Any, world: Any) -> None:
    await fill(book)
    app = make_admin_app(book.operations, world.sources, list, "t0ken", Admin())
    headers = {"Authorization": "Bearer t0ken"}
    async with TestServer(app) as server, ClientSession(server.make_url("/"), headers=headers) as client:
        asked = {"period": "previous", "tenant": "anchored"}
        async with client.get("/api/v1/margin", params=asked) as reply:
            assert [row["revenue"] for row in (await reply.json())["rows"]] == [30_000_000]
        async with client.get("/api/v1/margin", params={"period": "year"}) as reply:
            assert reply.status == 400


async def test_the_scrape_shows_the_running_billing_periods(book: Any, world: Any) -> None:
    await fill(book)
    running = RunningMargin(book.store, book.store, lambda: book.snapshot, book.clock)
    await running.reckon()
    found = await scraped(world, running)
    page = await book.operations.margin(period="billing", by="route")
    revenue = {s.labels["route"]: s.value for s in found["sidecar_margin_period_revenue"]}
    assert revenue == {row["route"]: pytest.approx(row["revenue"] / 10**6) for row in page["rows"]}
    cost = sum(s.value for s in found["sidecar_margin_period_cost"])
    assert cost == pytest.approx(page["totals"]["cost"] / 10**6)
    assert cost < sum(s.value for s in found["sidecar_margin_cost"]), "the month has calls of before the 15th"
