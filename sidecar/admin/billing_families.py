"""The metrics of billing; there where usage is reported to somebody."""

from sidecar.admin.family import Family
from sidecar.admin.rows import billing_once, billing_outcomes, billing_rows

BILLING = (
    Family("billing_rows", "gauge", ("state",), "Rows of the outbox, by state.", billing_rows(0)),
    Family(
        "billing_oldest_row_seconds",
        "gauge",
        ("state",),
        "The age of the oldest row of the outbox, by state.",
        billing_rows(1),
        "seconds",
    ),
    Family(
        "billing_attempts_total", "counter", ("outcome",), "Attempts to report usage, by outcome.", billing_outcomes
    ),
    Family(
        "billing_faults",
        "gauge",
        (),
        "Reasons why usage is not reported; /readyz names them.",
        billing_once(lambda b: len(b.faults)),
    ),
    Family("billing_leader", "gauge", (), "1 on the node that reports usage.", billing_once(lambda b: b.leads)),
    Family(
        "billing_read_back_total",
        "counter",
        (),
        "Rows that were looked up before they were sent again.",
        billing_once(lambda b: b.read_back),
    ),
    Family(
        "billing_missing_total",
        "counter",
        (),
        "Rows that the payee took and did not have; they are sent again.",
        billing_once(lambda b: b.missing),
    ),
    Family(
        "billing_foreign",
        "gauge",
        (),
        "Hours in which the payee has usage that is not in this book.",
        billing_once(lambda b: b.foreign),
    ),
    Family(
        "billing_healed_total",
        "counter",
        (),
        "Minutes of usage that had slipped by the outbox.",
        billing_once(lambda b: b.healed),
    ),
    Family(
        "billing_unasked_tenants",
        "gauge",
        (),
        "Tenants on a plan with a price that have no subscription: nobody is asked for it.",
        billing_once(lambda b: b.unasked),
    ),
    Family(
        "billing_parity_differs",
        "gauge",
        (),
        "Lately ended periods whose book does not agree with the invoice.",
        billing_once(lambda b: b.parity_differs),
    ),
    Family(
        "billing_clock_skew_seconds",
        "gauge",
        (),
        "The payee's clock less this machine's.",
        billing_once(lambda b: b.skew_s),
        "seconds",
    ),
    Family(
        "billing_failures_total",
        "counter",
        (),
        "Steps of reporting that failed and are tried again.",
        billing_once(lambda b: b.failures),
    ),
    Family(
        "billing_catalogue_drift",
        "gauge",
        (),
        "Differences between the policies and the payee's catalogue.",
        billing_once(lambda b: b.drift),
    ),
)
