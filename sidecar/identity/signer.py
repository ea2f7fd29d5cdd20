"""The signed identity for the upstream: a short-lived JWT, so that the upstream need not trust the network."""

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.policy import UpstreamJwt
from sidecar.core.values import Principal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_LINES = 4096  # tokens kept, about 1 KiB each: 4 MiB


class UpstreamSigner:
    """Signs with EdDSA (RFC 8037). A token is sent during half its life; the other half is the upstream's."""

    def __init__(self, settings: UpstreamJwt, key: "Ed25519PrivateKey", clock: Clock) -> None:
        self._settings = settings
        self._key = key
        self._clock = clock
        public = key.public_key().public_bytes_raw()
        members = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(public).decode()}
        thumbprint = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()  # RFC 7638, 3
        self._kid = _base64url(hashlib.sha256(thumbprint).digest()).decode()
        self._jwk = members | {"kid": self._kid, "use": "sig", "alg": "EdDSA"}
        self._head = settings.header.encode("ascii") + b": "
        self._protected = _part({"alg": "EdDSA", "kid": self._kid, "typ": "JWT"})
        self._lines: dict[Principal, tuple[bytes, int]] = {}

    def jwks(self) -> dict[str, Any]:
        """The public key as a JWK set (RFC 7517), for ``/_sidecar/jwks.json``."""
        return {"keys": [self._jwk.copy()]}

    def header_line(self, principal: Principal) -> bytes:
        """``<Header>: <token>\\r\\n`` for this principal."""
        found = self._lines.get(principal)
        now = self._clock.wall_ns()
        if found is not None and now < found[1] and now > found[1] - self._settings.ttl_ns:
            return found[0]
        ends = now + self._settings.ttl_ns
        renew = now + self._settings.ttl_ns // 2
        if principal.expires_ns is not None and principal.expires_ns < ends:
            ends = principal.expires_ns
            renew = min(renew, ends)
        line = self._head + self._sign(principal, now, ends) + b"\r\n"
        self._lines.pop(principal, None)
        if len(self._lines) >= MAX_LINES:
            del self._lines[next(iter(self._lines))]
        self._lines[principal] = (line, renew)
        return line

    def _sign(self, principal: Principal, now_ns: int, ends_ns: int) -> bytes:
        claims: dict[str, Any] = {
            "iss": self._settings.issuer,
            "aud": self._settings.audience,
            "sub": principal.key_id,
            "tenant": principal.tenant,
            "plan": principal.plan,
            "sandbox": principal.sandbox,
            "iat": now_ns // NS_PER_S,
            "exp": ends_ns // NS_PER_S,  # rounded down: never longer than the identity itself
        }
        if principal.scopes is not None:
            claims["scope"] = " ".join(sorted(principal.scopes))
        signed = self._protected + b"." + _part(claims)
        return signed + b"." + _base64url(self._key.sign(signed))


def _part(value: dict[str, Any]) -> bytes:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
