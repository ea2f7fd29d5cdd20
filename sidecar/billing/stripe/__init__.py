"""Stripe, by its official package: nothing outside of this folder imports that."""

from sidecar.billing.pace import Pace
from sidecar.billing.replies import retry_after, server_time
from sidecar.billing.stripe.client import API_VERSION, StripeClient
from sidecar.billing.stripe.faults import StripeFault, ask
from sidecar.billing.stripe.invoices import InvoiceLines
from sidecar.billing.stripe.listing import TooMany, listed, listed_v2
from sidecar.billing.stripe.meters import StripeMeter, check, differences, read_meters
from sidecar.billing.stripe.selftest import Finding, SelfTest
from sidecar.billing.stripe.sink import CUSTOMER_KEY, VALUE_KEY, MeterEvents
from sidecar.billing.stripe.sums import MeterSums

__all__ = [
    "API_VERSION",
    "CUSTOMER_KEY",
    "VALUE_KEY",
    "Finding",
    "InvoiceLines",
    "MeterEvents",
    "MeterSums",
    "Pace",
    "SelfTest",
    "StripeClient",
    "StripeFault",
    "StripeMeter",
    "TooMany",
    "ask",
    "check",
    "differences",
    "listed",
    "listed_v2",
    "read_meters",
    "retry_after",
    "server_time",
]
