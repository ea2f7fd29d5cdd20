"""The metrics of limits that nodes share."""

from sidecar.admin.family import Family
from sidecar.admin.rows import one

SHARED_LIMITS = (
    Family(
        "limit_blind_total",
        "counter",
        ("plan", "limit", "decision"),
        "Requests decided while the store of limits did not answer: allow, deny or local.",
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
