"""What every CreditStore and CrossingStore must do."""

import dataclasses

import pytest

from sidecar.core.accounts import Notice
from sidecar.core.credits import MOST_GRANTS, NS_PER_MINUTE, Book, CreditHistory, Grant, Share
from sidecar.core.crossings import Crossing
from sidecar.core.errors import Conflict, NotFound
from tests.contract.conftest import Books

TOP_UP = Grant("acme", "pi_1", 20_000_000, "USD", 5 * NS_PER_MINUTE, note="ünï")


async def test_a_source_is_granted_once_and_the_first_stays(books: Books) -> None:
    """A top-up that is delivered again, even with another expiry, adds nothing: a one-time top-up never becomes a
    recurring one (unkeyed/unkey#3304)."""
    before = await books.keys_version()
    assert await books.add_grant(TOP_UP, actor="me") == (TOP_UP, True)
    assert await books.keys_version() > before, "caches hear of it"
    again = dataclasses.replace(TOP_UP, granted_ns=TOP_UP.granted_ns + 9, expires_ns=10**15, priority=1)
    assert await books.add_grant(again, actor="me") == (TOP_UP, False)
    assert await books.grants("acme") == [TOP_UP]


async def test_a_source_with_another_amount_is_a_conflict(books: Books) -> None:
    await books.add_grant(TOP_UP, actor="me")
    for other in ({"amount": 1}, {"currency": "EUR"}, {"bonus": 1}):
        with pytest.raises(Conflict, match="pi_1"):
            await books.add_grant(dataclasses.replace(TOP_UP, **other), actor="me")
    assert await books.grants("acme") == [TOP_UP]


async def test_sources_are_the_tenants_own(books: Books) -> None:
    other = dataclasses.replace(TOP_UP, tenant="beta", amount=1)
    await books.add_grant(TOP_UP, actor="me")
    await books.add_grant(other, actor="me")
    assert await books.grants("beta") == [other]
    assert (await books.credit("acme"))[1] == [TOP_UP]


async def test_grants_come_in_pages_by_source_ended_ones_too(books: Books) -> None:
    for number in (3, 1, 2):
        await books.add_grant(dataclasses.replace(TOP_UP, source=f"s{number}"), actor="me")
    await books.revoke_grant("acme", "s1", at_ns=TOP_UP.granted_ns, actor="me")
    first = await books.grants("acme", limit=2)
    rest = await books.grants("acme", after=first[-1].source, limit=2)
    assert [grant.source for grant in first + rest] == ["s1", "s2", "s3"]


async def test_a_revoked_grant_keeps_its_earlier_end(books: Books) -> None:
    await books.add_grant(TOP_UP, actor="me")
    assert (await books.revoke_grant("acme", "pi_1", at_ns=10**15, actor="me")).revoked_ns == 10**15
    assert (await books.revoke_grant("acme", "pi_1", at_ns=10**16, actor="me")).revoked_ns == 10**15
    with pytest.raises(NotFound, match="pi_2"):
        await books.revoke_grant("acme", "pi_2", at_ns=1, actor="me")
    with pytest.raises(NotFound):
        await books.revoke_grant("beta", "pi_1", at_ns=1, actor="me")


async def test_what_is_settled_is_settled_once(books: Books) -> None:
    """Two nodes that settle the same: the second finds another book and changes nothing."""
    await books.add_grant(TOP_UP, actor="me")
    assert await books.credit("acme") == (None, [TOP_UP])
    assert await books.settle_credits(Book("acme", 60, 3), {"pi_1": 7}, if_until=None)
    assert not await books.settle_credits(Book("acme", 60, 3), {"pi_1": 14}, if_until=None)
    burned = dataclasses.replace(TOP_UP, burned=7)
    assert await books.credit("acme") == (Book("acme", 60, 3), [burned])
    assert await books.settle_credits(Book("acme", 120, 4), {"pi_1": TOP_UP.amount}, if_until=60)
    assert await books.credit("acme") == (Book("acme", 120, 4), []), "nothing of it is left to burn"
    assert (await books.grants("acme"))[0].burned == TOP_UP.amount


async def test_grants_that_ended_before_the_settled_minute_are_not_asked_for(books: Books) -> None:
    for source, expires in (("a", 60), ("b", 61), ("c", None)):
        ends = None if expires is None else expires * NS_PER_MINUTE
        await books.add_grant(dataclasses.replace(TOP_UP, source=source, expires_ns=ends), actor="me")
    await books.settle_credits(Book("acme", 60), {}, if_until=None)
    assert [grant.source for grant in sorted((await books.credit("acme"))[1], key=str)] == ["b", "c"]


async def test_what_was_burned_and_earned_is_kept_with_its_time(books: Books) -> None:
    gift = dataclasses.replace(TOP_UP, source="gift", amount=50, bonus=50)
    for grant in (TOP_UP, gift):
        await books.add_grant(grant, actor="me")
    shares = [Share("gift", 5, 60, 57, 0, 50, 0, "USD"), Share("pi_1", 5, 60, 57, 50, 7, 7, "USD")]
    burned = {"gift": 50, "pi_1": 7}
    assert await books.settle_credits(Book("acme", 60), burned, if_until=None, shares=shares)
    assert not await books.settle_credits(Book("acme", 60), burned, if_until=None, shares=shares)
    later = Share("pi_1", 60, 90, 3, 0, 3, 3, "USD")
    await books.settle_credits(Book("acme", 90), {"pi_1": 10}, if_until=60, shares=[later])
    left = [dataclasses.replace(TOP_UP, burned=10)]
    assert await books.credit_history("acme", begin=0, end=99) == CreditHistory(
        Book("acme", 90), left, [*shares, later], []
    )
    assert (await books.credit_history("acme", begin=59, end=60)).shares == shares
    assert (await books.credit_history("acme", begin=60, end=61)).shares == [later]
    assert (await books.credit_history("beta", begin=0, end=99)) == CreditHistory(None, [], [], [])


async def test_grants_that_expired_in_a_time_are_told_with_it(books: Books) -> None:
    """``expires_ns`` counts from the next whole minute (Grant.end): whoever asks for that minute must see the grant."""
    for source, expires in (("a", 60 * NS_PER_MINUTE - 1), ("b", 60 * NS_PER_MINUTE), ("c", 61 * NS_PER_MINUTE)):
        await books.add_grant(dataclasses.replace(TOP_UP, source=source, expires_ns=expires), actor="me")
    for begin, end, told in ((60, 61, {"a", "b"}), (61, 62, {"c"}), (0, 60, set())):
        found = (await books.credit_history("acme", begin=begin, end=end)).expired
        assert {grant.source for grant in found if begin <= grant.end < end} == told


async def test_grants_have_a_bound(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.storage.credit_values.MOST_GRANTS", 2)
    assert MOST_GRANTS == 1000
    for number in range(2):
        await books.add_grant(dataclasses.replace(TOP_UP, source=str(number)), actor="me")
    with pytest.raises(Conflict, match="revoke some"):
        await books.add_grant(TOP_UP, actor="me")
    assert (await books.add_grant(dataclasses.replace(TOP_UP, source="0"), actor="me"))[1] is False
    await books.revoke_grant("acme", "0", at_ns=TOP_UP.granted_ns, actor="me")
    assert (await books.add_grant(TOP_UP, actor="me"))[1]


CROSSED = Crossing("acme", "monthly", 0, 2_592_000, 80, 100, 81, 1_000_000_000)


async def test_a_share_that_was_reached_is_told_once_whoever_saw_it(books: Books) -> None:
    """The notices stand with it or not at all."""
    notices = [
        Notice("q1", channel, "quota.threshold", "acme", {"threshold": 80}, 1) for channel in ("webhook", "email")
    ]
    assert await books.cross(CROSSED, notices)
    assert not await books.cross(dataclasses.replace(CROSSED, used=95, at_ns=2_000_000_000), notices)
    assert len(await books.due_notices(at_ns=1, limit=9)) == 2
    for other in ({"threshold": 100}, {"start_s": 60}, {"name": "daily"}, {"tenant": "beta"}, {"limit": 200}):
        assert await books.cross(dataclasses.replace(CROSSED, **other), ())


async def test_what_was_told_of_old_periods_is_forgotten(books: Books) -> None:
    await books.cross(CROSSED, ())
    later = CROSSED.end_s + 41 * 86_400
    await books.cross(dataclasses.replace(CROSSED, start_s=later, end_s=later + 60, at_ns=later * 10**9), ())
    assert await books.cross(CROSSED, ()), "it was no longer known"
