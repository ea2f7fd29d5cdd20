"""The metrics of client connections, and of calls that are missing in a record or a log."""

from sidecar.admin.family import Family
from sidecar.admin.rows import one

CONNECTIONS = (
    Family("client_connections", "gauge", (), "Open connections from clients.", one(lambda r: r.connections.open)),
    Family(
        "client_connections_bound",
        "gauge",
        (),
        "The most client connections that are accepted.",
        one(lambda r: r.connections.bound),
    ),
    Family(
        "unbilled_total",
        "counter",
        (),
        "Calls served without a record because the journal was full (`journal.on_full: serve_unbilled`).",
        one(lambda r: r.connections.unbilled),
    ),
    Family(
        "access_log_dropped_total",
        "counter",
        (),
        "Calls that are missing in the access log: it was slower than they were, or could not be written.",
        one(lambda r: r.connections.unnoted),
    ),
)
