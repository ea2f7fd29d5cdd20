"""The tables of how clients are met at the door."""

from pathlib import Path
from typing import Any

from sidecar.config.kinds import BOOLEAN, ScalarKind, choice, integer, text
from sidecar.config.reading import INVALID, Reading, Scalar
from sidecar.config.tables import Field, Table
from sidecar.config.tree import Node
from sidecar.core.listening import AccessLogSettings, Tls

_PATH = text("a path of a file", most=1000)


def _parse_file(scalar: Scalar) -> str:
    return str((scalar.folder / _PATH.parse(scalar)).absolute())


def _parse_log(scalar: Scalar) -> str:
    return "-" if scalar.text == "-" else _parse_file(scalar)


class _Watched(ScalarKind):
    """A path whose file belongs to the configuration: when it changes, it is looked at again."""

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        value = super().read(node, path, reading)
        if value is not INVALID:
            reading.see(Path(value))
        return value


PEM_FILE = _Watched(_PATH.words, _parse_file, _PATH.json)
_LOG = ScalarKind("a path of a file, or -", _parse_log, _PATH.json)


def _make_tls(**known: Any) -> Tls:
    if known.get("client_ca") is None and (known["client_auth"] == "required" or known["client_cert_field"]):
        raise ValueError("client certificates are asked for, but nobody's are trusted; write client_ca")
    tls = Tls(**known)
    tls.context()
    return tls


TLS = Table(
    "tls",
    "TLS on the listener; a reload takes a renewed certificate for the connections that come after it.",
    _make_tls,
    (
        Field("certificate", PEM_FILE, "The certificate and its chain, PEM. Relative to this file.", required=True),
        Field("key", PEM_FILE, "Its key, PEM, without a password. Relative to this file.", required=True),
        Field("oldest", choice("1.2", "1.3"), "The oldest version of TLS that is spoken.", default="1.2"),
        Field("http2", BOOLEAN, "Whether HTTP/2 is offered beside HTTP/1.1 (ALPN).", default=True),
        Field(
            "client_ca",
            PEM_FILE,
            "The authorities whose certificates clients may show, PEM; tenants' `certificates` say whose is whose.",
            absent="no client certificates",
        ),
        Field(
            "client_auth",
            choice("optional", "required"),
            "Whether a client without a certificate may connect.",
            default="optional",
        ),
        Field(
            "client_cert_field",
            BOOLEAN,
            "Whether the upstream gets the certificate as `Client-Cert` (RFC 9440).",
            default=False,
        ),
    ),
    of=Tls,
)
ACCESS_LOG = Table(
    "access_log",
    "A line of JSON for each call, without secrets; docs/access-log.md has its fields.",
    AccessLogSettings,
    (
        Field(
            "file",
            _LOG,
            "Where to: a path relative to this file, opened anew by a reload, or `-` for standard output.",
            default="-",
        ),
        Field(
            "one_in",
            integer(1, 1_000_000),
            "Of the calls that went well, one in so many is written; refusals and failures always are.",
            default=1,
        ),
    ),
)
TABLES = (TLS, ACCESS_LOG)
