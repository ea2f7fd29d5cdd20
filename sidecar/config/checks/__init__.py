"""The semantic pass: what each file may say by itself, but what cannot work together. Each fault names where it stands.

Near-linear in the number of routes and plans: 10,000 routes are checked in a fraction of a second.
"""

from sidecar.config.checks import certificates, money, overrides, payments, plans, retention, routes, targets
from sidecar.config.reading import Reading
from sidecar.core.policy import Snapshot


def check(snapshot: Snapshot, reading: Reading) -> None:
    """Writes every fault of ``snapshot`` into ``reading``."""
    targets.check(snapshot, reading)
    routes.check(snapshot, reading)
    plans.check(snapshot, reading)
    overrides.check(snapshot, reading)
    money.check(snapshot, reading)
    retention.check(snapshot, reading)
    payments.check(snapshot, reading)
    certificates.check(snapshot, reading)
