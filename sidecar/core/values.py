"""The small immutable values that travel through a request: who calls, and what is kept about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sidecar.core.money import Money
from sidecar.core.origin import Origin


class AccessState(StrEnum):
    """What a tenant may do, from best to worst standing."""

    ACTIVE = "active"
    GRACE = "grace"  # unpaid, still served in full
    READ_ONLY = "read_only"  # GET, HEAD and OPTIONS pass, other methods get 402
    SUSPENDED = "suspended"  # everything gets 402
    CLOSED = "closed"  # everything gets 403


SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Anchor:
    """When a tenant's billing period begins: the day of the month (its last, where it has fewer), the minute of the
    day by the clock in the tenant's time zone."""

    day: int
    minute: int = 0


@dataclass(frozen=True, slots=True)
class Override:
    """Another number for a policy of the plan; None: the plan's. ``overage``: of a quota alone."""

    name: str
    limit: int | None = None
    overage: str | None = None
    origin: Origin = field(default=Origin(), compare=False)


@dataclass(frozen=True, slots=True)
class SpendCapOverride:
    """Another spend cap than the plan's; None: as there."""

    limit: Money | None = None
    overage: str | None = None
    origin: Origin = field(default=Origin(), compare=False)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a tenant has instead of its plan's numbers, by the policies' names; core.overrides applies it."""

    limits: Mapping[str, Override] = field(default_factory=dict)
    concurrency: Mapping[str, Override] = field(default_factory=dict)
    quotas: Mapping[str, Override] = field(default_factory=dict)
    spend_cap: SpendCapOverride | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a tenant has of its own: when its billing periods begin, and numbers in place of its plan's."""

    anchor: Anchor | None = None
    time_zone: str | None = None
    overrides: Overrides | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """The paying party. ``created_ns``: Unix nanoseconds, 0 for one declared in ``policies/``.

    ``anchor`` and ``time_zone``: of its billing periods, None where nobody said. ``certificates``: the names of client
    certificates that are its own, such as ``uri:spiffe://example/acme`` or ``cn:acme``.
    """

    name: str
    plan: str
    state: AccessState = AccessState.ACTIVE
    stripe_customer: str | None = None
    created_ns: int = 0
    anchor: Anchor | None = None
    time_zone: str | None = None
    overrides: Overrides | None = None
    certificates: tuple[str, ...] = ()

    @property
    def terms(self) -> Terms:
        """Those three as one."""
        return Terms(self.anchor, self.time_zone, self.overrides)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is stored about a key: never the key, only a peppered digest. Times are Unix nanoseconds, None is never."""

    id: str
    tenant: str
    name: str
    sandbox: bool
    digest: bytes = field(repr=False)  # HMAC-SHA-256 of the whole key text, 32 bytes
    pepper: str  # which pepper made the digest
    scopes: tuple[str, ...] | None  # None: not narrowed, every scope
    created_ns: int
    expires_ns: int | None = None
    revoked_ns: int | None = None
    last_used_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brought to say who it is. ``kind`` is ``key`` or ``jwt``."""

    kind: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, resolved. ``key_id`` is the API key's id, or ``jwt:`` and the token's subject, or ``cert:`` and
    the certificate's name.

    ``expires_ns`` (Unix nanoseconds) is when this identity ends by itself. ``scopes`` None means not narrowed.
    ``billing_cycle``: the tenant's billing periods, as ``core.periods`` writes them; ``overrides``: the tenant's.
    """

    tenant: str
    key_id: str
    plan: str
    state: AccessState = AccessState.ACTIVE
    sandbox: bool = False
    scopes: frozenset[str] | None = None
    expires_ns: int | None = None
    billing_cycle: str = "month"
    overrides: Overrides | None = None
