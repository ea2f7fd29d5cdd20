"""Credentials that are guessed cost little and harm nobody else."""

import json

import pytest

from sidecar.core.errors import Unauthenticated
from sidecar.core.policy import Identity, JwtIssuer
from sidecar.core.values import Principal, Tenant
from sidecar.identity import Found, Resolver, mint_key

from .conftest import Shop
from .issuer import Issuer, public_jwk
from .resolving import IP, found, make, refused


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
