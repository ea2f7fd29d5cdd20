"""The part of ``sidecar.yaml`` that says where usage is billed."""

from dataclasses import dataclass, field

DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class StripeSettings:
    """How Stripe is reached. ``api``: the base address (a stand-in's in tests). ``prefix`` begins the lookup keys of
    everything that is ours there. ``rate``: events per second, None: 250 for a live key, 10 for a test key.
    ``timeout_ns``: of one request, its reply included. ``webhook_secrets``: of every destination, new and old ones
    while they are rotated.
    """

    api_key: str = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    api: str = "https://api.stripe.com"
    prefix: str = "sidecar"
    rate: int | None = None
    timeout_ns: int = 20_000_000_000


@dataclass(frozen=True, slots=True)
class CloudEventsSink:
    """Takes usage as CloudEvents over HTTP instead of Stripe's meters (OpenMeter and others). ``format``:
    ``cloudevents``, or ``lago`` for the form of Lago's own API."""

    url: str
    token: str | None = field(default=None, repr=False)
    source: str = "sidecar"
    rate: int = 100
    timeout_ns: int = 20_000_000_000
    format: str = "cloudevents"


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """What unpaid means, step by step: ``grace_ns`` served in full, ``read_only_ns`` read only, then suspended.

    ``fallback_plan``: what a tenant gets instead of read-only and suspension. ``closed_ns``: after the end of a
    subscription the access is closed; None: never. ``pay_url``: where a 402 sends people. ``public_url``: where
    callers reach this sidecar, for the page that shows a new customer's first key.
    """

    grace_ns: int = 7 * DAY_NS
    read_only_ns: int = 30 * DAY_NS
    fallback_plan: str | None = None
    closed_ns: int | None = None
    pay_url: str | None = None
    public_url: str | None = None


@dataclass(frozen=True, slots=True)
class Mail:
    """The SMTP server and the addresses of notices. ``security``: ``starttls``, ``tls`` or ``none``."""

    host: str
    sender: str
    to: tuple[str, ...]
    port: int = 587
    security: str = "starttls"
    user: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Notices:
    """Who is told. ``secret`` signs the webhook (Standard Webhooks: ``whsec_`` and base64)."""

    webhook: str | None = None
    secret: str | None = field(default=None, repr=False)
    mail: Mail | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """Those that a notice goes out by."""
        return ("webhook",) * (self.webhook is not None) + ("email",) * (self.mail is not None)


@dataclass(frozen=True, slots=True)
class Billing:
    """Who is asked for the money, what follows from payment, who is told. ``stripe`` None: nobody is asked there.
    ``cloud_events``: who takes usage instead of Stripe.

    ``window_ns``: how much usage goes into one event, whole minutes. ``late``: what happens to usage whose period is
    invoiced when it becomes known: ``hold`` it for a person, or ``carry`` it into the open period.
    ``invoice_grace_ns``: how long after its end a period's invoice takes usage; as it is set at Stripe.
    """

    stripe: StripeSettings | None = None
    cloud_events: CloudEventsSink | None = None
    access: AccessPolicy = AccessPolicy()
    notices: Notices = Notices()
    window_ns: int = 300_000_000_000
    late: str = "hold"
    invoice_grace_ns: int = 3_600_000_000_000

    @property
    def reports(self) -> bool:
        """Whether usage goes anywhere."""
        return self.stripe is not None or self.cloud_events is not None
