import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.clock import NS_PER_S, ManualClock
from sidecar.core.errors import SidecarError, Unauthenticated
from sidecar.core.policy import ApiKeySettings, Identity, JwtIssuer
from sidecar.core.values import Principal, Tenant
from sidecar.identity import Finder, Resolver
from sidecar.identity.tokens import Tokens, _key_id

from .conftest import Shop
from .issuer import Issuer, hmac_token, public_jwk, sign

SECRET = "a secret of more than thirty-two bytes, for HS256"
NOW = ManualClock().wall_ns() // NS_PER_S
EDDSA = JwtIssuer(Issuer.name, "api", ("EdDSA",), "org", jwks_url="https://issuer.example/jwks", plan_claim="plan")


class Desk:
    """Tokens over an issuer whose key set is handed over without a network (test_jwks has the network)."""

    def __init__(self, *settings: JwtIssuer) -> None:
        self.clock = ManualClock()
        self.issuer = Issuer()
        self.tokens = Tokens(settings or (EDDSA,), self.fetch, self.clock)

    async def fetch(self, url: str) -> bytes:
        self.issuer.hits += 1
        return json.dumps({"keys": [public_jwk(key, kid) for kid, key in self.issuer.keys.items()]}).encode()

    async def refused(self, token: bytes) -> str:
        with pytest.raises(Unauthenticated) as refusal:
            await self.tokens.verify(token)
        assert token.decode("latin-1")[-20:] not in str(refusal.value) or len(token) < 20
        return refusal.value.reason


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    await desk.tokens.close()


async def test_a_good_token_says_who_calls(desk: Desk) -> None:
    claims = await desk.tokens.verify(desk.issuer.token(NOW, scope="read orders:write", plan="scale"))
    assert (claims.tenant, claims.key_id, claims.plan) == ("acme", "jwt:alice", "scale")
    assert claims.scopes == {"read", "orders:write"}
    assert claims.ends_ns == (NOW + 330) * NS_PER_S


@pytest.mark.parametrize(
    ("given_", "expected"),
    [("read  write ", {"read", "write"}), (["read"], {"read"}), ("", set()), (None, set()), (..., set())],
)
async def test_scopes_are_text_or_list_and_none_when_absent(desk: Desk, given_: Any, expected: set[str]) -> None:
    assert (await desk.tokens.verify(desk.issuer.token(NOW, scope=given_))).scopes == expected


@pytest.mark.parametrize(
    "claims",
    [
        *({claim: ...} for claim in ("exp", "iat", "iss", "aud", "sub", "org")),
        {"iss": "https://evil.example"},
        {"iss": [Issuer.name]},
        {"aud": "another"},
        {"aud": ["another", "third"]},
        {"aud": {"api": 1}},
        {"sub": ""},
        {"sub": 7},
        {"sub": "\ud800"},
        {"org": ""},
        {"org": "a/b"},
        {"org": ["acme"]},
        {"org": "acme\r\nX-Plan: scale"},
        {"plan": 3},
        {"exp": "soon"},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": 10**300},
        {"exp": -1},
        {"iat": NOW + 31},
        {"nbf": NOW + 31},
        {"nbf": "now"},
        {"scope": 5},
        {"scope": ["a b"]},
        {"scope": [1]},
        {"scope": "é"},
        {"scope": " ".join(f"s{n}" for n in range(101))},
    ],
)
async def test_a_claim_that_is_missing_or_wrong_is_refused(desk: Desk, claims: dict[str, Any]) -> None:
    assert await desk.refused(desk.issuer.token(NOW, **claims)) == "token_invalid"


@pytest.mark.parametrize("aud", ["api", ["other", "api"]])
async def test_the_audience_may_be_one_of_a_list(desk: Desk, aud: Any) -> None:
    assert (await desk.tokens.verify(desk.issuer.token(NOW, aud=aud))).tenant == "acme"


async def test_the_end_is_exact_with_its_leeway(desk: Desk) -> None:
    token = desk.issuer.token(NOW)
    desk.clock.advance(329)
    assert (await desk.tokens.verify(token)).tenant == "acme"
    desk.clock.advance(1)
    assert await desk.refused(token) == "token_expired"


@pytest.mark.parametrize(
    "headers",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "RS256"},
        {"alg": None},
        {"alg": ["EdDSA"]},
        {"kid": 5},
        {"kid": "nobody"},
        {"crit": ["exp"]},
        {"crit": []},
        {"b64": False, "crit": ["b64"]},
        {"b64": True, "crit": ["b64"]},
    ],
)
async def test_a_header_that_asks_for_something_else_is_refused(desk: Desk, headers: dict[str, Any]) -> None:
    assert await desk.refused(desk.issuer.token(NOW, headers=headers)) == "token_invalid"


async def test_keys_and_addresses_in_the_token_are_ignored(desk: Desk) -> None:
    attacker = Ed25519PrivateKey.generate()
    own = {"jwk": public_jwk(attacker, "k1"), "jku": "https://evil.example/jwks", "x5u": "https://evil.example/x"}
    body = {"iss": Issuer.name, "aud": "api", "sub": "alice", "org": "acme", "iat": NOW, "exp": NOW + 60}
    assert await desk.refused(sign(body, attacker, own | {"kid": "k1"})) == "token_invalid"
    assert (await desk.tokens.verify(desk.issuer.token(NOW, headers=own))).tenant == "acme"


async def test_the_public_key_is_never_an_hmac_secret(desk: Desk) -> None:
    public = desk.issuer.keys["k1"].public_key()
    body = {"iss": Issuer.name, "aud": "api", "sub": "alice", "org": "acme", "iat": NOW, "exp": NOW + 60}
    forged = hmac_token(body, public.public_bytes(Encoding.Raw, PublicFormat.Raw))
    assert await desk.refused(forged) == "token_invalid"


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"a.b.c",
        b"..",
        b"eyJ.eyJ.eyJ",
        b"\xff\xfe.\xff.\xff",
        b"." * 9000,
        base64.urlsafe_b64encode(b'{"alg":"EdDSA"}') + b"." + base64.urlsafe_b64encode(b"[" * 5000) + b".AA",
        base64.urlsafe_b64encode(b"[" * 5000) + b".e30.AA",
        base64.urlsafe_b64encode(b'{"alg":"EdDSA"}')
        + b"."
        + base64.urlsafe_b64encode(b'{"exp":' + b"9" * 5000)
        + b".AA",
        base64.urlsafe_b64encode(b'{"alg":"EdDSA"}') + b".W10.AA",
        base64.urlsafe_b64encode(b'{"alg":"EdDSA"}') + b".e30.AA",
    ],
)
async def test_what_is_no_token_is_refused_without_asking_the_issuer(desk: Desk, token: bytes) -> None:
    assert await desk.refused(token) == "token_invalid"
    assert desk.issuer.hits == 0


async def test_a_token_over_eight_kibibytes_is_refused(desk: Desk) -> None:
    assert (await desk.tokens.verify(desk.issuer.token(NOW, pad="x" * 5000))).tenant == "acme"
    assert await desk.refused(desk.issuer.token(NOW, pad="x" * 7000)) == "token_invalid"


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
async def test_no_changed_byte_passes(place: int, byte: int) -> None:
    desk = Desk()
    token = desk.issuer.token(NOW)
    place %= len(token)
    changed = token[:place] + bytes([byte]) + token[place + 1 :]
    if changed != token:
        assert await desk.refused(changed) == "token_invalid"


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_a_key_id_is_a_header_value_bounded_and_injective(one: str, other: str) -> None:
    first, second = _key_id(one), _key_id(other)
    assert first.startswith("jwt:")
    assert len(first) <= 132
    assert first.isascii()
    assert first.isprintable()
    assert " " not in first
    assert (first == second) == (one == other)


def test_no_subject_looks_like_a_hashed_one() -> None:
    assert _key_id(_key_id("x" * 200).removeprefix("jwt:")) != _key_id("x" * 200)


async def test_an_hmac_issuer_and_one_name_for_two_audiences() -> None:
    shared = JwtIssuer("https://h", "api", ("HS256",), "org", secret=SECRET)
    second = JwtIssuer("https://h", "web", ("HS256",), "team", secret=SECRET[::-1])
    desk = Desk(shared, second)
    body = {"iss": "https://h", "sub": "bob", "org": "acme", "team": "beta", "iat": NOW, "exp": NOW + 60}
    assert (await desk.tokens.verify(hmac_token(body | {"aud": "api"}, SECRET))).tenant == "acme"
    assert (await desk.tokens.verify(hmac_token(body | {"aud": "web"}, SECRET[::-1]))).tenant == "beta"
    assert await desk.refused(hmac_token(body | {"aud": "web"}, SECRET)) == "token_invalid"
    assert desk.issuer.hits == 0


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES384", "ES512"])
async def test_the_other_algorithms_with_real_keys(algorithm: str) -> None:
    private: Any
    if algorithm.startswith("ES"):
        curve = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm]
        private = ec.generate_private_key(curve)
    else:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    maker = jwt.get_algorithm_by_name(algorithm)
    document = {"keys": [dict(maker.to_jwk(private.public_key(), as_dict=True)) | {"kid": "k"}]}

    async def fetch(url: str) -> bytes:
        return json.dumps(document).encode()

    issuer = JwtIssuer("https://i", "api", (algorithm,), "org", jwks_url="https://i/jwks")
    tokens = Tokens((issuer,), fetch, ManualClock())
    body = {"iss": "https://i", "aud": "api", "sub": "bob", "org": "acme", "iat": NOW, "exp": NOW + 60}
    assert (await tokens.verify(jwt.encode(body, private, algorithm, {"kid": "k"}).encode())).key_id == "jwt:bob"


@pytest.mark.parametrize(
    "settings",
    [
        {"algorithms": ()},
        {"algorithms": ("none",)},
        {"algorithms": ("RS256", "HS256")},
        {"algorithms": ("RS256",), "jwks_url": None},
        {"algorithms": ("RS256",), "secret": SECRET},
        {"algorithms": ("HS256",), "jwks_url": None, "secret": "hunter2"},
        {"algorithms": ("HS512",), "jwks_url": None, "secret": SECRET},
        {"algorithms": ("HS256",), "secret": SECRET},
        {"leeway_s": 61},
        {"leeway_s": -1},
    ],
)
def test_an_issuer_that_cannot_be_trusted_is_refused_at_the_start(settings: dict[str, Any]) -> None:
    good = {"issuer": "https://i", "audience": "api", "algorithms": ("RS256",), "tenant_claim": "org"}
    with pytest.raises(SidecarError, match="issuer https://i") as refusal:
        Desk(JwtIssuer(**(good | {"jwks_url": "https://i/jwks"} | settings)))
    assert "hunter2" not in str(refusal.value)


async def test_a_token_through_the_resolver_is_cached_until_its_end(shop: Shop) -> None:
    desk = Desk()
    resolver, find = _resolver(shop, desk.fetch)
    token = desk.issuer.token(NOW, exp=NOW + 10, scope="read")
    credential = find(token)
    expected = Principal("acme", "jwt:alice", "pro", scopes=frozenset({"read"}), expires_ns=(NOW + 40) * NS_PER_S)
    assert await resolver.resolve(credential, "192.0.2.1") == expected
    assert resolver.cached(credential) == expected
    shop.clock.advance(29)
    assert resolver.cached(credential) == expected
    shop.clock.advance(1)
    assert resolver.cached(credential) is None  # the tenant's state is read again
    assert await resolver.resolve(credential, "192.0.2.1") == expected
    shop.clock.advance(10)
    assert resolver.cached(credential) is None
    with pytest.raises(Unauthenticated) as refusal:
        await resolver.resolve(credential, "192.0.2.1")
    assert refusal.value.reason == "token_expired"
    await resolver.close()


async def test_the_tenant_of_a_token_must_exist(shop: Shop) -> None:
    desk = Desk()
    resolver, find = _resolver(shop, desk.fetch)
    with pytest.raises(Unauthenticated) as refusal:
        await resolver.resolve(find(desk.issuer.token(NOW, org="ghost")), "192.0.2.1")
    assert refusal.value.reason == "tenant_unknown"
    shop.store.by_name["ghost"] = Tenant("ghost", "free")
    resolver.forget_all()
    assert (await resolver.resolve(find(desk.issuer.token(NOW, org="ghost")), "192.0.2.1")).plan == "free"
    await resolver.close()


async def test_forged_tokens_are_guesses_and_nothing_of_them_is_kept(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk()
    resolver, find = _resolver(shop, desk.fetch)
    reasons = []
    for number in range(21):
        token = desk.issuer.token(NOW, sub=f"s{number}")[:-10] + b"AAAAAAAAAA"
        with pytest.raises(Unauthenticated) as refusal:
            await resolver.resolve(find(token), "192.0.2.1")
        reasons.append(refusal.value.reason)
        assert token.decode()[30:60] not in repr(
            {name: getattr(resolver, name) for name in dir(resolver) if name[:2] != "__"}
        ) + caplog.text + str(refusal.value)
    assert reasons == ["token_invalid"] * 20 + ["too_many_failures"]
    await resolver.close()


def _resolver(
    shop: Shop, fetch: Callable[[str], Awaitable[bytes]]
) -> tuple[Resolver[Principal], Callable[[bytes], Any]]:
    async def itself(principal: Principal) -> Principal:
        return principal

    identity = Identity(ApiKeySettings(), (EDDSA,))
    finder = Finder(identity)
    resolver = Resolver(identity, shop.store, shop.peppers, itself, dict, shop.clock, fetch)
    return resolver, lambda token: finder.find((), (b"Bearer " + token,), b"")
