"""The APIs that are protected, as the configuration describes them."""

from dataclasses import dataclass, field

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
    """After ``failures`` in a row a target is left alone for ``open_for_ns``, then one request probes it."""

    failures: int = 5
    open_for_ns: int = 10_000_000_000


@dataclass(frozen=True, slots=True)
class Retries:
    """A connection that cannot be made is tried at up to ``attempts`` targets more. All retries together are at most
    ``percent`` of the requests, and ``reserve`` a second besides."""

    attempts: int = 2
    percent: int = 20
    reserve: int = 10


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
    origin: Origin = field(default=Origin(), compare=False)
