"""Billing: what the book says is asked for once. The SDK is loaded by the first call, not by the import."""

from sidecar.billing.operations import (
    apply_catalogue,
    make_checkout,
    make_portal,
    open_notices,
    open_payments,
    plan_catalogue,
    preview_notices,
    send_notices,
    teller,
    try_stripe,
)
from sidecar.billing.payees import Payee, payee_of
from sidecar.billing.reconcile import Book, Reporter, digest_of
from sidecar.billing.reporting import BillingReading, Reporting

__all__ = [
    "BillingReading",
    "Book",
    "Payee",
    "Reporter",
    "Reporting",
    "apply_catalogue",
    "digest_of",
    "make_checkout",
    "make_portal",
    "open_notices",
    "open_payments",
    "payee_of",
    "plan_catalogue",
    "preview_notices",
    "send_notices",
    "teller",
    "try_stripe",
]
