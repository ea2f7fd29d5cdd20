"""What a URL of Redis says.

::

    redis://user:password@host:6379/0                             one server; rediss:// with TLS
    redis+cluster://user:password@a:6379,b:6379                   some masters of a cluster; rediss+cluster://
    redis+sentinel://user:password@a:26379,b:26379/mymaster/0     sentinels and the master's name; rediss+sentinel://

``?ca=FILE`` names the certificates that TLS trusts instead of the system's. The password may hold anything, percent-
encoded. Sentinels are asked without a login, with TLS as the master is.
"""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_PORTS = {"": 6379, "cluster": 6379, "sentinel": 26379}


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """``kind``: empty, ``cluster`` or ``sentinel``. ``service``: the master's name at the sentinels."""

    kind: str
    hosts: tuple[tuple[str, int], ...]
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    service: str = ""
    database: int = 0
    tls: bool = False
    ca: str | None = None

    @classmethod
    def parse(cls, url: str) -> "RedisAddress":
        """ValueError, without the password, when it is none of the forms above."""
        whole, _, rest = url.partition("://")
        scheme, _, kind = whole.lower().partition("+")
        if scheme not in ("redis", "rediss") or kind not in _PORTS:
            raise ValueError("is no URL of Redis; write redis://, redis+cluster:// or redis+sentinel://")
        # By hand: of several hosts, urlsplit takes none for IPv6 in Pythons that check brackets (CVE-2024-11168).
        netloc = re.split("[/?#]", rest, maxsplit=1)[0]
        parts = urlsplit("//host" + rest[len(netloc) :])
        login, _, places = netloc.rpartition("@")
        user, _, password = login.partition(":")
        hosts = tuple(_host(place, _PORTS[kind]) for place in places.split(","))
        path = [part for part in parts.path.split("/") if part]
        service = path.pop(0) if kind == "sentinel" and path else ""
        if kind == "sentinel" and not service:
            raise ValueError("names no master; write it after the sentinels: redis+sentinel://host:26379/mymaster")
        if (kind == "" and len(hosts) > 1) or (kind == "cluster" and path) or len(path) > 1:
            raise ValueError("has more hosts or a longer path than this kind of Redis takes")
        if path and not path[0].isdecimal():
            raise ValueError("names no database; it is a number, such as /0")
        query = parse_qs(parts.query, strict_parsing=bool(parts.query))
        if set(query) - {"ca"} or ("ca" in query and scheme != "rediss"):
            raise ValueError("has an unknown option; ?ca=FILE is known, with rediss")
        return cls(
            kind,
            hosts,
            unquote(user) or None,
            unquote(password) or None,
            service,
            int(path[0]) if path else 0,
            scheme == "rediss",
            query["ca"][-1] if "ca" in query else None,
        )

    def login(self) -> dict[str, Any]:
        """The arguments of a client that say who asks, and whether by TLS."""
        return {"username": self.user, "password": self.password, **self.encryption()}

    def encryption(self) -> dict[str, Any]:
        """Those that say whether by TLS."""
        return {"ssl": True, "ssl_ca_certs": self.ca, "ssl_check_hostname": True} if self.tls else {}

    def __str__(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self.hosts)


def _host(place: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{place}")
    except ValueError:  # brackets that hold no address
        raise ValueError("names no host") from None
    if not parts.hostname:
        raise ValueError("names no host")
    try:
        return parts.hostname, parts.port or port
    except ValueError:
        raise ValueError("names no port from 1 to 65535") from None
