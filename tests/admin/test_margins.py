"""Margins over a real ledger: both sides, every view, the price floor, and the scrape that asks nobody."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.admin import RunningMargin
from sidecar.admin.metrics import Exposition
from sidecar.core.money import Money
from sidecar.core.policy import Costs, MeterPrice, Plan, Price
from sidecar.core.values import Tenant
from sidecar.metering import NO_ROUTE

HOUR_US = 3_600_000_000
NOVEMBER_US = 1_793_491_200_000_000  # 2026-11-01T00:00:00Z
OCTOBER_US = NOVEMBER_US - 31 * 24 * HOUR_US


async def fill(book: Any) -> None:
    """October: acme (pro, 29.00 and 0.50 for each ten calls beyond 100) on two routes, beta (free), test keys."""
    await book.tenant("acme", "pro")
    await book.tenant("beta", "free")
    await book.tenant("idle", "pro")
    calls = [book.record(n, route="chat" if n < 90 else "search", units=1, cost=1_000) for n in range(121)]
    calls += [book.record(200 + n, status=500, cost=500, meters={}) for n in range(4)]
    calls += [book.record(300 + n, tenant="beta", plan="free", cost=10_000) for n in range(10)]
    calls.append(book.record(400, sandbox=True, plan="sandbox", cost=7))
    await book.add(*(replace(call, started_us=OCTOBER_US + 24 * HOUR_US) for call in calls))


def by_name(page: dict[str, Any], by: str) -> dict[str, Any]:
    return {row[by]: row for row in page["rows"]}


async def test_a_month_by_tenant(book: Any) -> None:
    await fill(book)
    page = await book.operations.margin(by="tenant", month="2026-10")
    rows = by_name(page, "tenant")
    acme = rows["acme"]
    assert acme["plan"] == "pro"
    assert acme["revenue"] == 30_050_000, "121 calls: 21 beyond the 100 that are included"
    assert (acme["cost"], acme["margin"]) == (121 * 1_000 + 4 * 500, 30_050_000 - 123_000)
    assert acme["margin_rate"] == "99.59 %"
    assert (acme["requests"], acme["successful"], acme["sandbox_cost"]) == (125, 121, 7)
    assert (rows["beta"]["revenue"], rows["beta"]["below_floor"]) == (0, True)
    assert (rows["idle"]["revenue"], rows["idle"]["cost"]) == (29_000_000, 0)
    assert (page["since"], page["until"]) == ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z")
    assert (page["currency"], page["cost_unit"]) == ("USD", "micros")


async def test_every_view_adds_up_to_the_same(book: Any) -> None:
    await fill(book)
    pages = [await book.operations.margin(by=by, month="2026-10") for by in ("tenant", "plan", "route", "month")]
    for page in pages:
        assert page["totals"]["revenue"] == 59_050_000
        for side in ("revenue", "cost", "margin", "requests", "successful", "sandbox_cost"):
            assert sum(row[side] for row in page["rows"]) == page["totals"][side] == pages[0]["totals"][side]
    assert by_name(pages[1], "plan")["free"]["cost"] == 100_000
    routes = by_name(pages[2], "route")
    assert routes[NO_ROUTE]["revenue"] == 29_000_000, "the base of the tenant that called nothing"
    assert list(by_name(pages[3], "month")) == ["2026-10"]
    alone = await book.operations.margin(by="route", month="2026-10", tenant="acme")
    assert sum(row["revenue"] for row in alone["rows"]) == 30_050_000


async def test_the_floor_and_who_is_below_it(book: Any) -> None:
    await fill(book)
    page = await book.operations.margin(month="2026-10", buffer="30%")
    cost, successful = 123_000 + 100_000, 131
    assert page["baseline"]["cost"] == cost
    assert page["baseline"]["successful"] == successful
    assert page["baseline"]["buffer"] == "30%"
    floor = Fraction(page["baseline"]["floor"].removesuffix(" USD"))
    assert abs(floor - Fraction(cost, successful) * Fraction(13, 10) / 10**6) < Fraction(1, 10**12)
    assert page["below_floor"]["count"] == 1
    (beta,) = page["below_floor"]["tenants"]
    assert (beta["tenant"], beta["margin"], beta["revenue_per_request"]) == ("beta", -100_000, "0.00 USD")
    assert (await book.operations.margin(month="2026-10"))["baseline"]["buffer"] == "40%"


async def test_the_parts_of_a_month_add_up_to_the_month(book: Any) -> None:
    """What is included is used up once in the month, not once in each period that somebody asks for."""
    await book.tenant("acme", "pro")
    times = [OCTOBER_US + hour * HOUR_US for hour in range(0, 720, 6)]
    await book.add(*(book.record(n, started_us=at) for n, at in enumerate(times)))
    whole = await book.operations.margin(by="tenant", month="2026-10")
    parts = [
        ("2026-10-01", "2026-10-11T03:00:00Z"),
        ("2026-10-11T03:00:00Z", "2026-10-28"),
        ("2026-10-28", "2026-11-01"),
    ]
    cut = [await book.operations.margin(by="tenant", since=since, until=until) for since, until in parts]
    assert whole["totals"]["revenue"] == 30_000_000
    assert abs(sum(page["totals"]["revenue"] for page in cut) - 30_000_000) <= 2, "each part is rounded by itself"
    two = await book.operations.margin(by="month", since="2026-10-11T03:00:00Z", until="2026-11-11")
    assert [row["month"] for row in two["rows"]] == ["2026-10", "2026-11"]
    assert two["rows"][1]["revenue"] == pytest.approx(29_000_000 / 3, abs=1)


async def test_a_tenant_pays_from_the_day_it_was_made(book: Any) -> None:
    await book.tenant("late", "pro", OCTOBER_US + 15 * 24 * HOUR_US + 12 * HOUR_US)
    assert (await book.operations.margin(month="2026-10"))["totals"]["revenue"] == 14_500_000
    assert (await book.operations.margin(month="2026-09"))["totals"]["revenue"] == 0


async def test_the_running_month_is_priced_so_far(book: Any) -> None:
    await book.tenant("acme", "pro")
    page = await book.operations.margin()
    assert (page["since"], page["until"]) == ("2026-11-01T00:00:00Z", "2026-11-23T12:35:00Z")
    assert page["totals"]["revenue"] == round(Fraction(29_000_000 * (22 * 1440 + 755), 30 * 1440))


async def test_tokens_tenants_and_anonymous_callers_count_too(book: Any) -> None:
    """A tenant that only tokens name counts under the plan of its last calls; callers without a key under none."""
    await book.add(
        book.record(1, tenant="token", plan="pro", started_us=OCTOBER_US),
        book.record(2, tenant="", key_id="", plan="", started_us=OCTOBER_US),
    )
    rows = by_name(await book.operations.margin(by="tenant", month="2026-10"), "tenant")
    assert (rows["token"]["plan"], rows["token"]["revenue"]) == ("pro", 29_000_000)
    assert (rows[""]["plan"], rows[""]["revenue"], rows[""]["cost"]) == ("", 0, 1_000)


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
async def test_pages_hold_every_tenant_once(book: Any, limit: int) -> None:
    names = [f"t{n:02}" for n in range(12)]
    for name in names[:8]:
        await book.tenant(name, "pro")
    book.snapshot = replace(
        book.snapshot, tenants={names[8]: Tenant(names[8], "pro"), names[9]: Tenant(names[9], "pro")}
    )
    await book.add(
        *(book.record(n, tenant=name, started_us=OCTOBER_US) for n, name in enumerate(["", *names[5:]])),
        *(book.record(50 + n, tenant=name, started_us=NOVEMBER_US) for n, name in enumerate(names)),
    )
    seen: list[str] = []
    after = None
    while True:
        page = await book.operations.margin(by="tenant", month="2026-10", limit=limit, after=after)
        assert len(page["rows"]) <= limit
        seen += [row["tenant"] for row in page["rows"]]
        after = page["next"]
        if after is None:
            break
    assert seen == ["", *names]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"by": "key"}, "write one of tenant, plan, route, month"),
        ({"month": "2026-13"}, "is not a month"),
        ({"month": "2027-01"}, "has not begun"),
        ({"month": "9999-12"}, "has not begun"),
        ({"month": "2026-10", "since": "1d"}, "exclude each other"),
        ({"month": "2026-10", "period": "billing"}, "exclude each other"),
        ({"period": "yearly"}, "is no period; write billing, previous"),
        ({"period": "month:Europe/Bonn"}, "is no period"),
        ({"period": "billing", "by": "plan", "after": "x"}, "write by=tenant"),
        ({"until": "1d"}, "until needs since"),
        ({"since": "2020-01-01"}, "months are too many"),
        ({"buffer": "40"}, "percentage"),
        ({"by": "plan", "after": "x"}, "write by=tenant"),
        ({"by": "tenant", "after": "x"}, "not a cursor"),
    ],
)
async def test_what_cannot_be_asked_is_told(book: Any, asked: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        await book.operations.margin(**asked)


async def test_prices_in_another_currency_name_it(book: Any) -> None:
    """Plans in euros and no costs: the margin is in euros, not in the dollars that costs are written in by default."""
    price = Price(Money(Fraction(0), "USD"), (MeterPrice("requests", 0, 1, Money(Fraction(2), "EUR")),))
    book.snapshot = replace(book.snapshot, plans={"pro": Plan("pro", price=price)}, costs=Costs())
    await book.tenant("acme", "pro")
    await book.add(book.record(1, started_us=OCTOBER_US))
    page = await book.operations.margin(month="2026-10")
    assert (page["currency"], page["totals"]["revenue"]) == ("EUR", 2_000_000)


async def scraped(world: Any, running: RunningMargin) -> dict[str, list[Any]]:
    sources = replace(world.sources, margin=running.read)
    body, _ = await Exposition(sources).scrape("")
    families = text_string_to_metric_families(body.decode())
    return {f.name: f.samples for f in families if f.name.startswith("sidecar_margin_")}


async def test_the_scrape_shows_the_running_month_and_asks_no_store(book: Any, world: Any) -> None:
    await book.tenant("acme", "pro")
    await book.add(book.record(1, cost=40_000_000), book.record(2, tenant="beta", plan="free"))
    running = RunningMargin(book.store, book.store, lambda: book.snapshot, book.clock)
    assert not any((await scraped(world, running)).values())
    await running.reckon()
    book.clock.advance(30)
    book.store.close()  # whoever asks it now fails
    found = await scraped(world, running)
    page = {(s.labels["plan"], s.labels["route"]): s.value for s in found["sidecar_margin_cost"]}
    assert page == {("pro", "search"): 40.0, ("free", "search"): 0.001}
    revenue = next(s for s in found["sidecar_margin_revenue"] if s.labels["plan"] == "pro")
    assert revenue.labels == {"plan": "pro", "route": "search", "currency": "USD"}
    assert revenue.value == pytest.approx(29 * (22 * 1440 + 755) / 43_200)
    assert [s.value for s in found["sidecar_margin_tenants_below_floor"]] == [2]
    assert [s.value for s in found["sidecar_margin_age_seconds"]] == [30]
    assert [s.value for s in found["sidecar_margin_price_floor"]] == [pytest.approx(40.001 / 2 * 1.4)]


async def test_ten_thousand_tenants_are_as_many_series_as_one(book: Any, world: Any) -> None:
    """The scrape is bounded by plans and routes, whatever the number of tenants, and its work is the same
    (apache/apisix#10000, #7211, #11456)."""
    running = RunningMargin(book.store, book.store, lambda: book.snapshot, book.clock)
    template = book.record(0, started_us=NOVEMBER_US)
    sizes = []
    for begin, end in ((0, 1), (1, 10_000)):
        for first in range(begin, end, 5_000):
            numbers = range(first, min(first + 5_000, end))
            await book.add(
                *(
                    replace(template, event_id=f"{n:08x}-0000-7000-8000-0000000000aa", tenant=f"t{n:06}")
                    for n in numbers
                )
            )
        await running.reckon()
        reading = running.read()
        assert len(reading.sides) == 1
        assert reading.below == 0
        found = await scraped(world, running)
        sizes.append({name: len(samples) for name, samples in found.items()})
    assert sizes[0] == sizes[1]
    assert sum(sizes[1].values()) == 9
    assert found["sidecar_margin_cost"][0].value == pytest.approx(10)
