"""The kinds of values that name places on the network: listeners, targets, URLs, hosts, address ranges."""

import ipaddress
import re
from urllib.parse import urlsplit

from sidecar.config.kinds import ScalarKind, text, text_of
from sidecar.config.reading import Scalar, quoted
from sidecar.core.addresses import address_of, is_link_local
from sidecar.core.upstreams import Target

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*\.?", re.IGNORECASE)
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}"  # noqa: S105 - RFC 9110, 5.6.2: what a method or a field name may hold

_MOST_SOCKET = 107  # sun_path of unix(7), with its last zero


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine itself."""
    address = address_of(host)
    return host.lower().rstrip(".") == "localhost" if address is None else address.is_loopback


def _checked_host(host: str) -> str:
    if "%" in host:
        raise ValueError(f"{quoted(host)} has a zone; write the address without it")
    if address_of(host) is not None:
        address = ipaddress.ip_address(host)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            return f"::ffff:{address.ipv4_mapped}"  # one text under every version of Python
        return str(address)
    last = host.rstrip(".").rpartition(".")[2]
    # inet_aton takes 2852039166 and 0xA9FEA9FE for 169.254.169.254: no form of an address but the usual one.
    if re.fullmatch(r"\d+|0[xX][0-9a-fA-F]*", last) or _HOST.fullmatch(host) is None:
        raise ValueError(f"{quoted(host)} is neither a host name nor an address; write one such as 127.0.0.1")
    return host.lower()


def _checked_port(written: str, least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", written) or not least <= int(written) <= 65535:
        raise ValueError(f"{quoted(written)} is not a port; write a number from {least} to 65535")
    return int(written)


def parse_listen(value: str) -> tuple[str, int]:
    """``0.0.0.0:8080`` or ``[::]:8080`` to host and port; port 0 takes a free one. ValueError says what to write."""
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+)):([^:]+)", value.strip())
    if match is None:
        port = value.strip().lstrip(":")
        example = f"0.0.0.0:{port}" if port.isascii() and port.isdigit() and len(port) < 6 else "0.0.0.0:8080"
        raise ValueError(f'{quoted(value)} is not an address to listen at; write host:port, such as "{example}"')
    return _checked_host(match[1] or match[2]), _checked_port(match[3], 0)


def _parse_listen_scalar(scalar: Scalar) -> tuple[str, int]:
    return parse_listen(scalar.text)


def show_listen(value: tuple[str, int]) -> str:
    """The inverse of parse_listen."""
    host, port = value
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_target(value: str) -> Target:
    """``http://127.0.0.1:9000`` to a target. ValueError says what is wrong: a path, a query, a user name, a scheme."""
    if value.strip().startswith("unix:"):
        return _parse_socket(value.strip().removeprefix("unix:"))
    match = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", value.strip())
    if match is None:
        raise ValueError(f'{quoted(value)} is not an origin; write one such as "http://127.0.0.1:9000"')
    scheme, authority, path = match[1].lower(), match[2], match[3]
    if scheme not in ("http", "https"):
        raise ValueError(f"the scheme {quoted(scheme)} is not supported; write http:// or https://")
    if "@" in authority:
        raise ValueError("a target holds no user name or password; write only scheme, host and port")
    if path not in ("", "/") or match[4] or match[5]:
        extra = quoted(path + ("?..." if match[4] else "") + ("#..." if match[5] else ""))
        raise ValueError(f"a target has no path or query; write {scheme}://{authority} without {extra}")
    parts = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::([^:]*))?", authority)
    if parts is None:
        raise ValueError(f"{quoted(authority)} is not host and port; write one such as 127.0.0.1:9000 or [::1]:9000")
    host = _checked_host(parts[1] or parts[2])
    port = {"http": 80, "https": 443}[scheme] if parts[3] is None else _checked_port(parts[3], 1)
    address = address_of(host)
    if address is not None and (address.is_unspecified or address.is_multicast):
        raise ValueError(f"{host} is an address to listen at, not one to connect to; write 127.0.0.1 for this machine")
    return Target(scheme, host, port)


def _parse_socket(path: str) -> Target:
    if not path.startswith("/") or path.startswith("//") or path.endswith("/") or not path.isprintable():
        raise ValueError(f"{quoted('unix:' + path)} is no absolute path; write one such as unix:/run/api.sock")
    if len(path.encode()) > _MOST_SOCKET:
        raise ValueError(f"the socket's path is longer than {_MOST_SOCKET} bytes, which Linux does not take")
    return Target("http", "localhost", 80, socket=path)


def _parse_target_scalar(scalar: Scalar) -> Target:
    return parse_target(text_of(scalar))


def _parse_jwks(scalar: Scalar) -> str:
    value = text_of(scalar)
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.fragment or not value.isprintable() or " " in value:
        raise ValueError(f"{quoted(value)} is not a URL; write one such as https://issuer.example/jwks.json")
    if parts.username is not None:
        raise ValueError("the URL holds a user name or password; write it without")
    if is_link_local(host):
        raise ValueError(f"{host} is a link-local or metadata address; write the issuer's own")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("keys fetched over http:// can be swapped on the way; write https://")
    return value


def _parse_cidr(scalar: Scalar) -> str:
    value = text_of(scalar)
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{quoted(value)} is no range of addresses; write one such as 10.0.0.0/8") from None
    raise ValueError(f"{quoted(value)} is an address inside a range; write {meant} for the range")


def _parse_field_name(scalar: Scalar) -> str:
    value = text_of(scalar)
    if re.fullmatch(TOKEN, value) is None:
        raise ValueError(f"{quoted(value)} is no header's name; write letters, digits and dashes")
    if value.lower() in _RESERVED:
        raise ValueError(f"the header {value} has a meaning of its own; write another, such as X-API-Key")
    return value


_RESERVED = frozenset(
    "authorization connection content-encoding content-length content-type cookie date expect forwarded host "
    "keep-alive proxy-authorization proxy-connection te trailer transfer-encoding upgrade via x-forwarded-for "
    "x-forwarded-host x-forwarded-proto x-key-id x-plan x-request-id x-tenant-id".split()
)

_LISTEN_JSON = {"type": "string", "pattern": r"^(\[[0-9A-Fa-f:.]+\]|[^:\[\]/]+):[0-9]{1,5}$"}
LISTEN = ScalarKind("host:port", _parse_listen_scalar, _LISTEN_JSON, show_listen)
TARGET = ScalarKind(
    "an origin such as http://127.0.0.1:9000, or unix:/run/api.sock",
    _parse_target_scalar,
    {"type": "string", "pattern": r"^([hH][tT][tT][pP][sS]?://[^/?#@]+/?|unix:/.+)$"},
    str,
)
JWKS_URL = ScalarKind("an https:// URL", _parse_jwks, {"type": "string", "pattern": "^https?://[^\\s#]+$"})
CIDR = ScalarKind("a range of addresses such as 10.0.0.0/8", _parse_cidr)
FIELD_NAME = ScalarKind("a header's name", _parse_field_name, {"type": "string", "pattern": f"^{TOKEN}$"})
HOST_VALUE = text(
    "a host name or address, with or without a port",
    r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?",
    hint="one such as sidecar.internal or 10.0.0.5:9901",
)


def _parse_server_name(scalar: Scalar) -> str:
    value = _checked_host(text_of(scalar))
    if address_of(value) is not None:
        raise ValueError(f"{value} is an address, which SNI cannot carry; write the name in the certificate")
    return value


SERVER_NAME = ScalarKind("a host name", _parse_server_name)
