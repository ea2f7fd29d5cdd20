"""What names a store: a path behind ``sqlite:///``, or a PostgreSQL URL whose password is kept elsewhere."""

import re
from urllib.parse import parse_qs, quote, urlsplit

from sidecar.config.kinds import MASKED, Masked, ScalarKind, text, text_of
from sidecar.config.reading import Scalar, quoted
from sidecar.core.redis_address import RedisAddress

POSTGRESQL = ("postgresql", "postgres")
_REFERENCES = re.compile(r"(\$\{[A-Za-z_][A-Za-z0-9_]*(:-)?\})+")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_EXAMPLE = "postgresql://user:${PG_PASSWORD}@host:5432/database"
_WORDS = f"a store, such as sqlite:///data/sidecar.db or {_EXAMPLE}"
_REDIS = "redis://user:${REDIS_PASSWORD}@host:6379/0"
_PLAIN = text(_WORDS, most=1000)


def is_postgresql(url: str) -> bool:
    return url.partition("://")[0] in POSTGRESQL


def _parse(scalar: Scalar) -> str:
    """The URL; one of PostgreSQL with its password percent-encoded. No message holds what a variable holds."""
    if not is_postgresql(scalar.text):
        return str(_PLAIN.parse(scalar))
    url = text_of(scalar)
    scheme, user, password, rest = _parts(url)
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        ports = [host.rpartition(":")[2] for host in re.sub(r"\[[^]]*\]", "", parts.netloc).split(",") if ":" in host]
    except ValueError:
        raise ValueError(f"is no URL; write one such as {_EXAMPLE}") from None
    if re.search("[?&]password=", url):
        raise ValueError(f"holds a password behind the question mark; write it before the host: {_EXAMPLE}")
    if password and not _is_kept_elsewhere(scalar.raw):
        raise ValueError(f"holds a password in clear; write ${{NAME}} for it and keep it there: {_EXAMPLE}")
    if not user or not parts.path.strip("/"):
        raise ValueError(f"names no {'database' if user else 'user'}; write one such as {_EXAMPLE}")
    if not all(port.isdecimal() and 0 < int(port) < 65536 for port in ports):
        raise ValueError(f"names no port from 1 to 65535 after the host; write one such as {_EXAMPLE}")
    mode = parse_qs(parts.query).get("sslmode", ["prefer"])[-1]
    if mode not in _SSL_MODES:
        raise ValueError(f"sslmode {quoted(mode)} is not known; write one of {', '.join(_SSL_MODES)}")
    if len(url) > 1000 or not rest.isprintable() or not user.isprintable():
        raise ValueError(f"is longer than 1000 characters or not printable; write one such as {_EXAMPLE}")
    if scalar.raw.startswith(scheme):  # a variable in the password's place holds the password as it is
        password = quote(password, safe="")
    return f"{scheme}://{user}:{password}@{rest}" if password else f"{scheme}://{user}@{rest}"


def _parts(url: str) -> tuple[str, str, str, str]:
    """Scheme, user, password, and the rest after the last ``@``: what a variable holds may have any character."""
    scheme, _, rest = url.partition("://")
    login, _, place = rest.rpartition("@")
    user, _, password = login.partition(":")
    return scheme, user, password, place


def _is_kept_elsewhere(raw: str) -> bool:
    """Whether the password, or the URL as a whole, is nothing but references to variables."""
    secret = _parts(raw)[2] if "://" in raw else raw
    return _REFERENCES.fullmatch(secret) is not None


def _parse_limits(scalar: Scalar) -> str:
    """``local``, or a URL of Redis with its password percent-encoded. No message holds what a variable holds."""
    url = text_of(scalar)
    if url == "local":
        return url
    scheme, user, password, rest = _parts(url)
    if scheme.partition("+")[0] not in ("redis", "rediss"):
        raise ValueError(f"is neither local nor a URL of Redis; write one such as {_REDIS}")
    if password and not _is_kept_elsewhere(scalar.raw):
        raise ValueError(f"holds a password in clear; write ${{NAME}} for it and keep it there: {_REDIS}")
    if scalar.raw.startswith(scheme):  # a variable in the password's place holds the password as it is
        password = quote(password, safe="")
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    url = f"{scheme}://{login}{rest}"
    if len(url) > 1000 or not url.isprintable():
        raise ValueError(f"is longer than 1000 characters or not printable; write one such as {_REDIS}")
    RedisAddress.parse(url)
    return url


def _show(url: str) -> str:
    if "://" not in url or url.startswith("sqlite:"):
        return url
    scheme, user, password, rest = _parts(url)
    return Masked(f"{scheme}://{user}:{MASKED}@{rest}") if password else url


STORE = ScalarKind(_WORDS, _parse, {"type": "string", "minLength": 1, "maxLength": 1000}, _show)
LIMITS = ScalarKind(
    f"local, or a Redis such as {_REDIS}", _parse_limits, {"type": "string", "minLength": 1, "maxLength": 1000}, _show
)
