"""What every Ledger must do with single events: give each back as it came, exactly once, and forget what is old."""

import dataclasses
import itertools
import random

import pytest

from sidecar.core.ports import EventPage, Ledger, Position
from sidecar.core.records import UsageRecord, encode_record
from tests.records import CALL, MINUTE, event_id_of

EVER = 10**6 * MINUTE
_numbers = itertools.count(1)


def made(**changes: object) -> UsageRecord:
    number = next(_numbers)
    record = dataclasses.replace(
        CALL,
        event_id=event_id_of(number),
        started_us=number * 1000,
        sandbox=bool(number % 2),
        route='a"b é',
        units=1,
        cost=2,
        bytes_in=3,
        bytes_out=4,
        total_us=5,
        upstream_us=6,
        first_byte_us=7,
        meters={"requests": 1, "tokens": 0},
    )
    return dataclasses.replace(record, **changes)


async def add(ledger: Ledger, *records: UsageRecord) -> None:
    await ledger.append([encode_record(record) for record in records], Position(1, 16))


async def page(
    ledger: Ledger,
    tenant: str | None = None,
    since: int = 0,
    until: int = EVER,
    after: str | None = None,
    limit: int = 7,
) -> EventPage:
    return await ledger.events(tenant=tenant, since_us=since, until_us=until, after=after, limit=limit)


async def all_pages(ledger: Ledger, *, limit: int, **asked: object) -> list[UsageRecord]:
    found: list[UsageRecord] = []
    after: str | None = None
    while True:
        part = await page(ledger, **asked, after=after, limit=limit)
        found += part.events
        assert len(part.events) == limit or part.after is None
        if part.after is None:
            return found
        after = part.after


def by_id(records: list[UsageRecord]) -> list[UsageRecord]:
    return sorted(records, key=lambda record: record.event_id)


async def test_an_event_is_what_was_recorded(ledger: Ledger) -> None:
    """field-bugs 20: apache/apisix#13662, BerriAI/litellm#37992: an explicit zero stays, what is missing is missing."""
    records = [made(), made(meters={}), made(status=0, outcome="indeterminate", tenant="é / b")]
    await add(ledger, *records)
    assert by_id(list((await page(ledger)).events)) == records
    assert await page(ledger, "nobody") == EventPage((), None)


@pytest.mark.parametrize("limit", [1, 3, 10, 1000])
async def test_pages_have_every_event_of_the_time_and_the_tenant_once(ledger: Ledger, limit: int) -> None:
    """Arrival is not the order of time, many begin at once, tenants are mixed."""
    draw = random.Random(limit)
    tenants = ["a", "acme", "acme-1", "b"]
    records = [made(started_us=draw.randrange(20) * MINUTE, tenant=draw.choice(tenants)) for _ in range(60)]
    for begin in range(0, 60, 13):
        await add(ledger, *records[begin : begin + 13])
    for since, until in ((0, EVER), (5 * MINUTE, 15 * MINUTE), (7 * MINUTE, 7 * MINUTE + 1), (9 * MINUTE, 3 * MINUTE)):
        within = [record for record in records if since <= record.started_us < until]
        assert by_id(await all_pages(ledger, since=since, until=until, limit=limit)) == by_id(within)
        for tenant in tenants:
            found = await all_pages(ledger, tenant=tenant, since=since, until=until, limit=limit)
            assert by_id(found) == by_id([record for record in within if record.tenant == tenant])


async def test_what_arrives_or_goes_while_paging_doubles_and_hides_nothing(ledger: Ledger) -> None:
    records = [made(started_us=(number % 5) * MINUTE) for number in range(40)]
    await add(ledger, *records)
    first = await page(ledger, limit=15)
    await add(ledger, *(made(started_us=(number % 5) * MINUTE) for number in range(40)))
    found, after = list(first.events), first.after
    while after is not None:
        part = await page(ledger, after=after, limit=15)
        found, after = found + list(part.events), part.after
    ids = [record.event_id for record in found]
    assert len(ids) == len(set(ids))
    assert {record.event_id for record in records} <= set(ids)


@pytest.mark.parametrize("after", ["", "what", "é", "W10=", "bnVsbA==", "eyJhIjoxfQ==", "W251bGwsMSwxXQ=="])
async def test_a_cursor_from_elsewhere_is_refused(ledger: Ledger, after: str) -> None:
    await add(ledger, made())
    with pytest.raises(ValueError):
        await page(ledger, after=after)


async def test_one_tenants_cursor_opens_no_other_tenant(ledger: Ledger) -> None:
    await add(ledger, *(made(tenant=tenant) for tenant in ("acme", "acme", "beta", "beta")))
    cursor = (await page(ledger, "acme", limit=1)).after
    assert cursor is not None
    try:
        events = (await page(ledger, "beta", after=cursor)).events
    except ValueError:
        return
    assert {event.tenant for event in events} <= {"beta"}


async def test_a_late_event_is_forgotten_with_those_of_its_time(ledger: Ledger) -> None:
    """Retention deletes in bounded batches and leaves nothing behind (field-bugs 29: BerriAI/litellm#16582, #31866)."""
    young = [made(started_us=50 * MINUTE, tenant=f"t{number}") for number in range(6)]
    late = [made(started_us=number * MINUTE, tenant=f"t{number % 3}") for number in range(6)]
    await add(ledger, *young)
    await add(ledger, *late)
    gone = [await ledger.forget_events(before_us=20 * MINUTE, at_most=4) for _ in range(3)]
    assert sum(gone) == 6
    assert by_id(await all_pages(ledger, limit=10)) == by_id(young)
