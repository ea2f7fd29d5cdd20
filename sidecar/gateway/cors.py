"""CORS (Fetch, 3.2): which pages may read our replies. Compiled once per route; origins are compared as bytes."""

from typing import Final

from sidecar.core.clock import NS_PER_S
from sidecar.core.edges import Cors

# What the upstream says about CORS is replaced where the policy speaks.
UPSTREAM_FIELDS: Final = frozenset(
    {
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-allow-methods",
        b"access-control-allow-headers",
        b"access-control-expose-headers",
        b"access-control-max-age",
    }
)
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_HEADERS: Final = ("Content-Type", "Authorization", "Last-Event-ID")
_VARY: Final = b"Vary: Origin\r\n"
_VARY_PREFLIGHT: Final = b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"


class CorsRules:
    """The answers to pages of other origins."""

    __slots__ = ("_credentials", "_everyone", "_exact", "_expose", "_preflight", "_suffixes")

    def __init__(self, cors: Cors, methods: frozenset[str] | None, key_header: str) -> None:
        """``methods``: of the route, None for any; ``key_header``: where callers carry their key."""
        self._everyone = "*" in cors.origins
        self._exact = frozenset(origin.encode() for origin in cors.origins if "*" not in origin)
        parts = (origin.partition("*") for origin in cors.origins if "*." in origin)
        self._suffixes = tuple((scheme.encode(), suffix.encode()) for scheme, _, suffix in parts)
        self._credentials = b"Access-Control-Allow-Credentials: true\r\n" if cors.credentials else b""
        self._expose = _line("Access-Control-Expose-Headers", cors.expose)
        allowed = cors.methods or (tuple(sorted(methods)) if methods is not None else _METHODS)
        self._preflight = (
            _line("Access-Control-Allow-Methods", allowed)
            + _line("Access-Control-Allow-Headers", (*_HEADERS, key_header) if cors.headers is None else cors.headers)
            + b"Access-Control-Max-Age: %d\r\n" % (cors.max_age_ns // NS_PER_S)
        )

    def reply_lines(self, origin: bytes | None) -> bytes:
        """The field lines of a reply to a page of ``origin``; None: no page asks."""
        return self._allow(origin, self._expose, _VARY)

    def preflight_lines(self, origin: bytes) -> bytes:
        """The field lines that answer a preflight; without Access-Control-Allow-Origin the browser goes no further."""
        return self._allow(origin, self._preflight, _VARY_PREFLIGHT)

    def _allow(self, origin: bytes | None, lines: bytes, vary: bytes) -> bytes:
        if self._everyone:
            return b"Access-Control-Allow-Origin: *\r\n" + lines
        if origin is None or not self._allows(origin):
            return vary  # a cache must not give this reply to a page that is allowed
        return b"Access-Control-Allow-Origin: %b\r\n%b%b%b" % (origin, self._credentials, lines, vary)

    def _allows(self, origin: bytes) -> bool:
        if origin in self._exact:
            return True
        for scheme, suffix in self._suffixes:
            # More than the suffix, so that a name stands before the dot; what a browser sends is lower-case.
            if origin.startswith(scheme) and origin.endswith(suffix) and len(origin) > len(scheme) + len(suffix):
                name = origin[len(scheme) : -len(suffix)]
                if not name.translate(None, b"abcdefghijklmnopqrstuvwxyz0123456789.-_"):
                    return True
        return False


def _line(name: str, values: tuple[str, ...]) -> bytes:
    return f"{name}: {', '.join(values)}\r\n".encode() if values else b""
