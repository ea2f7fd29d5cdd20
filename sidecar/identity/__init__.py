"""Who calls: API keys, tokens of configured issuers, and the signed identity that is passed upstream.

::

    Finder.find  ->  Resolver.cached  or  await Resolver.resolve  ->  the seat of a Principal
"""

from sidecar.identity.certificates import found_certificate
from sidecar.identity.finder import Finder, Found
from sidecar.identity.jwks import Fetch, fetch_jwks
from sidecar.identity.keys import MintedKey, ParsedKey, matches, mint_key, new_key, parse_key
from sidecar.identity.peppers import Peppers, digest
from sidecar.identity.resolver import Resolver, scopes_allow
from sidecar.identity.secret_files import admin_token, signing_key
from sidecar.identity.signer import UpstreamSigner

__all__ = [
    "Fetch",
    "Finder",
    "Found",
    "MintedKey",
    "ParsedKey",
    "Peppers",
    "Resolver",
    "UpstreamSigner",
    "admin_token",
    "digest",
    "fetch_jwks",
    "found_certificate",
    "matches",
    "mint_key",
    "new_key",
    "parse_key",
    "scopes_allow",
    "signing_key",
]
