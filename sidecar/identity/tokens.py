"""JWT of configured issuers (RFC 7519, RFC 8725): who signed, for whom, until when, and for which tenant."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import SidecarError, Unauthenticated
from sidecar.core.names import check_scope, check_tenant_name
from sidecar.core.policy import JwtIssuer
from sidecar.identity.jwks import KEY_KINDS, Fetch, KeySet

if TYPE_CHECKING:
    from jwt import PyJWK

MAX_TOKEN_BYTES: Final = 8 * 1024
MAX_LEEWAY_S = 60
MAX_SUBJECT_CHARS = 128  # as it is written into the key id; a longer one is replaced by its SHA-256
MAX_SCOPES = 100
_HMAC = {"HS256": 32, "HS384": 48, "HS512": 64}  # RFC 7518, 3.2: a key as long as the hash
_YEAR_9999_S = 253_402_300_799
_SAFE_IN_KEY_ID = "@:|+/-._~"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. ``ends_ns``: Unix nanoseconds at which it is no longer accepted."""

    tenant: str
    key_id: str
    plan: str | None
    scopes: frozenset[str]
    ends_ns: int


class Tokens:
    """Verifies tokens. Made only when an issuer is configured: PyJWT with its cryptography costs 44 ms to import."""

    def __init__(self, issuers: Sequence[JwtIssuer], fetch: Fetch, clock: Clock) -> None:
        """SidecarError when an issuer's algorithms, key source or leeway cannot be used."""
        from jwt import PyJWS

        self._jws = PyJWS()
        self._clock = clock
        self._issuers: dict[str, list[JwtIssuer]] = {}
        self._keys: dict[JwtIssuer, KeySet] = {}
        for issuer in issuers:
            _check(issuer)
            self._issuers.setdefault(issuer.issuer, []).append(issuer)
            if issuer.jwks_url is not None:
                self._keys[issuer] = KeySet(issuer.jwks_url, issuer.issuer, issuer.algorithms, fetch, clock)

    async def verify(self, token: bytes) -> Claims:
        """Unauthenticated (``token_invalid``, ``token_expired``), or StoreError without the issuer's keys."""
        if len(token) > MAX_TOKEN_BYTES:
            raise _invalid(f"it is longer than {MAX_TOKEN_BYTES} bytes")
        header, payload = self._peek(token)
        issuer = self._issuer(payload)
        algorithm, kid = header.get("alg"), header.get("kid")
        if "crit" in header:
            raise _invalid("it needs an extension that is not supported (crit)")
        if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
            raise _invalid("its algorithm is not the issuer's")
        if kid is not None and not isinstance(kid, str):
            raise _invalid("its key id is not text")
        key = await self._key(issuer, kid, algorithm)
        self._check_signature(token, key, algorithm)
        self._check_times(payload, issuer.leeway_s)
        return _claims(payload, issuer)

    async def close(self) -> None:
        """Ends fetches that are under way."""
        for keys in self._keys.values():
            await keys.close()

    def _peek(self, token: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        from jwt.exceptions import PyJWTError

        try:
            parts = self._jws.decode_complete(token, options={"verify_signature": False})
            payload = json.loads(parts["payload"])
        except (PyJWTError, ValueError, TypeError, RecursionError):
            raise _invalid("it is not a JWT") from None
        if not isinstance(payload, dict):
            raise _invalid("its payload is not an object")
        return parts["header"], payload

    def _issuer(self, payload: dict[str, Any]) -> JwtIssuer:
        name, audience = payload.get("iss"), payload.get("aud")
        known = self._issuers.get(name) if isinstance(name, str) else None
        if known is None:
            raise _invalid("its issuer (iss) is not accepted here")
        meant_for = audience if isinstance(audience, list) else [audience]
        for issuer in known:
            if issuer.audience in meant_for:
                return issuer
        raise _invalid("it is meant for another audience (aud)")

    async def _key(self, issuer: JwtIssuer, kid: str | None, algorithm: str) -> "PyJWK | bytes":
        if issuer.secret is not None:
            return issuer.secret.encode()
        key = await self._keys[issuer].key(kid, algorithm)
        if key is None:
            raise _invalid("it is signed with a key that its issuer does not publish")
        return key

    def _check_signature(self, token: bytes, key: "PyJWK | bytes", algorithm: str) -> None:
        from jwt.exceptions import PyJWTError

        try:
            self._jws.decode_complete(token, key, [algorithm])
        except (PyJWTError, ValueError, TypeError):
            raise _invalid("its signature does not fit") from None

    def _check_times(self, payload: dict[str, Any], leeway_s: int) -> None:
        now = self._clock.wall_ns()
        leeway = leeway_s * NS_PER_S
        expires, issued = _time_ns(payload, "exp"), _time_ns(payload, "iat")
        begins = _time_ns(payload, "nbf") if "nbf" in payload else issued
        if max(issued, begins) > now + leeway:
            raise _invalid("it is from the future (iat, nbf); compare the clocks")
        if expires + leeway <= now:
            raise Unauthenticated("token_expired", "The token has expired; get a new one.")


def _claims(payload: dict[str, Any], issuer: JwtIssuer) -> Claims:
    tenant = payload.get(issuer.tenant_claim)
    try:
        check_tenant_name(tenant if isinstance(tenant, str) else "")
    except ValueError:
        raise _invalid(f"its claim {issuer.tenant_claim!r} does not name a tenant") from None
    assert isinstance(tenant, str)
    plan = payload.get(issuer.plan_claim) if issuer.plan_claim is not None else None
    if plan is not None and not isinstance(plan, str):
        raise _invalid(f"its claim {issuer.plan_claim!r} is not text")
    ends_ns = _time_ns(payload, "exp") + issuer.leeway_s * NS_PER_S
    return Claims(tenant, _key_id(payload.get("sub")), plan, _scopes(payload.get(issuer.scope_claim)), ends_ns)


def _key_id(subject: object) -> str:
    """``jwt:`` and the subject, percent-encoded for a header: different subjects stay different."""
    if not isinstance(subject, str) or not subject:
        raise _invalid("it has no subject (sub)")
    try:
        text = quote(subject, safe=_SAFE_IN_KEY_ID)
    except UnicodeEncodeError:
        raise _invalid("its subject (sub) is not Unicode text") from None
    if len(text) > MAX_SUBJECT_CHARS:
        # "=" is never left by quote, so no subject can be written to look like this.
        return f"jwt:sha256={hashlib.sha256(subject.encode()).hexdigest()}"
    return f"jwt:{text}"


def _scopes(value: object) -> frozenset[str]:
    """A token without scopes has none: it passes only where no scope is asked for."""
    names = value.split(" ") if isinstance(value, str) else [] if value is None else value
    if not isinstance(names, list) or len(names) > MAX_SCOPES:
        raise _invalid(f"its scopes are not a text or a list of at most {MAX_SCOPES}")
    try:
        return frozenset(check_scope(name) for name in names if name != "")
    except (ValueError, TypeError):
        raise _invalid("one of its scopes is not a scope") from None


def _time_ns(payload: dict[str, Any], claim: str) -> int:
    value = payload.get(claim)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _YEAR_9999_S:
        raise _invalid(f"its claim {claim!r} is missing or is not a time")
    return int(value * NS_PER_S)


def _check(issuer: JwtIssuer) -> None:
    name = issuer.issuer
    algorithms = set(issuer.algorithms)
    if not algorithms or not (algorithms <= KEY_KINDS.keys() or algorithms <= _HMAC.keys()):
        raise SidecarError(f"issuer {name}: algorithms must all be asymmetric ({', '.join(KEY_KINDS)}) or all HMAC")
    if not 0 <= issuer.leeway_s <= MAX_LEEWAY_S:
        raise SidecarError(f"issuer {name}: the leeway must be 0 to {MAX_LEEWAY_S} s")
    if algorithms <= KEY_KINDS.keys():
        if issuer.jwks_url is None or issuer.secret is not None:
            raise SidecarError(f"issuer {name}: asymmetric algorithms need a JWKS URL, and no secret")
        return
    longest = max(_HMAC[algorithm] for algorithm in algorithms)
    if issuer.jwks_url is not None or len((issuer.secret or "").encode()) < longest:
        raise SidecarError(
            f"issuer {name}: these HMAC algorithms need a secret of at least {longest} bytes, and no JWKS URL"
        )


def _invalid(why: str) -> Unauthenticated:
    return Unauthenticated("token_invalid", f"The token is not valid: {why}.")
