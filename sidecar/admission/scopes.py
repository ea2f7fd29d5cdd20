"""Scopes: from who calls and what is called to the key of a counter.

A key is ``(prefix, value, ...)``: the prefix names the limit ``(kind, plan, name, sandbox, scope)``, the values follow
in the scope's order. It is a tuple and never a joined string, so tenant ``a-b`` with key ``c`` and tenant ``a`` with
key ``b-c`` are two; no configuration version is in it, so a reload goes on counting.
"""

import hashlib
import ipaddress
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

from sidecar.core.policy import Route
from sidecar.core.values import Principal

Key: TypeAlias = tuple[Any, ...]
HeaderOf: TypeAlias = Callable[[bytes], bytes | None]


class _Overflow:
    def __repr__(self) -> str:
        return "OVERFLOW"  # the same in every process: nodes share this counter too


OVERFLOW: Any = _Overflow()  # stands in a key for every identity that got no counter of its own
_CALLER_CHOSEN = ("ip", "header:")
_MAX_VALUE_BYTES = 64  # a longer header value is kept as its 32-byte digest: a key stays under 300 bytes
_REMEMBERED_ADDRESSES = 16_384


def is_dynamic(scope: tuple[str, ...]) -> bool:
    """Whether the key depends on the single request and not only on the principal and the route."""
    return any(part.startswith(_CALLER_CHOSEN) for part in scope)


def is_bounded(scope: tuple[str, ...]) -> bool:
    """Whether there are only as many keys as tenants times routes. Key ids, addresses and headers have no such end."""
    return all(part in ("tenant", "route") for part in scope)


def static_values(scope: tuple[str, ...], principal: Principal | None, route: Route) -> list[Any]:
    """The scope's values as far as they are known before a request; None where the request says.

    Without a principal, ``tenant`` and ``key`` are None: all anonymous callers count as one, never as unlimited.
    """
    values: list[Any] = []
    for part in scope:
        if part == "tenant":
            values.append(principal and principal.tenant)
        elif part == "key":
            # A key id alone is not enough: two tenants' tokens may have the same subject.
            values.append(principal and (principal.tenant, principal.key_id))
        elif part == "route":
            values.append(route.name)
        elif part.startswith(_CALLER_CHOSEN):
            values.append(None)
        else:
            raise ValueError(f"{part!r} is not a scope; write tenant, key, route, ip or header:<name>")
    return values


def fill(scope: tuple[str, ...], values: list[Any], ip: str, header: HeaderOf) -> list[Any]:
    """``values`` with what the request says."""
    return [
        address_identity(ip)
        if part == "ip"
        else _header_identity(header(part[7:].encode()))
        if part.startswith("header:")
        else value
        for part, value in zip(scope, values, strict=True)
    ]


def overflow(scope: tuple[str, ...], values: list[Any]) -> list[Any]:
    """The values of the counter that identities share when the table is full: tenants and routes stay apart."""
    shared = []
    for part, value in zip(scope, values, strict=True):
        if part in ("tenant", "route"):
            shared.append(value)
        else:
            shared.append((value[0], OVERFLOW) if part == "key" and value else OVERFLOW)
    return shared


@lru_cache(_REMEMBERED_ADDRESSES)
def address_identity(ip: str) -> str:
    """Who an address is: an IPv6 caller is its /64, since one subscriber owns all of it (RFC 6177)."""
    if ":" not in ip:
        return ip
    try:
        address = ipaddress.IPv6Address(ip.partition("%")[0])
    except ValueError:
        return ip
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


def _header_identity(value: bytes | None) -> Any:
    if value is None or len(value) <= _MAX_VALUE_BYTES:
        return value
    return ("digest", hashlib.blake2b(value, digest_size=32).digest())
