"""The ledger against the outbox against the payee's own sums."""

from sidecar.billing.reconcile.alarms import Alarms
from sidecar.billing.reconcile.differences import KINDS, Difference
from sidecar.billing.reconcile.ledger import heal_ledger
from sidecar.billing.reconcile.parity import ParityKeeper
from sidecar.billing.reconcile.report import Book, Invoiced, Line, Report, Reporter, digest_of
from sidecar.billing.reconcile.unasked import unasked_tenants
from sidecar.billing.reconcile.verifier import Verifier

__all__ = [
    "KINDS",
    "Alarms",
    "Book",
    "Difference",
    "Invoiced",
    "Line",
    "ParityKeeper",
    "Report",
    "Reporter",
    "Verifier",
    "digest_of",
    "heal_ledger",
    "unasked_tenants",
]
