"""API keys: their text, their digest, their row.

``<brand>_<live|test>_`` then 45 characters of base62: a key id of 12, a secret of 27 (160.7 bits), and the CRC-32 of
all that stands before it in 6. The CRC refuses typos and guesses before any look-up: a change of one character is a
burst of at most 8 bits, which CRC-32 always sees. It is no secret and proves nothing else.
"""

import hmac
from dataclasses import dataclass, field

from sidecar.core.errors import Unauthenticated
from sidecar.core.names import check_key_name, check_scope, check_tenant_name
from sidecar.core.values import ApiKey
from sidecar.identity.base62 import CHECK_CHARS, checksum, derived_text, is_base62, random_text
from sidecar.identity.peppers import Peppers

ID_CHARS = 12  # 71 bits: a collision among a million keys has odds of 1 in 6.5 billion, and is a Conflict then
SECRET_CHARS = 27
_BODY_CHARS = ID_CHARS + SECRET_CHARS + CHECK_CHARS
_MALFORMED = "The API key is mistyped or cut short; copy it again in full."


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A new key. ``text`` is the key itself: shown once to its owner and never kept."""

    id: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """What a well-formed key says about itself, before anybody was asked."""

    id: str
    sandbox: bool


def mint_key(brand: str, *, sandbox: bool, body: str | None = None) -> MintedKey:
    """A new key. ``brand`` is the settings' (``api_key.brand``); ``body`` None: a random one."""
    body = body or random_text(ID_CHARS + SECRET_CHARS)
    stem = f"{brand}_{'test' if sandbox else 'live'}_{body}"
    return MintedKey(body[:ID_CHARS], stem + checksum(stem.encode()).decode())


def parse_key(brand: str, text: bytes) -> ParsedKey:
    """Unauthenticated (``key_malformed``) when brand, length, characters or checksum are wrong; it shows no text."""
    prefix = f"{brand}_".encode()
    start = len(prefix) + 5
    body = text[start:]
    kind = text[len(prefix) : start]
    if (
        len(body) != _BODY_CHARS
        or not text.startswith(prefix)
        or kind not in (b"live_", b"test_")
        or not is_base62(body)
        or checksum(text[:-CHECK_CHARS]) != text[-CHECK_CHARS:]
    ):
        raise Unauthenticated("key_malformed", _MALFORMED)
    return ParsedKey(body[:ID_CHARS].decode("ascii"), kind == b"test_")


def new_key(
    peppers: Peppers,
    brand: str,
    *,
    tenant: str,
    name: str,
    sandbox: bool,
    scopes: tuple[str, ...] | None,
    expires_ns: int | None,
    now_ns: int,
    seed: bytes | None = None,
) -> tuple[ApiKey, MintedKey]:
    """The row to store and the text to show once. Times are Unix nanoseconds. ValueError says what is wrong.

    ``seed``: a secret of at least 128 bits that is kept nowhere; the same one under the same pepper makes the same key.
    """
    check_tenant_name(tenant)
    check_key_name(name)
    for scope in scopes or ():
        check_scope(scope)
    if expires_ns is not None and expires_ns <= now_ns:
        raise ValueError("the key would expire before it is made; give an end in the future")
    body = None if seed is None else derived_text(peppers.derive(seed), ID_CHARS + SECRET_CHARS)
    minted = mint_key(brand, sandbox=sandbox, body=body)
    pepper, digest = peppers.digest(minted.text.encode())
    row = ApiKey(minted.id, tenant, name, sandbox, digest, pepper, scopes, now_ns, expires_ns)
    return row, minted


def matches(peppers: Peppers, row: ApiKey | None, text: bytes) -> bool:
    """Whether ``text`` is the key of ``row``. It takes the same time when there is no such row."""
    pepper, expected = (row.pepper, row.digest) if row is not None else (peppers.current, bytes(32))
    found = peppers.digest_with(pepper, text)
    return hmac.compare_digest(found, expected) and row is not None and peppers.knows(pepper)
