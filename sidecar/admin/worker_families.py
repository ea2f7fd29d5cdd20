"""The metrics of processes: how many serve calls, and how many had to be replaced."""

from sidecar.admin.family import Family
from sidecar.admin.rows import one

WORKERS = (
    Family("workers", "gauge", (), "Processes that serve calls now.", one(lambda r: r.workers.serving)),
    Family("workers_bound", "gauge", (), "Processes that should.", one(lambda r: r.workers.bound)),
    Family(
        "worker_replacements_total",
        "counter",
        (),
        "Workers that ended by themselves, and were replaced.",
        one(lambda r: r.workers.replaced),
    ),
)
