"""A resolver over the shop, and what it is asked."""

from collections.abc import Awaitable, Callable

import pytest

from sidecar.core.errors import Unauthenticated
from sidecar.core.policy import Identity
from sidecar.core.problems import CODES
from sidecar.core.values import Principal, Tenant
from sidecar.identity import Found, MintedKey, Peppers, Resolver

from .conftest import Shop

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
