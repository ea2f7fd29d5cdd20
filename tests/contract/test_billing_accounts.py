"""What every BillingStore must do with accounts: one per tenant, a change is on the record and known at once."""

import dataclasses

from sidecar.core.accounts import Account, Notice
from sidecar.core.billing import Period
from sidecar.core.values import AccessState
from tests.contract.conftest import Books

ACME = Account(
    tenant="acme",
    customer="cus_1",
    subscription="sub_1",
    status="past_due",
    plan="pro",
    access=AccessState.GRACE,
    since_ns=5,
    until_ns=700,
    trial_until_s=3,
    ends_s=99,
    periods=(Period(10, 20), Period(20, 30)),
    read_ns=6,
)


async def save(books: Books, account: Account, **extra: object) -> bool:
    return await books.save_account(account, actor="billing", at_ns=50, **extra)  # type: ignore[arg-type]  # passed on


async def test_an_account_comes_back_as_it_was(books: Books) -> None:
    bare = Account("beta", "cus_2")
    assert await books.account("acme") is None
    assert await save(books, ACME)
    assert await save(books, bare)
    assert await books.account("acme") == ACME
    assert await books.account("beta") == bare


async def test_accounts_are_paged_by_tenant(books: Books) -> None:
    for name in ("c", "a", "b"):
        await save(books, Account(name, "cus_1" if name != "b" else "cus_2"))
    assert [account.tenant for account in await books.accounts(limit=2)] == ["a", "b"]
    assert [account.tenant for account in await books.accounts(after="b")] == ["c"]
    assert [account.tenant for account in await books.accounts_of("cus_1")] == ["a", "c"]
    assert await books.accounts_of("cus_none") == []


async def test_what_ends_by_itself_is_due_then_and_the_oldest_first(books: Books) -> None:
    for name, until in (("a", 30), ("b", 20), ("c", None), ("d", 31)):
        await save(books, Account(name, "cus", until_ns=until))
    assert [account.tenant for account in await books.accounts_due(at_ns=30, limit=9)] == ["b", "a"]
    assert [account.tenant for account in await books.accounts_due(at_ns=30, limit=1)] == ["b"]
    assert await books.accounts_due(at_ns=19, limit=9) == []


async def test_a_reading_that_another_overtook_changes_nothing(books: Books) -> None:
    """Two nodes read the same subscription; the one whose reading is older must not undo the other's."""
    assert await save(books, ACME, if_read_ns=0)
    assert not await save(books, dataclasses.replace(ACME, plan="old", read_ns=4), if_read_ns=0)
    assert not await save(books, dataclasses.replace(ACME, plan="old", read_ns=4), if_read_ns=5)
    assert await books.account("acme") == ACME
    newer = dataclasses.replace(ACME, plan="big", read_ns=7)
    assert await save(books, newer, if_read_ns=6)
    assert await books.account("acme") == newer


async def test_every_node_hears_of_a_changed_plan_or_access_and_of_nothing_else(books: Books) -> None:
    first = await books.keys_version()
    await save(books, ACME)
    made = await books.keys_version()
    await save(books, dataclasses.replace(ACME, read_ns=9, periods=()))
    assert await books.keys_version() == made > first
    await save(books, dataclasses.replace(ACME, access=AccessState.READ_ONLY))
    assert await books.keys_version() > made


async def test_notices_come_with_the_change_that_they_tell_of_or_not_at_all(books: Books) -> None:
    notice = Notice("acme/grace/5", "webhook", "access.grace", "acme", {"days": 7, "plan": "pro"}, at_ns=50)
    await save(books, ACME, notices=[notice])
    assert not await save(books, ACME, notices=[dataclasses.replace(notice, id="other")], if_read_ns=1)
    assert await books.due_notices(at_ns=50, limit=9) == [notice]
