import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import Unauthenticated
from sidecar.identity import Peppers, digest, matches, mint_key, new_key, parse_key
from sidecar.identity.base62 import ALPHABET

PEPPERS = Peppers({"p1": "a pepper for the tests only"})
KEY = mint_key("sc", sandbox=False).text.encode()


@pytest.mark.parametrize(("sandbox", "word"), [(False, "live"), (True, "test")])
def test_a_minted_key_has_the_documented_shape_and_parses(sandbox: bool, word: str) -> None:
    minted = mint_key("my_brand", sandbox=sandbox)
    assert re.fullmatch(rf"my_brand_{word}_[0-9A-Za-z]{{45}}", minted.text)
    parsed = parse_key("my_brand", minted.text.encode())
    assert (parsed.id, parsed.sandbox) == (minted.id, sandbox)
    assert 62**27 > 2**160


def test_keys_differ() -> None:
    assert len({mint_key("sc", sandbox=False).text for _ in range(200)}) == 200


@given(st.integers(0, len(KEY) - 1), st.integers(0, 255))
def test_every_mutation_of_one_byte_is_refused(place: int, byte: int) -> None:
    mutated = KEY[:place] + bytes([byte]) + KEY[place + 1 :]
    if mutated == KEY:
        assert parse_key("sc", mutated)
        return
    with pytest.raises(Unauthenticated) as refusal:
        parse_key("sc", mutated)
    assert refusal.value.reason == "key_malformed"


@given(st.integers(0, len(KEY) - 2))
def test_every_swap_of_two_neighbours_is_refused(place: int) -> None:
    swapped = KEY[:place] + KEY[place + 1 : place + 2] + KEY[place : place + 1] + KEY[place + 2 :]
    if swapped != KEY:
        with pytest.raises(Unauthenticated):
            parse_key("sc", swapped)


@given(st.binary(max_size=120))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(Unauthenticated):
        parse_key("sc", noise)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        KEY[:-1],
        KEY[:20],
        KEY + b"x",
        KEY + KEY,
        KEY + b"," + KEY,
        KEY * 2000,
        KEY.upper(),
        b" " + KEY,
        KEY + b"\n",
        KEY.replace(b"sc_", b"sk_"),
        KEY.replace(b"_live_", b"_test_"),
        b"sc_live_" + b"0" * 45,
        "sc_live_é".encode() + KEY[10:],
    ],
    ids=[
        "empty",
        "cut",
        "half",
        "longer",
        "doubled",
        "listed",
        "oversized",
        "upper",
        "space",
        "newline",
        "brand",
        "mode",
        "zeros",
        "accent",
    ],
)
def test_truncated_oversized_doubled_and_foreign_texts_are_malformed_and_not_shown(text: bytes) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        parse_key("sc", text)
    assert refusal.value.reason == "key_malformed"
    assert KEY.decode()[8:] not in repr(refusal.value) + refusal.value.detail


def test_a_row_holds_a_digest_and_matches_its_key_alone() -> None:
    row, minted = _sell()
    text = minted.text.encode()
    assert row.digest == digest(b"a pepper for the tests only", text)
    assert len(row.digest) == 32
    assert matches(PEPPERS, row, text)
    assert not matches(PEPPERS, row, KEY)
    assert not matches(PEPPERS, None, text)


def test_a_row_without_its_pepper_matches_nothing() -> None:
    row, minted = _sell()
    text = minted.text.encode()
    others = Peppers({"p2": "another pepper, just as long"})
    assert not matches(others, row, text)
    planted = replace(row, digest=digest(bytes(32), text))  # who can write rows still has to know a pepper
    assert not matches(others, planted, text)


def test_no_repr_of_a_key_or_its_row_shows_the_secret() -> None:
    """Keys are never stored or logged in clear (Kong/kong#5437)."""
    row, minted = _sell()
    secret = minted.text[len("sc_live_") + 12 :]
    for shown in (repr(minted), str(minted), repr(row), str(row), repr(PEPPERS)):
        assert secret not in shown
        assert "a pepper for the tests" not in shown
        assert repr(row.digest) not in shown
    assert secret.encode() not in b"".join(value for value in _values(row) if isinstance(value, bytes))


@pytest.mark.parametrize(
    "wrong",
    [{"tenant": "a/b"}, {"name": ""}, {"name": "a\nb"}, {"scopes": ("a b",)}, {"expires_ns": 1000}],
)
def test_a_key_is_not_made_of_wrong_arguments(wrong: dict[str, object]) -> None:
    good = {"tenant": "acme", "name": "ci", "sandbox": False, "scopes": None, "expires_ns": None, "now_ns": 1000}
    with pytest.raises(ValueError, match=r"write|future"):
        new_key(PEPPERS, "sc", **(good | wrong))  # type: ignore[arg-type]


def test_a_key_of_a_seed_is_the_same_again_and_another_under_another_pepper_or_seed() -> None:
    """A first key can be made anew for the browser that has the seed, and by nobody without the pepper."""
    known: dict[str, Any] = {"tenant": "acme", "name": "first", "sandbox": False, "scopes": None, "expires_ns": None}
    others = Peppers({"p2": "another pepper, just as long"})
    (row, one), (_, again) = (new_key(PEPPERS, "sc", **known, now_ns=1, seed=b"seed") for _ in range(2))
    assert one == again
    assert matches(PEPPERS, row, one.text.encode())
    assert parse_key("sc", one.text.encode()).id == one.id == row.id
    different = [new_key(others, "sc", **known, now_ns=1, seed=b"seed"), new_key(PEPPERS, "sc", **known, now_ns=1)]
    different.append(new_key(PEPPERS, "sc", **known, now_ns=1, seed=b"another"))
    assert len({one.text, *(minted.text for _, minted in different)}) == 4


def test_the_alphabet_has_62_different_characters() -> None:
    assert len(set(ALPHABET)) == 62


def _sell():
    return new_key(PEPPERS, "sc", tenant="acme", name="ci", sandbox=False, scopes=None, expires_ns=None, now_ns=1)


def _values(row: object) -> list[object]:
    return [getattr(row, name) for name in row.__slots__]  # type: ignore[attr-defined]
