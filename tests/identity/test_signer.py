import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest

from sidecar.core.clock import NS_PER_S, ManualClock
from sidecar.core.policy import UpstreamJwt
from sidecar.core.values import Principal
from sidecar.identity import UpstreamSigner, signing_key
from sidecar.identity.signer import MAX_LINES

ALICE = Principal("acme", "AbCdEf", "pro", scopes=frozenset({"write", "read"}), sandbox=True)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def signer(tmp_path: Path, clock: ManualClock) -> UpstreamSigner:
    return UpstreamSigner(UpstreamJwt(), signing_key(tmp_path), clock)


def _claims(signer: UpstreamSigner, line: bytes) -> dict[str, Any]:
    """As an upstream would, from the published key set; without the time, which the tests' clock owns."""
    token = line.partition(b": ")[2].decode().removesuffix("\r\n")
    keys = jwt.PyJWKSet.from_dict(json.loads(json.dumps(signer.jwks())))
    key = keys[jwt.get_unverified_header(token)["kid"]]
    options: Any = {"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "sub"]}
    return jwt.decode(token, key, algorithms=["EdDSA"], audience="upstream", issuer="sidecar", options=options)


def test_the_line_verifies_against_the_published_key(signer: UpstreamSigner, clock: ManualClock) -> None:
    now = clock.wall_ns() // NS_PER_S
    line = signer.header_line(ALICE)
    assert line.startswith(b"X-Identity-Token: ey")
    assert line.endswith(b"\r\n")
    assert line.count(b"\r") == line.count(b"\n") == 1
    assert _claims(signer, line) == {
        "iss": "sidecar",
        "aud": "upstream",
        "sub": "AbCdEf",
        "tenant": "acme",
        "plan": "pro",
        "sandbox": True,
        "scope": "read write",
        "iat": now,
        "exp": now + 60,
    }


def test_scopes_that_are_not_narrowed_are_not_in_the_token(signer: UpstreamSigner) -> None:
    assert "scope" not in _claims(signer, signer.header_line(Principal("acme", "k", "pro")))


def test_the_key_set_is_public_and_names_its_key_by_thumbprint(signer: UpstreamSigner, tmp_path: Path) -> None:
    (jwk,) = signer.jwks()["keys"]
    assert set(jwk) == {"kty", "crv", "x", "kid", "use", "alg"}
    private = base64.urlsafe_b64encode(signing_key(tmp_path).private_bytes_raw()).rstrip(b"=").decode()
    assert private not in json.dumps(jwk)
    again = UpstreamSigner(UpstreamJwt(), signing_key(tmp_path), ManualClock())
    assert again.jwks() == signer.jwks()


def test_a_token_is_reused_for_half_its_life(signer: UpstreamSigner, clock: ManualClock) -> None:
    first = signer.header_line(ALICE)
    clock.advance(29.999)
    assert signer.header_line(ALICE) is first
    clock.advance(0.001)
    second = signer.header_line(ALICE)
    assert second != first
    assert _claims(signer, second)["exp"] == _claims(signer, first)["exp"] + 30


def test_a_token_never_outlives_its_principal(signer: UpstreamSigner, clock: ManualClock) -> None:
    ends = clock.wall_ns() + 10 * NS_PER_S
    brief = Principal("acme", "k", "pro", expires_ns=ends)
    assert _claims(signer, signer.header_line(brief))["exp"] == ends // NS_PER_S


def test_a_clock_set_back_makes_a_new_token(signer: UpstreamSigner, clock: ManualClock) -> None:
    first = signer.header_line(ALICE)
    clock.jump_wall(-3600)
    assert _claims(signer, signer.header_line(ALICE))["iat"] == _claims(signer, first)["iat"] - 3600


def test_kept_tokens_are_bounded(signer: UpstreamSigner) -> None:
    for number in range(MAX_LINES + 10):
        signer.header_line(Principal("acme", str(number), "pro"))
    assert len(signer._lines) == MAX_LINES


def test_a_changed_token_does_not_verify(signer: UpstreamSigner) -> None:
    line = signer.header_line(ALICE)
    with pytest.raises(jwt.InvalidSignatureError):
        _claims(signer, line[:-20] + (b"A" if line[-20:-19] != b"A" else b"B") + line[-19:])
