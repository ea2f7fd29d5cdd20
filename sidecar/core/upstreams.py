"""The APIs that are protected, as the configuration describes them."""

import ssl
from dataclasses import dataclass, field, replace
from hashlib import sha256

from sidecar.core.edges import FieldRules
from sidecar.core.listening import load_pair, read_pem
from sidecar.core.origin import Origin


@dataclass(frozen=True, slots=True)
class Target:
    """One origin of an upstream: no path, no query. ``authority`` as it goes into Host. ``weight``: its share.

    ``socket``: the path of a Unix socket that is connected to instead; ``host`` is ``localhost`` then.
    """

    scheme: str
    host: str
    port: int
    weight: int = 1
    socket: str = ""

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __str__(self) -> str:
        return f"unix:{self.socket}" if self.socket else self.url


@dataclass(frozen=True, slots=True)
class Health:
    """An active check: GET ``path`` on every target, each ``every_ns``; 2xx and 3xx are healthy. A target goes down
    after ``fails`` in a row and comes back after ``passes``."""

    path: str
    every_ns: int
    timeout_ns: int
    fails: int = 2
    passes: int = 1


@dataclass(frozen=True, slots=True)
class Breaker:
    """After ``failures`` in a row a target is left alone for ``open_for_ns``, then one request probes it; where it took
    no connection, until it does. The last that gets calls is left alone only for that.

    Each time that it opens again, before it was closed for as long as it had been open, it stays open twice as long, at
    most ``longest_ns``. At most ``share`` percent of the targets are left alone at once, but always one may be.
    """

    failures: int = 5
    open_for_ns: int = 10_000_000_000
    longest_ns: int = 300_000_000_000
    share: int = 100


@dataclass(frozen=True, slots=True)
class Retries:
    """A connection that cannot be made is tried at up to ``attempts`` targets more. All retries together are at most
    ``percent`` of the requests, and ``reserve`` a second besides."""

    attempts: int = 2
    percent: int = 20
    reserve: int = 10


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """How ``https`` targets are spoken to. Files in PEM: ``ca`` replaces the system's authorities, ``certificate`` and
    ``key`` (without a password) are shown to the target. ``server_name``: SNI, and the name that is verified, instead
    of the target's host. ``oldest``: ``1.2`` or ``1.3``. ``digest``: of what the files held; renewed ones differ."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    server_name: str | None = None
    verify: bool = True
    oldest: str = "1.2"
    digest: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(path for path in (self.ca, self.certificate, self.key) if path is not None)

    def read(self) -> "UpstreamTls":
        """The same with the digest of its files, which must be whole: ValueError says which is not."""
        digest = sha256()
        for path in self.files:
            digest.update(sha256(read_pem(path)).digest())
        self.context()
        return replace(self, digest=digest.hexdigest())

    def context(self) -> ssl.SSLContext:
        """A new context for connections to a target. ValueError as ``read``."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ValueError):
            raise ValueError(f"{self.ca} holds no certificates in PEM") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_3 if self.oldest == "1.3" else ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if not self.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.certificate is not None and self.key is not None:
            load_pair(context, self.certificate, self.key)
        return context


@dataclass(frozen=True, slots=True)
class Upstream:
    """An API that is protected. Timeouts in nanoseconds: ``idle`` is between two reads of a reply's body, ``tunnel``
    the silence of both sides of a WebSocket, ``total`` from the sending of a request to the end of its reply, ``queue``
    the wait for a connection (None: as long as ``first_byte``). ``host``: what Host says instead of the target's."""

    name: str
    targets: tuple[Target, ...]
    connect_timeout_ns: int = 1_000_000_000
    first_byte_timeout_ns: int = 30_000_000_000
    idle_timeout_ns: int = 60_000_000_000
    tunnel_timeout_ns: int = 600_000_000_000
    total_timeout_ns: int | None = None
    queue_timeout_ns: int | None = None
    keepalive_ns: int = 60_000_000_000  # how long an idle connection is kept
    max_connections: int = 512  # per target
    max_waiting: int = 1024  # requests that wait for a connection, per upstream
    preserve_host: bool = False
    host: str | None = None
    allow_link_local: bool = False  # link-local and cloud metadata addresses are refused otherwise, resolved ones too
    health: Health | None = None
    breaker: Breaker = Breaker()
    retries: Retries = Retries()
    dns_refresh_ns: int = 30_000_000_000
    tls: UpstreamTls | None = None  # of its https targets; None: the system's authorities
    path_prefix: str | None = None  # before every path; begins with a slash
    request_headers: FieldRules | None = None  # of all its routes, whose own go after them
    response_headers: FieldRules | None = None
    origin: Origin = field(default=Origin(), compare=False)
