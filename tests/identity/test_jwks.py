import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from sidecar.core.clock import ManualClock
from sidecar.core.errors import StoreError
from sidecar.identity import fetch_jwks
from sidecar.identity import jwks as module
from sidecar.identity.jwks import KeySet, read_jwks

from .issuer import Issuer, public_jwk

BROKEN = ["500", "redirect", "huge", "bomb", "html", "list", "empty", "deep", "reset"]


class Line:
    """A key set on the far end of a real connection."""

    def __init__(self, issuer: Issuer, url: str, session: ClientSession) -> None:
        self.issuer = issuer
        self.clock = ManualClock()
        self.keys = KeySet(url, issuer.name, ("EdDSA",), fetch_jwks(session), self.clock)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    issuer = Issuer()
    async with TestServer(issuer.app()) as server, ClientSession() as session:
        line = Line(issuer, str(server.make_url("/jwks.json")), session)
        yield line
        await line.keys.close()


async def test_keys_are_fetched_once_for_many_who_wait(line: Line) -> None:
    line.issuer.gate = asyncio.Event()
    waiting = [asyncio.create_task(line.keys.key("k1", "EdDSA")) for _ in range(20)]
    await line.issuer.asked.wait()
    waiting[0].cancel()
    line.issuer.gate.set()
    found = await asyncio.gather(*waiting[1:])
    assert all(key is not None and key.key_id == "k1" for key in found)
    assert line.issuer.hits == 1


async def test_an_unknown_id_asks_once_and_then_not_for_thirty_seconds(line: Line) -> None:
    assert await line.keys.key("k1", "EdDSA") is not None
    line.issuer.keys = {"k2": Ed25519PrivateKey.generate()}
    assert await line.keys.key("k2", "EdDSA") is None
    assert line.issuer.hits == 1
    line.clock.advance(30)
    assert await line.keys.key("k2", "EdDSA") is not None
    assert await line.keys.key("k1", "EdDSA") is None
    assert await line.keys.key("k9", "EdDSA") is None
    assert line.issuer.hits == 2


@pytest.mark.parametrize("mood", BROKEN)
async def test_a_broken_answer_is_a_store_error_and_heals_after_thirty_seconds(
    line: Line, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    line.issuer.mood = mood
    for _ in range(3):
        with pytest.raises(StoreError, match=r"key set of https://issuer\.example could not be fetched"):
            await line.keys.key("k1", "EdDSA")
    asked = line.issuer.hits
    assert asked <= 2  # aiohttp itself asks again after a reset of a kept connection
    assert "there is none to fall back on" in caplog.text
    line.issuer.mood = "good"
    line.clock.advance(30)
    assert await line.keys.key("k1", "EdDSA") is not None
    assert line.issuer.hits == asked + 1


@pytest.mark.parametrize("mood", BROKEN)
async def test_the_last_good_set_is_kept(line: Line, mood: str, caplog: pytest.LogCaptureFixture) -> None:
    assert await line.keys.key("k1", "EdDSA") is not None
    line.issuer.mood = mood
    line.clock.advance(30)
    assert await line.keys.key("new", "EdDSA") is None
    assert await line.keys.key("k1", "EdDSA") is not None
    assert "the last good one is kept" in caplog.text


async def test_a_slow_issuer_is_given_up(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.01)
    line.issuer.gate = asyncio.Event()
    with pytest.raises(StoreError):
        await line.keys.key("k1", "EdDSA")
    line.issuer.gate.set()


async def test_a_withdrawn_key_goes_within_the_fresh_time_without_making_anybody_wait(line: Line) -> None:
    assert await line.keys.key("k1", "EdDSA") is not None
    line.issuer.keys = {"k2": Ed25519PrivateKey.generate()}
    line.clock.advance(301)
    line.issuer.asked.clear()
    assert await line.keys.key("k1", "EdDSA") is not None  # this one still has the old set, and starts the fetch
    flight = line.keys._flight
    assert flight is not None
    await flight
    assert await line.keys.key("k1", "EdDSA") is None
    assert line.issuer.hits == 2


async def test_a_token_without_a_key_id_fits_the_only_key(line: Line) -> None:
    line.issuer.keys = {None: Ed25519PrivateKey.generate()}
    assert await line.keys.key(None, "EdDSA") is not None
    line.issuer.keys["k2"] = Ed25519PrivateKey.generate()
    line.clock.advance(30)
    assert await line.keys.key("k2", "EdDSA") is not None
    assert await line.keys.key(None, "EdDSA") is None


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "RSA"},
        {"kty": None},
        {"crv": "Ed448"},
        {"crv": "P-256"},
        {"use": "enc"},
        {"alg": "ES256"},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"kid": 7},
        {"x": "AA"},
        {"x": 5},
        {"x": None},
    ],
)
def test_a_key_of_another_kind_is_skipped(change: dict[str, object]) -> None:
    good = public_jwk(Ed25519PrivateKey.generate(), "good")
    bad = public_jwk(Ed25519PrivateKey.generate(), "bad") | change
    found = read_jwks(json.dumps({"keys": [bad, 5, None, [], good]}).encode(), ("EdDSA",))
    assert list(found) == [("good", "EdDSA")]


def test_a_key_published_with_its_private_half_is_skipped() -> None:
    """Whoever reads the set could sign with it."""
    private = dict(OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True)) | {"kid": "k"}
    with pytest.raises(StoreError, match="no key for EdDSA"):
        read_jwks(json.dumps({"keys": [private]}).encode(), ("EdDSA",))


def test_a_short_rsa_key_is_skipped() -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    body = json.dumps({"keys": [dict(RSAAlgorithm.to_jwk(short, as_dict=True)) | {"kid": "k"}]}).encode()
    with pytest.raises(StoreError, match="no key for RS256"):
        read_jwks(body, ("RS256",))


def test_at_most_a_hundred_keys_are_taken() -> None:
    jwk = public_jwk(Ed25519PrivateKey.generate(), None)
    body = json.dumps({"keys": [jwk | {"kid": f"k{n}"} for n in range(150)]}).encode()
    assert len(read_jwks(body, ("EdDSA",))) == 100
