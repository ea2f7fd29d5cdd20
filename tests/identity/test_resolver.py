"""Which principal a credential stands for, and for how long that is remembered."""

import logging
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.core.errors import Unauthenticated
from sidecar.core.policy import ApiKeySettings, Identity
from sidecar.core.values import AccessState, Anchor, Override, Overrides, Principal, Tenant
from sidecar.identity import Found, Peppers, mint_key, scopes_allow

from .conftest import Shop
from .resolving import IP, found, make, refused


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


async def test_a_tenant_stands_without_a_credential(shop: Shop) -> None:
    """For what outlives its token. It is cached and forgotten as a key is, and no credential can be taken for it."""
    resolver = make(shop)
    first = await resolver.standing("acme")
    assert (first.tenant, first.key_id, first.scopes, first.state) == ("acme", "", None, AccessState.ACTIVE)
    assert await resolver.standing("acme") is first
    for secret in (b"tenant:acme", b"acme", b""):
        assert resolver.cached(Found("key", secret, "header")) is None
    await shop.store.set_tenant("acme", state=AccessState.SUSPENDED, actor="test", at_ns=shop.clock.wall_ns())
    resolver.forget_tenant("acme")
    assert (await resolver.standing("acme")).state == AccessState.SUSPENDED
    with pytest.raises(Unauthenticated, match="not known"):
        await resolver.standing("nobody")


def test_scopes() -> None:
    narrowed = Principal("acme", "k", "pro", scopes=frozenset({"read"}))
    assert scopes_allow(narrowed, frozenset())
    assert scopes_allow(narrowed, frozenset({"read"}))
    assert not scopes_allow(narrowed, frozenset({"read", "write"}))
    assert scopes_allow(Principal("acme", "k", "pro"), frozenset({"write"}))


def _attributes(thing: object) -> dict[str, object]:
    """Everything that the object holds, with or without slots, compiled or not."""
    return {name: getattr(thing, name) for name in dir(thing) if not name.startswith("__")}
