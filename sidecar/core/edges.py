"""What is done to a call at the edges of the lane: its fields, who may ask from a browser, and from where."""

import ipaddress
from dataclasses import dataclass, field

from sidecar.core.addresses import address_of


@dataclass(frozen=True, slots=True)
class FieldRules:
    """Header fields that are set, each to one value in the place of all there were, and that are removed. Names as
    they are written; no name stands in both."""

    set: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # a value may be a secret
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cors:
    """What pages of other origins may do (Fetch, 3.2). ``origins``: ``https://app.example.com``, ``https://*.example.com``
    (every name below), or ``*`` alone. ``methods`` and ``headers`` None: those of the route, and those that every API
    needs."""

    origins: tuple[str, ...]
    methods: tuple[str, ...] | None = None
    headers: tuple[str, ...] | None = None
    expose: tuple[str, ...] = ("Retry-After", "RateLimit", "RateLimit-Policy", "X-Request-ID")
    credentials: bool = False
    max_age_ns: int = 600_000_000_000


@dataclass(frozen=True, slots=True)
class AddressRules:
    """From where calls may come, as CIDR. ``deny`` goes before ``allow``; an empty ``allow`` is everybody."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class Ranges:
    """``AddressRules``, ready to be asked."""

    __slots__ = ("_allow", "_deny")

    def __init__(self, rules: AddressRules) -> None:
        self._allow = tuple(ipaddress.ip_network(text) for text in rules.allow)
        self._deny = tuple(ipaddress.ip_network(text) for text in rules.deny)

    def admit(self, ip: str) -> bool:
        """Whether calls from ``ip`` are taken. What is no address, a Unix socket's peer, is in no range."""
        address = address_of(ip)
        if address is None:
            return not self._allow
        if any(address in network for network in self._deny):
            return False
        return not self._allow or any(address in network for network in self._allow)
