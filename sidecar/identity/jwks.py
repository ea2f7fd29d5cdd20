"""An issuer's public keys: fetched from the configured URL alone, kept while the issuer cannot be reached."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import SidecarError, StoreError

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from jwt import PyJWK

Fetch = Callable[[str], Awaitable[bytes]]

MAX_BYTES = 1024**2
MAX_KEYS = 100
TIMEOUT_S = 5.0
SPACING_NS = 30 * NS_PER_S  # between two fetches, whoever asks and whatever came of the last one
FRESH_NS = 300 * NS_PER_S  # after that, the next use fetches again in the background, so that withdrawn keys go

_log = logging.getLogger("sidecar.identity")
# The key type and curve that each algorithm needs (RFC 7518, 6; RFC 8037, 2): a key of another kind is never tried.
KEY_KINDS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}


def fetch_jwks(session: "ClientSession") -> Fetch:
    """A fetch over aiohttp: GET, no redirects, 5 s in all, 1 MiB after decompression. Raises StoreError."""
    from aiohttp import ClientError, ClientTimeout

    async def fetch(url: str) -> bytes:
        try:
            async with session.get(
                url,
                allow_redirects=False,
                timeout=ClientTimeout(total=TIMEOUT_S),
                headers={"Accept": "application/jwk-set+json, application/json"},
            ) as reply:
                if reply.status != 200:
                    raise StoreError(f"the key set was answered with status {reply.status}, not 200")
                body = bytearray()
                async for chunk in reply.content.iter_any():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise StoreError(f"the key set is larger than {MAX_BYTES} bytes")
                return bytes(body)
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            raise StoreError(f"the key set could not be fetched ({type(error).__name__})") from error

    return fetch


class KeySet:
    """The keys of one issuer. Single flight, at least 30 s between fetches, the last good set kept."""

    def __init__(self, url: str, issuer: str, algorithms: tuple[str, ...], fetch: Fetch, clock: Clock) -> None:
        self._url = url
        self._issuer = issuer
        self._algorithms = algorithms
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[tuple[str | int, str], PyJWK] | None = None
        self._tried_ns: int | None = None
        self._flight: asyncio.Task[None] | None = None

    async def key(self, kid: str | None, algorithm: str) -> "PyJWK | None":
        """The key of that id for that algorithm. An unknown id asks the issuer once, unless it was asked within 30 s.

        Without an id: the only key that fits, None when several do. StoreError while no set was ever fetched.
        """
        if self._keys is None or (self._find(kid, algorithm) is None and kid is not None):
            await self._refresh()
        elif self._tried_ns is not None and self._clock.monotonic_ns() - self._tried_ns > FRESH_NS:
            self._start()
        if self._keys is None:
            raise StoreError(f"the key set of {self._issuer} could not be fetched; tokens cannot be checked")
        return self._find(kid, algorithm)

    async def close(self) -> None:
        """Ends a fetch that is under way."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    def _find(self, kid: str | None, algorithm: str) -> "PyJWK | None":
        keys = self._keys or {}
        if kid is not None:
            return keys.get((kid, algorithm))
        fitting = [key for (_, name), key in keys.items() if name == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    async def _refresh(self) -> None:
        self._start()
        if self._flight is not None:
            await asyncio.shield(self._flight)  # one caller that goes away must not end it for the others

    def _start(self) -> None:
        now = self._clock.monotonic_ns()
        if self._flight is None and (self._tried_ns is None or now - self._tried_ns >= SPACING_NS):
            self._tried_ns = now
            self._flight = asyncio.create_task(self._load())

    async def _load(self) -> None:
        try:
            self._keys = read_jwks(await self._fetch(self._url), self._algorithms)
        except SidecarError as error:
            kept = "the last good one is kept" if self._keys is not None else "there is none to fall back on"
            _log.warning("key set of issuer %s: %s; %s", self._issuer, error, kept)
        finally:
            self._flight = None


def read_jwks(body: bytes, algorithms: tuple[str, ...]) -> "dict[tuple[str | int, str], PyJWK]":
    """The usable keys of a JWK set (RFC 7517, 5) by id and algorithm. StoreError when there is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise StoreError("the key set is not JSON") from error
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise StoreError('the key set is not an object with a list "keys"')
    found: dict[tuple[str | int, str], PyJWK] = {}
    for index, data in enumerate(listed[:MAX_KEYS]):
        for algorithm in algorithms:
            key = _usable(data, algorithm)
            if key is not None:
                # A key without an id is told apart by its place, a number: no token can ask for it by name.
                found.setdefault((data.get("kid", index), algorithm), key)
    if not found:
        raise StoreError(f"the key set holds no key for {', '.join(algorithms)}")
    return found


def _usable(data: Any, algorithm: str) -> "PyJWK | None":
    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    if not isinstance(data, dict) or not isinstance(data.get("kid", ""), str):
        return None
    kind, curve = KEY_KINDS[algorithm]
    operations = data.get("key_ops", ["verify"])
    if (
        data.get("kty") != kind
        or (curve is not None and data.get("crv") != curve)
        or data.get("use", "sig") != "sig"
        or data.get("alg", algorithm) != algorithm
        or not isinstance(operations, list)
        or "verify" not in operations
        or "d" in data  # a private key in a public place: whoever reads the set can sign
    ):
        return None
    try:
        key = PyJWK(data, algorithm)
        too_short = key.Algorithm.check_key_length(key.key)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return None if too_short else key
