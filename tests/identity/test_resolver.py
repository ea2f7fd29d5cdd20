import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.core.errors import StoreError, Unauthenticated
from sidecar.core.policy import ApiKeySettings, Identity, JwtIssuer
from sidecar.core.problems import CODES
from sidecar.core.values import AccessState, Anchor, Override, Overrides, Principal, Tenant
from sidecar.identity import Found, MintedKey, Peppers, Resolver, mint_key, scopes_allow

from .conftest import Shop
from .issuer import Issuer, public_jwk

IP = "192.0.2.1"
PLAIN = Identity()


def make(
    shop: Shop,
    *,
    peppers: Peppers | None = None,
    declared: dict[str, Tenant] | None = None,
    identity: Identity = PLAIN,
    seat: Callable[[Principal], Awaitable[Principal]] | None = None,
    **bounds: int,
) -> Resolver[Principal]:
    async def itself(principal: Principal) -> Principal:
        return principal

    async def no_fetch(url: str) -> bytes:
        raise AssertionError(url)

    return Resolver(
        identity,
        shop.store,
        peppers or shop.peppers,
        seat or itself,
        lambda: declared or {},
        shop.clock,
        no_fetch,
        **bounds,
    )


def found(key: MintedKey) -> Found:
    return Found("key", key.text.encode(), "header")


async def refused(resolver: Resolver[Principal], credential: Found, ip: str = IP) -> str:
    with pytest.raises(Unauthenticated) as refusal:
        await resolver.resolve(credential, ip)
    assert refusal.value.reason in CODES
    assert credential.secret.decode("latin-1")[-20:] not in str(refusal.value) + repr(refusal.value)
    return refusal.value.reason


async def test_a_principal_has_its_tenants_billing_period_and_overrides(shop: Shop) -> None:
    overrides = Overrides(quotas={"monthly": Override("monthly", 7)})
    shop.store.by_name["acme"] = Tenant("acme", "pro", anchor=Anchor(31, 90), overrides=overrides)
    resolved = await make(shop).resolve(found(shop.sell()), IP)
    assert (resolved.billing_cycle, resolved.overrides) == ("month:1:0:31:5400:UTC", overrides)


async def test_what_one_resolver_made_of_a_credential_means_nothing_to_another(shop: Shop) -> None:
    credential = found(shop.sell())
    old, new = make(shop), make(shop)
    await old.resolve(credential, IP)
    assert old.cached(credential) is not None
    assert credential.fingerprint
    assert str(credential.fingerprint) not in repr(credential)
    assert new.cached(credential) is None
    await new.resolve(credential, IP)
    assert new.cached(credential) is not None
    assert old.cached(credential) is None  # asked again, it has to look


async def test_a_key_becomes_its_principal_and_is_cached_for_thirty_seconds(shop: Shop) -> None:
    shop.store.by_name["acme"] = Tenant("acme", "pro", AccessState.GRACE)
    key = shop.sell(scopes=("read", "write"), sandbox=True)
    resolver = make(shop)
    credential = found(key)
    assert resolver.cached(credential) is None
    expected = Principal("acme", key.id, "pro", AccessState.GRACE, True, frozenset({"read", "write"}), None)
    assert await resolver.resolve(found(key), IP) == expected
    shop.clock.advance(29.999)
    assert resolver.cached(credential) == expected
    shop.clock.advance(0.001)
    assert resolver.cached(credential) is None
    assert shop.store.key_reads == 1
    assert await resolver.resolve(found(key), IP) == expected
    assert shop.store.key_reads == 2


async def test_the_cache_never_lives_longer_than_thirty_seconds(shop: Shop) -> None:
    key = shop.sell()
    resolver = make(shop, identity=Identity(ApiKeySettings(cache_ns=10**15)))
    await resolver.resolve(found(key), IP)
    shop.clock.advance(30)
    assert resolver.cached(found(key)) is None


async def test_a_key_ends_at_its_very_nanosecond_cached_or_not(shop: Shop) -> None:
    key = shop.sell(seconds=10)
    resolver = make(shop)
    await resolver.resolve(found(key), IP)
    shop.clock.advance(9.999999999)
    assert resolver.cached(found(key)) is not None
    shop.clock.advance(0.000000001)
    assert resolver.cached(found(key)) is None
    assert await refused(resolver, found(key)) == "key_expired"


async def test_a_wall_clock_that_jumps_past_the_end_ends_a_cached_key(shop: Shop) -> None:
    key = shop.sell(seconds=3600)
    resolver = make(shop)
    await resolver.resolve(found(key), IP)
    shop.clock.jump_wall(3600)
    assert resolver.cached(found(key)) is None


async def test_each_kind_of_refusal(shop: Shop) -> None:
    resolver = make(shop)
    assert await refused(resolver, found(mint_key("sc", sandbox=False))) == "key_unknown"
    assert await refused(resolver, Found("key", b"hello", "header")) == "key_malformed"
    assert await refused(resolver, Found("jwt", b"a.b.c", "bearer")) == "token_invalid"
    assert await refused(resolver, found(shop.sell(tenant="nobody"))) == "tenant_unknown"
    revoked = shop.sell()
    await shop.store.end_key(revoked.id, at_ns=2**62, revoked=True, actor="t")
    assert await refused(resolver, found(revoked)) == "key_revoked"


async def test_the_id_of_another_key_with_a_wrong_secret_is_unknown_and_harms_nobody(shop: Shop) -> None:
    key = shop.sell()
    row = shop.store.by_id[key.id]
    forged = mint_key("sc", sandbox=False)
    shop.store.by_id[forged.id] = replace(row, id=forged.id)
    resolver = make(shop)
    assert await refused(resolver, found(forged)) == "key_unknown"
    assert (await resolver.resolve(found(key), IP)).key_id == key.id


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(place=st.integers(0, 52), byte=st.integers(0, 255))
async def test_a_mistyped_key_never_reaches_the_store(shop: Shop, place: int, byte: int) -> None:
    text = shop.sell().text.encode()
    mutated = text[:place] + bytes([byte]) + text[place + 1 :]
    reads = shop.store.key_reads
    if mutated != text:
        assert await refused(make(shop), Found("key", mutated, "header")) == "key_malformed"
        assert shop.store.key_reads == reads


async def test_a_tenant_declared_in_the_policies_wins_over_the_store(shop: Shop) -> None:
    key, only_declared = shop.sell(), shop.sell(tenant="local")
    resolver = make(shop, declared={"acme": Tenant("acme", "scale"), "local": Tenant("local", "free")})
    assert (await resolver.resolve(found(key), IP)).plan == "scale"
    assert (await resolver.resolve(found(only_declared), IP)).plan == "free"
    assert shop.store.tenant_reads == 0


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


async def test_an_unknown_key_asks_the_store_once_in_two_seconds(shop: Shop) -> None:
    stranger = mint_key("sc", sandbox=False)
    resolver = make(shop)
    for _ in range(5):
        assert await refused(resolver, found(stranger)) == "key_unknown"
    assert shop.store.key_reads == 1
    shop.clock.advance(2)
    assert await refused(resolver, found(stranger)) == "key_unknown"
    assert shop.store.key_reads == 2


async def test_refusals_evict_no_seat(shop: Shop) -> None:
    key = shop.sell()
    resolver = make(shop, seats=4, refusals=2)
    await resolver.resolve(found(key), IP)
    for number in range(50):
        assert await refused(resolver, found(mint_key("sc", sandbox=False)), f"10.0.0.{number}") == "key_unknown"
    assert resolver.cached(found(key)) is not None


async def test_a_closed_address_costs_no_look_up_no_digest_and_no_signature_and_hears_when_it_opens(shop: Shop) -> None:
    """What is refused is refused before the store, the pepper and the issuer are asked, whatever the credential."""
    issuer, hits = Issuer(), []

    async def fetch(url: str) -> bytes:
        hits.append(url)
        return json.dumps({"keys": [public_jwk(key, kid) for kid, key in issuer.keys.items()]}).encode()

    async def itself(principal: Principal) -> Principal:
        return principal

    settings = JwtIssuer(Issuer.name, "api", ("EdDSA",), "org", jwks_url="https://issuer.example/jwks")
    shop.store.by_name["acme"] = Tenant("acme", "free")
    resolver = Resolver(Identity(jwt=(settings,)), shop.store, shop.peppers, itself, dict, shop.clock, fetch)
    address = "2001:db8::{}"
    for number in range(20):
        assert await refused(resolver, Found("jwt", b"a.b.%d" % number, "bearer"), address.format(number)) == (
            "token_invalid"
        )
    reads, good = shop.store.key_reads, shop.sell()
    token = Found("jwt", issuer.token(shop.clock.wall_ns() // 10**9), "bearer")
    shop.clock.advance(12.5)
    for credential in (found(good), token, Found("jwt", b"x" * 100_000, "bearer")):
        with pytest.raises(Unauthenticated) as refusal:
            await resolver.resolve(credential, address.format("ffff"))
        assert (refusal.value.reason, refusal.value.retry_s) == ("too_many_failures", 48)
    assert (shop.store.key_reads, hits) == (reads, [])
    assert (await resolver.resolve(token, "2001:db8:0:1::1")).tenant == "acme"
    assert hits == ["https://issuer.example/jwks"]
    assert resolver.cached(Found("jwt", b"x" * 100_000, "bearer")) is None
    await resolver.close()


async def test_twenty_guesses_close_the_address_to_new_credentials_only(shop: Shop) -> None:
    known, fresh = shop.sell(), shop.sell()
    resolver = make(shop)
    await resolver.resolve(found(known), IP)
    for _ in range(20):
        assert await refused(resolver, found(mint_key("sc", sandbox=False))) == "key_unknown"
    reads = shop.store.key_reads
    assert await refused(resolver, found(mint_key("sc", sandbox=False))) == "too_many_failures"
    assert await refused(resolver, found(fresh)) == "too_many_failures"
    assert shop.store.key_reads == reads
    assert resolver.cached(found(known)) is not None
    assert (await resolver.resolve(found(fresh), "192.0.2.2")).key_id == fresh.id
    for forget in (resolver.forget_all, lambda: shop.clock.advance(31)):
        forget()  # a key that was good here before is let through, so one guesser cannot lock out its neighbours
        assert resolver.cached(found(known)) is None
        assert (await resolver.resolve(found(known), IP)).key_id == known.id
    shop.clock.advance(60)
    assert await refused(resolver, found(mint_key("sc", sandbox=False))) == "key_unknown"


async def test_an_owner_whose_key_ended_is_not_taken_for_a_guesser(shop: Shop) -> None:
    ended, good = shop.sell(), shop.sell()
    await shop.store.end_key(ended.id, at_ns=1, revoked=True, actor="t")
    resolver = make(shop)
    for _ in range(40):
        assert await refused(resolver, found(ended)) == "key_revoked"
    assert (await resolver.resolve(found(good), IP)).key_id == good.id


async def test_keys_rotate_with_an_overlap(shop: Shop) -> None:
    """Both keys work during the overlap, the new one alone after it (awslabs/aws-api-gateway-developer-portal#162)."""
    old, new = shop.sell(), shop.sell()
    await shop.store.end_key(old.id, at_ns=shop.clock.wall_ns() + 24 * 3600 * 10**9, revoked=False, actor="t")
    resolver = make(shop)
    assert (await resolver.resolve(found(old), IP)).key_id == old.id
    assert (await resolver.resolve(found(new), IP)).key_id == new.id
    shop.clock.advance(24 * 3600)
    assert await refused(resolver, found(old)) == "key_expired"
    assert (await resolver.resolve(found(new), IP)).key_id == new.id


async def test_peppers_rotate(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    old = shop.sell()
    rotated = Peppers({"p2": "a newer pepper for the tests", "p1": "a pepper for the tests only"})
    new = shop.sell(peppers=rotated)
    assert shop.store.by_id[new.id].pepper == "p2"
    resolver = make(shop, peppers=rotated)
    assert (await resolver.resolve(found(old), IP)).key_id == old.id
    assert (await resolver.resolve(found(new), IP)).key_id == new.id
    without = make(shop, peppers=Peppers({"p2": "a newer pepper for the tests"}))
    assert await refused(without, found(old)) == "key_unknown"
    assert "pepper p1, which is not configured" in caplog.text


async def test_what_the_seat_refuses_is_a_refusal(shop: Shop) -> None:
    async def no_seat(principal: Principal) -> Principal:
        raise Unauthenticated("plan_unknown", f"There is no plan {principal.plan}.")

    resolver = make(shop, seat=no_seat)
    assert await refused(resolver, found(shop.sell())) == "plan_unknown"


async def test_nothing_that_is_kept_or_logged_holds_the_key(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Keys are never stored or logged in clear (Kong/kong#5437)."""
    caplog.set_level(logging.DEBUG)
    key, stranger = shop.sell(), mint_key("sc", sandbox=False)
    resolver = make(shop)
    await resolver.resolve(found(key), IP)
    await refused(resolver, found(stranger))
    kept = (
        repr(_attributes(resolver))
        + repr([_attributes(table) for table in (resolver._seats, resolver._refusals, resolver._throttle)])
        + repr(shop.store.by_id)
    )
    for minted in (key, stranger):
        assert minted.text[-30:] not in kept + caplog.text
    assert "a pepper for the tests" not in kept


def test_scopes() -> None:
    narrowed = Principal("acme", "k", "pro", scopes=frozenset({"read"}))
    assert scopes_allow(narrowed, frozenset())
    assert scopes_allow(narrowed, frozenset({"read"}))
    assert not scopes_allow(narrowed, frozenset({"read", "write"}))
    assert scopes_allow(Principal("acme", "k", "pro"), frozenset({"write"}))


def _attributes(thing: object) -> dict[str, object]:
    """Everything that the object holds, with or without slots, compiled or not."""
    return {name: getattr(thing, name) for name in dir(thing) if not name.startswith("__")}


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
