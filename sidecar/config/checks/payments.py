"""What follows from payment: plans that are named must be there."""

from sidecar.config.reading import Reading, nearest, quoted
from sidecar.core.policy import Snapshot


def check(snapshot: Snapshot, reading: Reading) -> None:
    access = snapshot.settings.billing.access
    plan = access.fallback_plan
    if plan is not None and plan not in snapshot.plans:
        reading.blame(access, "fallback_plan", f"there is no plan {quoted(plan)}{nearest(plan, snapshot.plans)}")
