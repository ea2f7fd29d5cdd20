"""Look-ups of credentials: many at once, abandoned, outdated, and a store that fails."""

import asyncio

import pytest

from sidecar.core.errors import StoreError
from sidecar.core.policy import ApiKeySettings, Identity
from sidecar.core.values import AccessState

from .conftest import Shop
from .resolving import IP, found, make, refused


async def test_many_at_once_are_one_look_up(shop: Shop) -> None:
    key = shop.sell()
    resolver = make(shop)
    shop.store.gate = asyncio.Event()
    waiting = [asyncio.create_task(resolver.resolve(found(key), IP)) for _ in range(50)]
    await shop.store.read.wait()
    shop.store.gate.set()
    seats = await asyncio.gather(*waiting)
    assert shop.store.key_reads == 1
    assert shop.store.tenant_reads == 1
    assert all(seat is seats[0] for seat in seats)


async def test_a_client_that_goes_away_does_not_end_the_look_up_of_the_others(shop: Shop) -> None:
    key = shop.sell()
    resolver = make(shop)
    shop.store.gate = asyncio.Event()
    leaver, stayer = (asyncio.create_task(resolver.resolve(found(key), IP)) for _ in range(2))
    await shop.store.read.wait()
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    shop.store.gate.set()
    assert (await stayer).tenant == "acme"
    assert leaver.cancelled()


async def test_look_ups_under_way_are_bounded_even_when_their_clients_left(shop: Shop) -> None:
    resolver = make(shop, flights=3)
    shop.store.gate = asyncio.Event()
    for _ in range(3):
        task = asyncio.create_task(resolver.resolve(found(shop.sell()), IP))
        shop.store.read.clear()
        await shop.store.read.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    with pytest.raises(StoreError, match="3 credentials wait"):
        await resolver.resolve(found(shop.sell()), IP)
    await resolver.close()


@pytest.mark.parametrize("how", ["forget_key", "forget_tenant", "forget_all", "poll"])
async def test_a_key_revoked_while_its_look_up_is_under_way_is_not_cached_after_it(shop: Shop, how: str) -> None:
    key = shop.sell()
    resolver = make(shop)
    await resolver.poll()
    shop.store.gate = asyncio.Event()
    early = asyncio.create_task(resolver.resolve(found(key), IP))
    await shop.store.read.wait()
    await shop.store.end_key(key.id, at_ns=1, revoked=True, actor="t")
    match how:
        case "forget_key":
            resolver.forget_key(key.id)
        case "forget_tenant":
            resolver.forget_tenant("acme")
        case "forget_all":
            resolver.forget_all()
        case _:
            await resolver.poll()
    late = asyncio.create_task(refused(resolver, found(key)))
    shop.store.gate.set()
    await early
    assert await late == "key_revoked"
    assert resolver.cached(found(key)) is None
    assert await refused(resolver, found(key)) == "key_revoked"


async def test_forgetting_one_key_leaves_the_others(shop: Shop) -> None:
    gone, stays = shop.sell(), shop.sell()
    resolver = make(shop)
    for key in (gone, stays):
        await resolver.resolve(found(key), IP)
    resolver.forget_key(gone.id)
    assert resolver.cached(found(gone)) is None
    assert resolver.cached(found(stays)) is not None
    resolver.forget_tenant("acme")
    assert resolver.cached(found(stays)) is None


async def test_a_change_elsewhere_counts_from_the_next_poll(shop: Shop) -> None:
    key = shop.sell()
    resolver = make(shop)
    await resolver.poll()
    await resolver.resolve(found(key), IP)
    await resolver.poll()
    assert resolver.cached(found(key)) is not None
    await shop.store.set_tenant("acme", state=AccessState.SUSPENDED, actor="t", at_ns=1)
    await resolver.poll()
    assert resolver.cached(found(key)) is None
    assert (await resolver.resolve(found(key), IP)).state is AccessState.SUSPENDED


async def test_a_store_that_is_down_is_a_store_error_and_heals(shop: Shop) -> None:
    key, other = shop.sell(), shop.sell()
    resolver = make(shop)
    await resolver.resolve(found(key), IP)
    shop.store.down = True
    assert resolver.cached(found(key)) is not None
    for _ in range(30):  # not the caller's failure: nothing is throttled, nothing remembered
        with pytest.raises(StoreError):
            await resolver.resolve(found(other), IP)
    with pytest.raises(StoreError):
        await resolver.poll()
    shop.clock.advance(30)
    assert resolver.cached(found(key)) is None
    with pytest.raises(StoreError):
        await resolver.resolve(found(key), IP)
    shop.store.down = False
    assert (await resolver.resolve(found(other), IP)).key_id == other.id


async def test_while_the_store_fails_what_was_known_is_trusted_as_long_as_configured(shop: Shop) -> None:
    resolver = make(shop, identity=Identity(ApiKeySettings(stale_ns=60 * 10**9)))
    key, other = shop.sell(), shop.sell()
    known = await resolver.resolve(found(key), IP)
    shop.store.down = True
    shop.clock.advance(89)  # 30 s of the cache, 59 s more
    assert await resolver.resolve(found(key), IP) == known
    assert resolver.cached(found(key)) == known, "the store is not asked for each request"
    with pytest.raises(StoreError):
        await resolver.resolve(found(other), IP)
    shop.clock.advance(1)
    assert resolver.cached(found(key)) is None
    with pytest.raises(StoreError):
        await resolver.resolve(found(key), IP)


async def test_what_was_known_is_not_trusted_beyond_its_own_end_nor_after_a_change(shop: Shop) -> None:
    resolver = make(shop, identity=Identity(ApiKeySettings(stale_ns=3600 * 10**9)))
    short, changed = shop.sell(seconds=40), shop.sell()
    for key in (short, changed):
        await resolver.resolve(found(key), IP)
    shop.store.down = True
    shop.clock.advance(40)
    with pytest.raises(StoreError):
        await resolver.resolve(found(short), IP)
    assert await resolver.resolve(found(changed), IP)
    resolver.forget_key(changed.id)
    with pytest.raises(StoreError):
        await resolver.resolve(found(changed), IP)
