"""Grouped usage: pages, cursors, filters, and the range that is really covered."""

import base64
import json
from typing import Any

import pytest

from sidecar.core.errors import NotFound

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


async def fill(book: Any) -> None:
    await book.tenant("acme", "pro")
    await book.add(
        book.record(1),
        book.record(2, route="chat", meters={"requests": 1, "tokens?": 1}, total_us=9_000),
        book.record(3, started_us=book.now_us - 25 * HOUR_US, status=500),
        book.record(4, tenant="beta", key_id="k2", plan="free"),
        book.record(5, sandbox=True, plan="sandbox"),
    )


async def test_rows_have_named_groups_and_all_sums(book: Any) -> None:
    await fill(book)
    page = await book.operations.usage_by(by="route,day", tenant="acme", since="2d")
    assert [row["group"] for row in page["rows"]] == [
        {"route": "chat", "day": "2026-11-23T00:00:00Z"},
        {"route": "search", "day": "2026-11-22T00:00:00Z"},
        {"route": "search", "day": "2026-11-23T00:00:00Z"},
    ]
    chat = page["rows"][0]
    assert (chat["requests"], chat["units"], chat["cost"], chat["bytes_out"]) == (1, 5, 1_000, 20)
    assert (chat["meters"], chat["anomalies"]) == ({"requests": 1}, {"tokens": 1})
    assert chat["latency"]["p50_ms"] == pytest.approx(9, rel=0.125)
    assert (page["currency"], page["cost_unit"], page["next"], book.flushes) == ("USD", "micros", None, 1)
    report = await book.operations.usage("acme")
    assert (report["meters"], report["anomalies"]) == ({"requests": 2}, {"tokens": 1})
    assert report["latency"]["p99_ms"] == pytest.approx(9, rel=0.125)


async def test_filters_narrow(book: Any) -> None:
    await fill(book)
    for narrowed, requests in (
        ({}, 4),
        ({"tenant": "acme"}, 3),
        ({"plan": "free"}, 1),
        ({"key": "k2"}, 1),
        ({"route": "chat"}, 1),
        ({"sandbox": "true"}, 1),
        ({"sandbox": "any"}, 5),
    ):
        page = await book.operations.usage_by(by="tenant,sandbox", since="2d", **narrowed)
        assert sum(row["requests"] for row in page["rows"]) == requests, narrowed
        assert all(type(row["group"]["sandbox"]) is bool for row in page["rows"])


@pytest.mark.parametrize(
    ("narrowed", "said"),
    [
        ({"route": "serach"}, "there is no route 'serach'; did you mean search\\? Routes: .*search"),
        ({"plan": "prro"}, "there is no plan 'prro'; did you mean pro\\? Plans: .*pro"),
        ({"route": "zzz", "plan": "pro"}, "there is no route 'zzz'; Routes: "),
    ],
)
async def test_a_misspelt_name_is_an_error_that_names_the_nearest(
    book: Any, narrowed: dict[str, str], said: str
) -> None:
    """field-bugs 30, for what is asked: an empty table would read as no usage."""
    await fill(book)
    with pytest.raises(ValueError, match=said):
        await book.operations.usage_by(by="tenant", since="2d", **narrowed)
    with pytest.raises(ValueError, match=said):
        await book.operations.export(what="usage", format="csv", since="2d", **narrowed)


async def test_a_name_without_usage_and_one_that_is_gone_from_the_policies_are_none(book: Any) -> None:
    await fill(book)
    await book.add(book.record(6, route="old", plan="legacy", started_us=book.now_us - 30 * HOUR_US))
    assert (await book.operations.usage_by(by="tenant", since="2d", route="old", plan="legacy"))["rows"]
    assert not (await book.operations.usage_by(by="tenant", since="2d", route="old", plan="free"))["rows"]
    assert not (await book.operations.usage_by(by="tenant", since="2d", route="search", plan="sandbox"))["rows"]
    with pytest.raises(ValueError, match="there is no route 'old'"):
        await book.operations.usage_by(by="tenant", since="1d", route="old")


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_hold_every_group_once_and_keep_their_range(book: Any, limit: int) -> None:
    """A usage list is one paged query (litellm#2171); pages of the last day stay pages of the same day."""
    await fill(book)
    seen, after, ranges = [], None, set()
    while True:
        page = await book.operations.usage_by(by="tenant,route,hour", since="2d", limit=limit, after=after)
        assert len(page["rows"]) <= limit
        seen += [tuple(row["group"].values()) for row in page["rows"]]
        ranges.add((page["since"], page["until"]))
        after = page["next"]
        if after is None:
            break
        book.clock.advance(3_600)
    assert len(seen) == 4
    assert seen == sorted(set(seen))
    assert len(ranges) == 1


async def test_cursors_from_elsewhere_are_refused(book: Any) -> None:
    await fill(book)
    cursor = (await book.operations.usage_by(by="tenant,route", limit=1))["next"]

    def forged(document: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()

    now = book.now_us // 60_000_000 * 60_000_000
    span = [now - DAY_US, now]
    wrong = [
        "", "x", "ä", "%%%", "a" * 5, cursor[:-2], forged(7), forged([["tenant", "route"], span]),
        forged([1, span, []]),
        forged([["tenant", "route"], span, ["a"]]), forged([["tenant", "route"], span, ["a", 1]]),
        forged([["tenant", "route"], [span[0] + 1, now], ["a", "b"]]),
        forged([["tenant", "route"], span[::-1], ["a", "b"]]),
        forged([["tenant", "route"], [0, 2**70], ["a", "b"]]), forged([["tenant", "route"], [True, now], ["a", "b"]]),
    ]  # fmt: skip
    for text in wrong:
        with pytest.raises(ValueError, match="not a cursor"):
            await book.operations.usage_by(by="tenant,route", after=text)
    with pytest.raises(ValueError, match="not a cursor"):
        await book.operations.usage_by(by="route,tenant", after=cursor)
    assert (await book.operations.usage_by(by="tenant,route", after=cursor))["rows"]


@pytest.mark.parametrize(
    ("by", "said"),
    [("", "grouped by ''"), ("rout", "grouped by 'rout'"), ("route,route", "twice"), ("hour,day", "two times")],
)
async def test_what_cannot_be_grouped_by_is_told(book: Any, by: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        await book.operations.usage_by(by=by)


async def test_old_ranges_are_widened_to_the_hours_that_are_kept(book: Any) -> None:
    """Minutes are kept for 400 days; before that whole hours answer, and the reply says which."""
    await fill(book)
    report = await book.operations.usage("acme", since="2025-01-01T00:10:00Z", until="2025-01-01T02:30:30Z")
    assert (report["since"], report["until"]) == ("2025-01-01T00:00:00Z", "2025-01-01T03:00:00Z")
    page = await book.operations.usage_by(by="hour", since="2025-01-01T00:10:00Z", until="2025-01-01T02:30:30Z")
    assert (page["since"], page["until"]) == ("2025-01-01T00:00:00Z", "2025-01-01T03:00:00Z")
    recent = await book.operations.usage("acme", since="2026-11-01T00:10:30Z", until="2026-11-01T02:30:30Z")
    assert (recent["since"], recent["until"]) == ("2026-11-01T00:10:00Z", "2026-11-01T02:31:00Z")
    with pytest.raises(ValueError, match="sums per minute are kept for"):
        await book.operations.usage_by(by="minute", since="2025-01-01")


async def test_a_tenant_that_never_was_is_not_found_and_a_removed_one_is(book: Any) -> None:
    await fill(book)
    with pytest.raises(NotFound):
        await book.operations.usage_by(by="route", tenant="ghost")
    assert (await book.operations.usage_by(by="route", tenant="beta"))["rows"]
    assert (await book.operations.usage_by(by="route", tenant="acme", since="1h", plan="free"))["rows"] == []
