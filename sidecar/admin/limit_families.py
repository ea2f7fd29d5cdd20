"""The metrics of limits that nodes share, of what is in shadow mode, and of shares of quotas."""

from sidecar.admin.family import Family
from sidecar.admin.rows import by_pair, one

SHADOW_REFUSED = Family(
    "shadow_refused_total",
    "counter",
    ("plan", "policy"),
    "Requests that passed and that a limit or quota in shadow mode would have refused.",
    by_pair(lambda r: r.admission.shadow_refused),
)
SHARED_LIMITS = (
    Family(
        "limit_blind_total",
        "counter",
        ("plan", "limit", "decision"),
        "Requests decided while the store of limits did not answer: allow, deny, local, or shadow (not known).",
        lambda r: list(r.admission.limit_blind.items()),
    ),
    Family(
        "limit_store_calls_total",
        "counter",
        (),
        "Calls of the store that counts limits for all nodes.",
        one(lambda r: r.admission.store_calls),
    ),
    Family(
        "limit_store_failures_total",
        "counter",
        (),
        "Of these, calls without an answer in time.",
        one(lambda r: r.admission.store_failures),
    ),
)
QUOTA_SHARES = (
    Family(
        "quota_thresholds_total",
        "counter",
        ("plan", "quota", "threshold"),
        "Shares of quotas that tenants reached, in percent, each told once.",
        lambda r: [((plan, quota, str(share)), n) for (plan, quota, share), n in r.admission.thresholds.items()],
    ),
)
