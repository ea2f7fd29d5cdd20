"""What every BillingStore must do with what arrives and what is to be told: each thing once."""

import dataclasses

import pytest

from sidecar.core.accounts import Arrival, Notice
from sidecar.core.errors import Conflict, NotFound
from sidecar.core.values import ApiKey
from tests.contract.conftest import Books


def arrival(number: int) -> Arrival:
    return Arrival(f"evt_{number}", "invoice.paid", f"in_{number}", '{"a": "\\u00e9"}', at_ns=number)


def key(id: str, tenant: str = "acme") -> ApiKey:
    return ApiKey(id, tenant, "first", False, bytes(32), "p1", None, created_ns=7)


def notice(number: int, channel: str = "webhook") -> Notice:
    return Notice(f"n{number}", channel, "access.grace", "acme", {"days": number}, at_ns=number, next_ns=number)


async def test_an_event_is_taken_once(books: Books) -> None:
    assert await books.receive(arrival(1))
    assert not await books.receive(dataclasses.replace(arrival(1), payload="{}"))
    assert await books.arrivals(at_ns=0, limit=9) == [arrival(1)]
    await books.finish("evt_1", at_ns=5)
    assert await books.arrivals(at_ns=9, limit=9) == []
    assert not await books.receive(arrival(1)), "known for as long as it is kept"


async def test_arrivals_stand_in_their_order_and_wait_when_postponed(books: Books) -> None:
    for number in (3, 1, 2):
        await books.receive(arrival(number))
    assert [found.id for found in await books.arrivals(at_ns=0, limit=2)] == ["evt_3", "evt_1"]
    await books.postpone("evt_3", next_ns=50, note="no answer")
    assert [found.id for found in await books.arrivals(at_ns=49, limit=9)] == ["evt_1", "evt_2"]
    again = (await books.arrivals(at_ns=50, limit=9))[0]
    assert (again.id, again.attempts) == ("evt_3", 1)


async def test_the_twentieth_attempt_is_the_last(books: Books) -> None:
    await books.receive(arrival(1))
    for attempt in range(20):
        assert [found.attempts for found in await books.arrivals(at_ns=0, limit=9)] == [attempt]
        await books.postpone("evt_1", next_ns=0, note="no answer")
    assert await books.arrivals(at_ns=10**18, limit=9) == []


async def test_a_cursor_stays_where_it_was_moved_to(books: Books) -> None:
    assert await books.cursor("events") is None
    for at_s in (5, 9, 7):
        await books.move_cursor("events", at_s)
    await books.move_cursor("others", 1)
    assert (await books.cursor("events"), await books.cursor("others")) == (7, 1)


async def test_something_is_claimed_once(books: Books) -> None:
    assert await books.claimed_ns("shown to acme") is None
    assert await books.claim("shown to acme", "acme", at_ns=1)
    assert not await books.claim("shown to acme", "acme", at_ns=2)
    assert await books.claim("shown to other", "other", at_ns=2)
    assert await books.claimed_ns("shown to acme") == 1


async def test_a_tenants_first_key_is_given_once_and_none_to_one_that_has_keys(books: Books) -> None:
    version = await books.keys_version()
    assert await books.claim_first_key(key("k1"), actor="stripe")
    assert await books.key("k1") == key("k1")
    assert await books.keys_version() > version
    assert not await books.claim_first_key(key("k1"), actor="stripe"), "the same one again"
    assert not await books.claim_first_key(key("k2"), actor="stripe")
    await books.add_key(key("k3", "other"), actor="me")
    assert not await books.claim_first_key(key("k4", "other"), actor="stripe")
    assert await books.key("k2") is None
    assert await books.key("k4") is None


async def test_a_first_key_that_cannot_be_added_is_not_used_up(books: Books) -> None:
    await books.add_key(key("k1", "other"), actor="me")
    with pytest.raises(Conflict):
        await books.claim_first_key(key("k1"), actor="stripe")
    assert await books.claim_first_key(key("k2"), actor="stripe")


async def test_a_fact_is_told_once_by_each_channel(books: Books) -> None:
    assert await books.notify([notice(1), notice(1, "email"), notice(1)]) == 2
    assert await books.notify([notice(1), notice(2)]) == 1
    assert await books.due_notices(at_ns=1, limit=9) == [notice(1), notice(1, "email")]
    await books.settle_notice("n1", "webhook", done=True, at_ns=5)
    await books.settle_notice("n1", "email", done=False, at_ns=5, next_ns=60, note="no answer")
    assert await books.due_notices(at_ns=59, limit=9) == [notice(2)]
    assert await books.due_notices(at_ns=60, limit=1) == [notice(2)]
    told = (await books.due_notices(at_ns=60, limit=9))[1]
    assert (told.id, told.channel, told.attempts) == ("n1", "email", 1)
    assert await books.notify([notice(1)]) == 0


async def test_a_notice_that_is_not_there_is_not_settled(books: Books) -> None:
    with pytest.raises(NotFound):
        await books.settle_notice("n1", "webhook", done=True, at_ns=5)


async def test_one_node_leads_until_its_time_is_over_or_it_yields(books: Books) -> None:
    assert await books.lead("outbox", "a", ttl_ns=10, at_ns=100)
    assert not await books.lead("outbox", "b", ttl_ns=10, at_ns=109)
    assert await books.lead("outbox", "a", ttl_ns=10, at_ns=109)
    assert not await books.lead("outbox", "b", ttl_ns=10, at_ns=118)
    assert await books.lead("other", "b", ttl_ns=10, at_ns=118)
    assert await books.lead("outbox", "b", ttl_ns=10, at_ns=119)
    await books.yield_lead("outbox", "a")
    assert not await books.lead("outbox", "a", ttl_ns=10, at_ns=120)
    await books.yield_lead("outbox", "b")
    assert await books.lead("outbox", "a", ttl_ns=10, at_ns=120)


async def test_the_books_have_one_name_for_ever(books: Books) -> None:
    name = await books.instance()
    assert len(name) == 8
    assert name.isalnum()
    assert await books.instance() == name
