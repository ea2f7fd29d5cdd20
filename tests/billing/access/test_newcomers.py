"""Who has bought gets a tenant and a first key, each once; who has not gets neither."""

import asyncio

import pytest

from sidecar.billing.access.newcomers import AGAIN_FOR_S
from sidecar.core.errors import StoreError
from sidecar.core.ports import Position
from sidecar.identity import matches
from tests.billing.access.conftest import PEPPERS, House
from tests.billing.records import call_record

TOKEN, OTHER = "t" * 32, "o" * 32


def bought(house: House, **metadata: str) -> str:
    session = house.checkout(**({"sidecar": "sidecar"} | metadata))
    house.fake.sessions.complete(session["id"])
    return str(session["id"])


async def test_a_tenant_and_its_first_key_once(house: House) -> None:
    session = bought(house, sidecar_tenant="acme", sidecar_plan="pro")
    tokens = [f"{number:032}" for number in range(10)]
    found = await asyncio.gather(*(house.newcomers.first_key(session, token) for token in tokens))
    assert sorted(one.state for one in found) == ["key"] + ["shown"] * 9
    key = next(one.key for one in found if one.key)
    assert all(key not in repr(one) for one in found)
    assert await house.access_of() == ("active", "pro")
    (row,) = await house.store.keys("acme")
    assert matches(PEPPERS, row, key.encode())
    assert await house.told() == ["tenant.created"]


async def test_one_browser_is_shown_the_same_key_again_until_it_had_time_to_read(house: House) -> None:
    """A reply may be lost on its way, and a button be pressed twice: neither makes another key."""
    session = bought(house, sidecar_tenant="acme", sidecar_plan="pro")
    found = await asyncio.gather(*(house.newcomers.first_key(session, TOKEN) for _ in range(5)))
    assert len({one.key for one in found}) == 1
    assert (await house.newcomers.first_key(session, OTHER)).state == "shown"
    house.clock.advance(24 * 3600)
    assert await house.newcomers.first_key(session, TOKEN) == found[0], "nobody knows that it was ever written"
    await house.newcomers.shown("acme")
    house.clock.advance(AGAIN_FOR_S - 1)
    await house.newcomers.shown("acme")
    assert await house.newcomers.first_key(session, TOKEN) == found[0]
    house.clock.advance(1)
    assert (await house.newcomers.first_key(session, TOKEN)).state == "shown"
    assert len(await house.store.keys("acme")) == 1


async def test_a_key_that_was_revoked_is_not_shown_again(house: House) -> None:
    session = bought(house, sidecar_tenant="acme", sidecar_plan="pro")
    assert (await house.newcomers.first_key(session, TOKEN)).state == "key"
    (row,) = await house.store.keys("acme")
    await house.store.end_key(row.id, at_ns=house.clock.wall_ns(), revoked=True, actor="me")
    assert (await house.newcomers.first_key(session, TOKEN)).state == "shown"


async def test_a_key_that_was_used_is_known_to_have_come(house: House) -> None:
    session = bought(house, sidecar_tenant="acme", sidecar_plan="pro")
    assert (await house.newcomers.first_key(session, TOKEN)).state == "key"
    (row,) = await house.store.keys("acme")
    call = call_record(1, house.clock.wall_ns() // 1000, tenant="acme", key_id=row.id)
    assert await house.store.append([call], Position(1, 16)) == 1
    assert (await house.newcomers.first_key(session, TOKEN)).state == "shown"


async def test_the_key_is_not_used_up_by_what_fails(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    session = bought(house, sidecar_tenant="acme", sidecar_plan="pro")
    whole = house.newcomers._mint
    monkeypatch.setattr(house.newcomers, "_mint", _fails)
    with pytest.raises(StoreError):
        await house.newcomers.first_key(session, OTHER)
    monkeypatch.setattr(house.newcomers, "_mint", whole)
    assert (await house.newcomers.first_key(session, TOKEN)).state == "key"


def _fails(**_: object) -> None:
    raise StoreError("the disk is full")


@pytest.mark.parametrize("token", ["", "x" * 31, "x" * 33, "\u00e4" * 32])
async def test_a_token_that_was_not_made_here_is_no_use(house: House, token: str) -> None:
    session = bought(house, sidecar_tenant="acme", sidecar_plan="pro")
    assert (await house.newcomers.first_key(session, token)).state == "unknown"


async def test_a_tenant_that_has_keys_is_shown_none(house: House) -> None:
    """A second purchase must not hand out a key to somebody else's account."""
    session = bought(house, sidecar_tenant="acme", sidecar_plan="pro")
    assert (await house.newcomers.first_key(session, TOKEN)).state == "key"
    other = bought(house, sidecar_tenant="acme", sidecar_plan="pro")
    assert (await house.newcomers.first_key(other, TOKEN)).state == "unknown"
    assert (await house.newcomers.first_key(other, OTHER)).state == "unknown"
    assert "checkout.taken" in await house.told()
    assert len(await house.store.keys("acme")) == 1


@pytest.mark.parametrize(
    "metadata", [{"sidecar": "other"}, {"sidecar": ""}, {"sidecar_tenant": "../x", "sidecar_plan": "pro"}]
)
async def test_sessions_that_are_not_ours(house: House, metadata: dict[str, str]) -> None:
    session = bought(house, **metadata)
    assert (await house.newcomers.first_key(session, TOKEN)).state == "unknown"
    assert await house.store.tenants() == []


async def test_the_buyers_reference_is_not_believed(house: House) -> None:
    """On a payment link the buyer writes client_reference_id: it must not open another tenant's account."""
    params = {"mode": "subscription", "line_items": [{"price": house.price}], "metadata": {"sidecar": "sidecar"}}
    session = house.fake.sessions.create({**params, "client_reference_id": "acme"})
    house.fake.sessions.complete(session["id"])
    house.access(fallback_plan="free")
    found = await house.newcomers.first_key(session["id"], TOKEN)
    assert found.tenant == house.fake.world.sessions[session["id"]]["customer"]


async def test_open_unpaid_and_old_sessions(house: House) -> None:
    session = house.checkout(sidecar="sidecar", sidecar_tenant="acme", sidecar_plan="pro")
    assert (await house.newcomers.first_key(session["id"], TOKEN)).state == "pending"
    house.fake.sessions.complete(session["id"])
    house.fake.world.sessions[session["id"]]["payment_status"] = "unpaid"
    assert (await house.newcomers.first_key(session["id"], TOKEN)).state == "pending"
    assert await house.store.tenants() == []
    house.fake.world.sessions[session["id"]]["payment_status"] = "paid"
    house.clock.advance(49 * 3600)
    assert (await house.newcomers.first_key(session["id"], TOKEN)).state == "unknown"


@pytest.mark.parametrize("session", ["", "cs_", "cs_../../customers", "cs_test_nobody123456", "sub_1", "x" * 10_000])
async def test_addresses_that_are_made_up(house: House, session: str) -> None:
    assert (await house.newcomers.first_key(session, TOKEN)).state == "unknown"
