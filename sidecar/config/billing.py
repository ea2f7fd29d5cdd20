"""The table of ``billing:``: where what was used is asked for."""

from sidecar.config.kinds import SecretKind, text
from sidecar.config.tables import Field, Record, Table
from sidecar.core.billing_settings import Billing, StripeSettings

STRIPE = Table(
    "stripe",
    "The account at Stripe whose catalogue follows the policies.",
    StripeSettings,
    (
        Field("api_key", SecretKind(8), "A secret or restricted key, live or test.", required=True),
        Field(
            "prefix",
            text("a prefix", r"[a-z0-9][a-z0-9_]{0,31}", hint="up to 32 of a-z, 0-9 and _", most=32),
            "What the lookup keys and product ids of this installation begin with; whatever does not is left alone.",
        ),
        Field(
            "api",
            text("an address", r"https?://[!-~]+", hint="one such as https://api.stripe.com", most=300),
            "Where Stripe is: another address than its own is a stand-in, for tests.",
        ),
    ),
)
BILLING = Table(
    "billing", "Who is asked for the money.", Billing, (Field("stripe", Record(STRIPE), "Stripe.", absent="not used"),)
)
TABLES = (BILLING, STRIPE)
