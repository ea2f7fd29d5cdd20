from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import Unauthenticated
from sidecar.core.policy import ApiKeySettings, Identity, JwtIssuer
from sidecar.identity import Finder, Found

KEY = b"sc_live_abcdef"
OTHER = b"sc_live_ghijkl"
TOKEN = b"aaa.bbb.ccc"
ISSUER = JwtIssuer("https://i", "api", ("RS256",), "org", jwks_url="https://i/jwks")
PLAIN = Finder(Identity())
FULL = Finder(Identity(ApiKeySettings(query="api_key"), (ISSUER,)))


@pytest.mark.parametrize(
    ("finder", "api_key", "authorization", "query", "expected"),
    [
        (PLAIN, [KEY], [], b"", Found("key", KEY, "header")),
        (PLAIN, (KEY,), (), b"a=b", Found("key", KEY, "header")),
        (PLAIN, [b" " + KEY + b"\t"], [], b"", Found("key", KEY, "header")),
        (PLAIN, [], [], b"", None),
        (PLAIN, [b""], [], b"", None),
        (PLAIN, [b"anything"], [], b"", Found("key", b"anything", "header")),
        (PLAIN, [], [b"Bearer " + KEY], b"", Found("key", KEY, "bearer")),
        (PLAIN, [], [b"bEARER   " + KEY + b" "], b"", Found("key", KEY, "bearer")),
        (PLAIN, [], [b"Bearer  " + KEY], b"", Found("key", KEY, "bearer")),
        (PLAIN, [], [b"Basic " + KEY], b"", None),
        (PLAIN, [], [b"Bearer"], b"", None),
        (PLAIN, [], [b"Bearer " + TOKEN], b"", None),
        (PLAIN, [KEY], [b"Bearer " + TOKEN], b"", Found("key", KEY, "header")),
        (PLAIN, [KEY], [b"Basic dXNlcjpwYXNz"], b"", Found("key", KEY, "header")),
        (PLAIN, [KEY], [b"Bearer " + KEY], b"", Found("key", KEY, "header", ("bearer",))),
        (PLAIN, [KEY, KEY], [], b"", Found("key", KEY, "header")),
        (PLAIN, [], [], b"api_key=" + KEY, None),
        (FULL, [], [b"Bearer " + TOKEN], b"", Found("jwt", TOKEN, "bearer")),
        (FULL, [], [b"Bearer a.b"], b"", None),
        (FULL, [], [b"Bearer a..b"], b"", None),
        (FULL, [], [], b"x=1&api_key=" + KEY, Found("key", KEY, "query")),
        (FULL, [], [], b"api%5Fkey=sc%5flive_abcdef&y", Found("key", KEY, "query")),
        (FULL, [], [], b"api_key=", None),
        (FULL, [], [], b"api_keys=" + KEY, None),
        (FULL, [KEY], [b"bearer " + KEY], b"api_key=" + KEY, Found("key", KEY, "header", ("bearer", "query"))),
    ],
)
def test_what_a_request_brought(
    finder: Finder, api_key: list[bytes], authorization: list[bytes], query: bytes, expected: Found | None
) -> None:
    assert finder.find(api_key, authorization, query) == expected


@pytest.mark.parametrize(
    ("api_key", "authorization", "query"),
    [
        ([KEY, OTHER], [], b""),
        ([KEY], [b"Bearer " + OTHER], b""),
        ([], [b"Bearer " + KEY, b"Bearer " + OTHER], b""),
        ([KEY], [b"Bearer " + TOKEN], b""),
        ([KEY], [], b"api_key=" + OTHER),
        ([], [], b"api_key=" + KEY + b"&api%5fkey=" + OTHER),
        ([], [b"Bearer " + TOKEN], b"api_key=" + KEY),
    ],
)
def test_two_different_credentials_are_ambiguous_and_neither_is_shown(
    api_key: list[bytes], authorization: list[bytes], query: bytes
) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        FULL.find(api_key, authorization, query)
    assert refusal.value.reason == "credentials_ambiguous"
    assert "abcdef" not in str(refusal.value)


def test_bearer_can_be_switched_off() -> None:
    finder = Finder(Identity(ApiKeySettings(bearer=False)))
    assert finder.find([], [b"Bearer " + KEY], b"") is None
    assert finder.find([KEY], [b"Bearer " + OTHER], b"") == Found("key", KEY, "header")


def test_a_found_credential_does_not_show_itself() -> None:
    found = PLAIN.find([KEY], [], b"")
    assert "abcdef" not in repr(found) + str(found) + f"{found}"


@given(st.lists(st.sampled_from(["a=1", "api_key=k", "api%5Fkey=k", "b", "", "c=%20+", "api_key"]), max_size=6))
def test_the_key_is_cut_out_of_the_query_and_every_other_byte_stays(parts: list[str]) -> None:
    rest = [part for part in parts if not part.startswith("api")]
    query = "&".join(parts).encode()
    assert FULL.without_key(query) == "&".join(rest).encode()
    assert PLAIN.without_key(query) == query


@given(st.text(min_size=1, max_size=30).filter(lambda text: text.strip() == text))
def test_a_percent_encoded_value_is_decoded(value: str) -> None:
    found = FULL.find([], [], f"api_key={quote(value, safe='')}".encode())
    stripped = value.encode().strip()
    assert found == (Found("key", stripped, "query") if stripped else None)
