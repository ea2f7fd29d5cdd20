"""The tables of ``identity:``: API keys, tokens, and the identity that is signed for the upstream."""

from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.config import network
from sidecar.config.kinds import BOOLEAN, ScalarKind, SecretKind, choice, duration, name, text
from sidecar.config.tables import Field, ListOf, Record, Table
from sidecar.core.policy import ApiKeySettings, Identity, JwtIssuer, UpstreamJwt

S, HOUR, DAY = 10**9, 3600 * 10**9, 86_400 * 10**9
HMAC = ("HS256", "HS384", "HS512")
ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_CLAIM = text("a claim's name")


def _make_peppers(peppers: Sequence[tuple[str, str]]) -> dict[str, str]:
    ids = [id for id, _ in peppers]
    twice = next((id for id in ids if ids.count(id) > 1), None)
    if twice is not None:
        raise ValueError(f'two peppers have the id "{twice}"; write each once')
    return dict(peppers)


def _make_pepper(id: str, secret: str) -> tuple[str, str]:
    return id, secret


def _split_pepper(pepper: tuple[str, str]) -> Mapping[str, Any]:
    return {"id": pepper[0], "secret": pepper[1]}


class _Peppers(ListOf):
    """A list of peppers, kept as a mapping of id to secret; the first makes new digests."""

    __slots__ = ()

    def show(self, value: Mapping[str, str]) -> Any:
        return [self.item.show(pair) for pair in value.items()]


def _make_issuer(algorithms: tuple[str, ...] | None = None, secret: str | None = None, **known: Any) -> JwtIssuer:
    jwks = known.get("jwks_url")
    if (jwks is None) == (secret is None):
        raise ValueError("write either jwks, for asymmetric algorithms, or secret, for HMAC ones")
    chosen = algorithms or (("HS256",) if secret is not None else ("RS256", "ES256", "EdDSA"))
    wrong = [algorithm for algorithm in chosen if (algorithm in HMAC) != (secret is not None)]
    if wrong and len(wrong) < len(chosen):
        raise ValueError("algorithms mixes HMAC and asymmetric ones, so that a public key could be used as a secret")
    if wrong:
        fits = HMAC if secret is not None else ASYMMETRIC
        given = "secret" if secret is not None else "jwks"
        raise ValueError(f"{wrong[0]} does not go with {given}; write algorithms such as {fits[0]}")
    return JwtIssuer(algorithms=chosen, secret=secret, **known)


PEPPER = Table(
    "pepper",
    "A secret that the digests of API keys are made with.",
    _make_pepper,
    (
        Field("id", name("a short name"), "Stored with each key, so that peppers can be rotated.", required=True),
        Field("secret", SecretKind(16), "The secret.", required=True),
    ),
    _split_pepper,
)
API_KEY = Table(
    "api_key",
    "How API keys are carried and checked.",
    ApiKeySettings,
    (
        Field("header", network.FIELD_NAME, "The header that carries a key."),
        Field("bearer", BOOLEAN, "Also take keys from `Authorization: Bearer`."),
        Field(
            "query",
            text("a parameter's name", r"[A-Za-z0-9._-]+", hint="letters, digits, dots, dashes and underscores"),
            "Also take keys from this query parameter. URLs end up in logs: only where nothing else works.",
            absent="off",
        ),
        Field(
            "brand",
            text("a short prefix", r"[a-z][a-z0-9]{0,15}", hint="lower-case letters and digits, at most 16", most=16),
            "What new keys start with.",
        ),
        Field("strip", BOOLEAN, "Take the key out of the request before it goes upstream."),
        Field(
            "peppers",
            _Peppers(Record(PEPPER), "peppers, each {id, secret}", make=_make_peppers, least=1, most=16),
            "The first makes new digests, the others still check old ones.",
            absent="one is made at first start, kept in the data folder",
        ),
        Field(
            "cache",
            duration(S, 30 * S),
            "How long a key that was found is trusted; a key that is revoked works no longer than this.",
            "cache_ns",
        ),
        Field(
            "stale",
            duration(0, DAY),
            "How much longer it is trusted while the store does not answer; a key that is revoked meanwhile works that "
            "long. With `0s` callers get 503 instead.",
            "stale_ns",
        ),
    ),
)


def _parse_leeway(ns: int) -> int:
    if ns % S:
        raise ValueError("leeway is kept in whole seconds; write one such as 30s")
    return ns // S


_LEEWAY = duration(0, 60 * S)
JWT = Table(
    "jwt",
    "Whose tokens are accepted. Tokens need exp, iat, iss, aud and sub.",
    _make_issuer,
    (
        Field("issuer", text("an issuer", most=500), "The `iss` that tokens carry.", required=True),
        Field("audience", text("an audience", most=500), "The `aud` that tokens carry.", required=True),
        Field(
            "jwks", network.JWKS_URL, "Where the issuer's public keys are.", "jwks_url", absent="write this or secret"
        ),
        Field("secret", SecretKind(32), "The shared secret of HMAC algorithms.", absent="write this or jwks"),
        Field(
            "algorithms",
            ListOf(choice(*ASYMMETRIC, *HMAC), "algorithms such as [RS256]", least=1),
            "What may sign: all asymmetric or all HMAC.",
            absent="RS256, ES256, EdDSA with jwks; HS256 with secret",
        ),
        Field("tenant_claim", _CLAIM, "The claim that names the tenant.", required=True),
        Field("plan_claim", _CLAIM, "The claim that names the plan.", absent="the plan of the stored tenant"),
        Field("scope_claim", _CLAIM, "The claim that lists scopes, a text with spaces or a list.", default="scope"),
        Field(
            "leeway",
            ScalarKind(
                "a duration in whole seconds, 0s to 1m",
                lambda scalar: _parse_leeway(_LEEWAY.parse(scalar)),
                _LEEWAY.json,
                lambda seconds: f"{seconds}s",
            ),
            "How far clocks may differ.",
            "leeway_s",
            default=30,
        ),
    ),
)
UPSTREAM_JWT = Table(
    "upstream_jwt",
    "A short-lived signed identity for the upstream (EdDSA; its public key is at /_sidecar/jwks.json).",
    UpstreamJwt,
    (
        Field("header", network.FIELD_NAME, "The header that carries it."),
        Field("audience", text("an audience"), "Its `aud`."),
        Field("issuer", text("an issuer"), "Its `iss`."),
        Field("ttl", duration(5 * S, HOUR), "How long it is valid.", "ttl_ns"),
    ),
)
IDENTITY = Table(
    "identity",
    "How callers say who they are.",
    Identity,
    (
        Field("api_key", Record(API_KEY), "API keys."),
        Field(
            "jwt",
            ListOf(Record(JWT), "issuers, each {issuer, audience, jwks, tenant_claim}", most=64, single=True),
            "JSON Web Tokens: one issuer or a list.",
        ),
        Field("upstream_jwt", Record(UPSTREAM_JWT), "Sign who calls, for the upstream.", absent="off"),
    ),
)
TABLES = (IDENTITY, API_KEY, PEPPER, JWT, UPSTREAM_JWT)
