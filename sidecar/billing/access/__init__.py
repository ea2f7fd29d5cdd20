"""Access follows payment: webhooks, accounts, states, the first key."""

from sidecar.billing.access.keeper import Keeper, PaymentStore
from sidecar.billing.access.links import checkout_link, portal_link
from sidecar.billing.access.newcomers import Mint, Newcomers
from sidecar.billing.access.service import Payments
from sidecar.billing.access.states import Seen, follow
from sidecar.billing.access.webhooks import Malformed, verified

__all__ = [
    "Keeper",
    "Malformed",
    "Mint",
    "Newcomers",
    "PaymentStore",
    "Payments",
    "Seen",
    "checkout_link",
    "follow",
    "portal_link",
    "verified",
]
