"""The tables of ``billing:``: where what was used is asked for, what follows from payment, who is told."""

import base64
import binascii
from dataclasses import replace
from typing import Any

from sidecar.config.kinds import SecretKind, choice, duration, integer, name, text
from sidecar.config.reading import Scalar, quoted
from sidecar.config.tables import Field, ListOf, Record, Table
from sidecar.core.billing_settings import DAY_NS, AccessPolicy, Billing, CloudEventsSink, Mail, Notices, StripeSettings

_URL = text("an address", r"https?://[!-~]+", hint="one such as https://example.com/pay", most=1000)
_ADDRESS = text("an e-mail address", r"[!-;=?-~]+@[A-Za-z0-9.-]+", hint="one such as ops@example.com", most=254)
_HOST = text("a host name", r"[A-Za-z0-9.:_-]+", hint="one such as smtp.example.com", most=253)
_STEP = duration(0, 3660 * DAY_NS)


def _make_notices(webhook: str | None = None, secret: str | None = None, mail: Mail | None = None) -> Notices:
    if (webhook is None) != (secret is None):
        raise ValueError("webhook and secret go together: whoever is told must be able to check who tells")
    if secret is not None:
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            key = b""
        if not secret.startswith("whsec_") or not 24 <= len(key) <= 64:
            raise ValueError(
                "secret is not whsec_ and 24 to 64 bytes in base64; make one with: openssl rand -base64 32"
            )
    return Notices(webhook, secret, mail)


def _make_mail(**known: Any) -> Mail:
    mail = Mail(**known)
    if (mail.user is None) != (mail.password is None):
        raise ValueError("user and password go together; write both or none")
    if mail.user is not None and mail.security == "none":
        raise ValueError("the password would go out in clear; write security: starttls or tls")
    return mail


STRIPE = Table(
    "stripe",
    "The account at Stripe whose catalogue follows the policies.",
    StripeSettings,
    (
        Field("api_key", SecretKind(8), "A secret or restricted key, live or test.", required=True),
        Field(
            "webhook_secrets",
            ListOf(SecretKind(8), "secrets such as [${STRIPE_WEBHOOK_SECRET}]", single=True, most=16),
            "The signing secrets of the destinations that send to `/_sidecar/webhooks/stripe`; old and new ones while "
            "they are rotated. Without any, Stripe's events are only polled for.",
        ),
        Field(
            "prefix",
            text("a prefix", r"[a-z0-9][a-z0-9_]{0,31}", hint="up to 32 of a-z, 0-9 and _", most=32),
            "What the lookup keys and product ids of this installation begin with; whatever does not is left alone.",
        ),
        Field(
            "rate", integer(1, 1000), "Events per second, at most.", absent="250 with a live key, 10 with a test key"
        ),
        Field(
            "api",
            text("an address", r"https?://[!-~]+", hint="one such as https://api.stripe.com", most=300),
            "Where Stripe is: another address than its own is a stand-in, for tests.",
        ),
    ),
)
ACCESS = Table(
    "access",
    "What follows from payment, step by step. See [payments](payments.md).",
    AccessPolicy,
    (
        Field("grace", _STEP, "How long a tenant that owes is served in full.", "grace_ns"),
        Field("read_only", _STEP, "How long it is then read-only, before it is suspended.", "read_only_ns"),
        Field(
            "fallback_plan",
            name("a plan's name"),
            "The plan that a tenant gets instead of being read-only and suspended.",
            absent="none: read-only, then suspended",
        ),
        Field(
            "closed",
            duration(DAY_NS, 3660 * DAY_NS),
            "How long after the end of its subscription a tenant is closed.",
            "closed_ns",
            absent="never",
        ),
        Field("pay_url", _URL, "Where a 402 sends people.", absent="a 402 names no address"),
        Field(
            "public_url",
            _URL,
            "Where callers reach this sidecar, such as `https://api.example.com`: there a new customer is shown the "
            "first key.",
            absent="`sidecar stripe checkout` needs `--success-url`",
        ),
    ),
)
MAIL = Table(
    "mail",
    "The SMTP server for notices, and who gets them.",
    _make_mail,
    (
        Field("host", _HOST, "The server.", required=True),
        Field("port", integer(1, 65535), "Its port."),
        Field("security", choice("starttls", "tls", "none"), "How the connection is secured."),
        Field("user", text("a user name"), "Who logs in there.", absent="nobody logs in"),
        Field("password", SecretKind(1), "The password.", absent="nobody logs in"),
        Field("sender", _ADDRESS, "The address that notices come from.", required=True),
        Field(
            "to",
            ListOf(_ADDRESS, "addresses such as [ops@example.com]", least=1, most=50),
            "Who gets them.",
            required=True,
        ),
    ),
    of=Mail,
)
NOTICES = Table(
    "notices",
    "Who is told what happens to accounts. `sidecar notify --dry-run` shows what they get.",
    _make_notices,
    (
        Field("webhook", _URL, "Where notices are posted.", absent="nowhere"),
        Field(
            "secret",
            SecretKind(24),
            "Signs them, as [Standard Webhooks](https://www.standardwebhooks.com): `whsec_` and base64.",
            absent="needed with `webhook`",
        ),
        Field("mail", Record(MAIL), "E-mail.", absent="none is sent"),
    ),
    of=Notices,
)
CLOUD_EVENTS = Table(
    "cloud_events",
    "Takes usage as CloudEvents over HTTP, instead of Stripe's meters.",
    CloudEventsSink,
    (
        Field(
            "url",
            text(
                "an address", r"https?://[!-~]+", hint="one such as https://openmeter.example/api/v1/events", most=500
            ),
            "Where events are POSTed. It has to drop a second event of the same `source` and `id`.",
            required=True,
        ),
        Field("token", SecretKind(8), "Sent as `Authorization: Bearer`.", absent="not sent"),
        Field(
            "format",
            choice("cloudevents", "lago"),
            "How an event is written; `lago`: as `POST /api/v1/events` of Lago takes it.",
        ),
        Field(
            "source", text("a source", r"[!-~]{1,100}", hint="a word or an address", most=100), "The events' source."
        ),
        Field("rate", integer(1, 10_000), "Events per second, at most."),
    ),
)
_MINUTE_NS = 60_000_000_000


def _parse_window(scalar: Scalar) -> int:
    window_ns: int = duration(_MINUTE_NS, 60 * _MINUTE_NS).parse(scalar)
    if window_ns % _MINUTE_NS or (60 * _MINUTE_NS) % window_ns:
        raise ValueError(f"{quoted(scalar.text)} does not divide an hour into whole minutes; write 1m, 5m, 15m or 1h")
    return window_ns


_WINDOW = replace(duration(_MINUTE_NS, 60 * _MINUTE_NS), parse=_parse_window)


def _make_billing(**given: Any) -> Billing:
    if given.get("cloud_events") is not None and given.get("stripe") is not None:
        raise ValueError("usage goes to one place; write stripe or cloud_events, not both")
    return Billing(**given)


BILLING = Table(
    "billing",
    "Who is asked for the money, what follows from payment, who is told.",
    _make_billing,
    (
        Field("stripe", Record(STRIPE), "Stripe.", absent="not used"),
        Field("cloud_events", Record(CLOUD_EVENTS), "Another receiver of usage.", absent="not used"),
        Field("access", Record(ACCESS), "What follows from payment."),
        Field("notices", Record(NOTICES), "Who is told."),
        Field("window", _WINDOW, "Usage of so many minutes becomes one event.", attr="window_ns"),
        Field(
            "late",
            choice("hold", "carry"),
            "Usage that becomes known after its invoice: `hold` it for a person, or `carry` it into the open period.",
        ),
        Field(
            "invoice_grace",
            duration(60 * _MINUTE_NS, 72 * 60 * _MINUTE_NS),
            "How long after its end a period's invoice still takes usage, as it is set at Stripe.",
            attr="invoice_grace_ns",
        ),
    ),
)
TABLES = (BILLING, STRIPE, CLOUD_EVENTS, ACCESS, NOTICES, MAIL)
