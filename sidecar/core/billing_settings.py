"""The part of ``sidecar.yaml`` that says where usage is billed."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StripeSettings:
    """How Stripe is reached. ``api``: the base address (a stand-in's in tests). ``prefix`` begins the lookup keys of
    everything that is ours there. ``timeout_ns``: of one request, its reply included.
    """

    api_key: str = field(repr=False)
    api: str = "https://api.stripe.com"
    prefix: str = "sidecar"
    timeout_ns: int = 20_000_000_000


@dataclass(frozen=True, slots=True)
class CloudEventsSink:
    """Takes usage as CloudEvents over HTTP instead of Stripe's meters (OpenMeter and others)."""

    url: str
    token: str | None = field(default=None, repr=False)
    source: str = "sidecar"
    timeout_ns: int = 20_000_000_000


@dataclass(frozen=True, slots=True)
class Billing:
    """Who is asked for the money. ``stripe`` None: nobody there."""

    stripe: StripeSettings | None = None
