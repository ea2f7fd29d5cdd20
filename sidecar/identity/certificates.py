"""A client's certificate as its identity: what it is named, and the credential that stands for it.

The handshake has proven that the client holds the key and that an authority of ours signed the certificate; here its
names are matched, as a whole, with those that tenants were given.
"""

import ssl
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from sidecar.core.clock import NS_PER_S
from sidecar.core.values import Tenant
from sidecar.identity.finder import Found

_MARK = b"\0certificate:"  # no header field can hold the NUL, so nobody can send what stands for a certificate
_ALTERNATIVES = {"URI": "uri", "DNS": "dns", "email": "email"}


def found_certificate(described: Mapping[str, Any], der: bytes) -> Found:
    """The credential of a connection. ``described``: what ``SSLSocket.getpeercert()`` says of the certificate
    ``der``."""
    ends_ns = int(ssl.cert_time_to_seconds(described["notAfter"])) * NS_PER_S
    return Found("certificate", _MARK + sha256(der).digest(), "connection", names=_names(described), ends_ns=ends_ns)


def _names(described: Mapping[str, Any]) -> tuple[str, ...]:
    """``uri:``, ``dns:`` and ``email:`` of the subject's alternative names in their order, then ``cn:``."""
    names = [
        f"{_ALTERNATIVES[kind]}:{value}"
        for kind, value in described.get("subjectAltName", ())
        if kind in _ALTERNATIVES and isinstance(value, str)
    ]
    for part in described.get("subject", ()):
        names += [f"cn:{value}" for kind, value in part if kind == "commonName"]
    return tuple(names)


class CertificateNames:
    """Whose certificates are whose: the declared tenants by the names of their certificates, made anew when they
    change."""

    def __init__(self) -> None:
        self._of: Mapping[str, Tenant] | None = None
        self._tenants: dict[str, str] = {}

    def tenant(self, names: tuple[str, ...], tenants: Mapping[str, Tenant]) -> tuple[str, str] | None:
        """The tenant of the first name that is somebody's, and that name."""
        if tenants is not self._of:
            self._of = tenants
            self._tenants = {name: tenant.name for tenant in tenants.values() for name in tenant.certificates}
        for name in names:
            if name in self._tenants:
                return self._tenants[name], name
        return None
