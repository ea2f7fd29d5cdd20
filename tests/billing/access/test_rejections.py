"""Events that Stripe took and refused afterwards: its thin report is read, the rows it names wait for a person."""

import json

import pytest

from sidecar.billing.access.webhooks import verified
from sidecar.core.accounts import Account
from sidecar.core.billing import OutboxRow, Period, RowQuery, Window
from sidecar.core.clock import NS_PER_S
from sidecar.core.ports import Position
from tests.billing.access.conftest import House
from tests.billing.access.test_webhooks import OLD, signed
from tests.billing.records import used

NOBODY = "cus_nobody"


async def row_of(house: House, customer: str = NOBODY) -> OutboxRow:
    """An accepted row of usage an hour ago."""
    now_s = house.clock.wall_ns() // NS_PER_S
    period = Period(now_s - 86_400, now_s + 86_400)
    account = Account("acme", customer, "sub_1", "active", periods=(period,), read_ns=1)
    await house.store.save_account(account, actor="test", at_ns=1)
    await house.store.append([used(1, now_s - 3_600, tokens=7)], Position(1, 16))
    minute = now_s // 60 - 60
    window = Window("acme", customer, minute, minute + 1, period)
    (row,) = await house.store.assign(window, {"tokens": "acme_tokens"}, at_ns=house.clock.wall_ns())
    await house.store.attempt(row.id, at_ns=house.clock.wall_ns())
    return await house.store.settle(row.id, "accepted", at_ns=house.clock.wall_ns(), http=200)


async def report(house: House, *identifiers: str, event_name: str = "acme_tokens") -> dict[str, object]:
    """Stripe refuses events with these identifiers; the thin event as it is listed."""
    now_ns = house.clock.wall_ns()
    for identifier in identifiers:
        house.fake.meter_event(event_name, NOBODY, "7", identifier, now_ns // NS_PER_S, now_ns)
    house.fake.advance(20)
    return next(e for e in house.fake.world.events.values() if e["object"] == "v2.core.event")


async def deliver(house: House, event: dict[str, object]) -> None:
    body = json.dumps({name: value for name, value in event.items() if name != "data"}).encode()
    now_ns = house.clock.wall_ns()
    arrival = verified(body, signed(body, at_s=now_ns // NS_PER_S), [OLD], now_ns)
    assert await house.store.receive(arrival)
    await house.inbox.work_off()


@pytest.mark.parametrize("suffix", ["", "~3"])
async def test_the_rows_that_it_names_wait_with_the_reason(house: House, suffix: str) -> None:
    """superserve-ai/sandbox#376: what was refused after a 200 was noticed by nobody. Older reports name the
    idempotency key, which begins with the identifier."""
    house.fake.meter("acme_tokens")
    row = await row_of(house)
    event = await report(house, f"{row.identifier}{suffix}", "somebody-else:1")
    await deliver(house, event)
    (found,) = await house.store.rows(RowQuery())
    assert found.state == "rejected"
    assert found.note.startswith("meter_event_customer_not_found: The customer")
    assert await house.told() == ["billing.refused"]
    (notice,) = await house.store.due_notices(at_ns=2**62, limit=10)
    assert dict(notice.facts) == {"count": 2, "codes": "meter_event_customer_not_found", "rows": 1}


async def test_a_report_of_no_meter_names_rows_too(house: House) -> None:
    row = await row_of(house)
    await deliver(house, await report(house, row.identifier, event_name="acme_tokens"))
    (found,) = await house.store.rows(RowQuery())
    assert found.note.startswith("no_meter: ")


async def test_rows_of_other_books_and_settled_ones_are_left_alone(house: House) -> None:
    house.fake.meter("acme_tokens")
    row = await row_of(house)
    await house.store.settle(row.id, "verified", at_ns=house.clock.wall_ns())
    other = "aaaaaaaa" + row.identifier[8:]
    await deliver(house, await report(house, row.identifier, other, row.identifier.rpartition(":")[0]))
    (found,) = await house.store.rows(RowQuery())
    assert found.state == "verified"
    (notice,) = await house.store.due_notices(at_ns=2**62, limit=10)
    assert notice.facts["rows"] == 0


async def test_a_report_that_cannot_be_read_is_tried_again(house: House) -> None:
    house.fake.meter("acme_tokens")
    row = await row_of(house)
    event = await report(house, row.identifier)
    house.fake.fail_next("drop_before", "/v2/core/events", times=9)
    await deliver(house, event)
    assert house.counts.events["postponed"] == 1
    house.fake.knobs.faults.clear()
    house.clock.advance(10)
    await house.inbox.work_off()
    (found,) = await house.store.rows(RowQuery())
    assert found.state == "rejected"
