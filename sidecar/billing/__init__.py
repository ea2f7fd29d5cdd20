"""Billing: what the book says is asked for once. The SDK is loaded by the first call, not by the import."""

from sidecar.billing.operations import (
    apply_catalogue,
    make_checkout,
    make_portal,
    open_payments,
    plan_catalogue,
    preview_notices,
    send_notices,
)

__all__ = [
    "apply_catalogue",
    "make_checkout",
    "make_portal",
    "open_payments",
    "plan_catalogue",
    "preview_notices",
    "send_notices",
]
