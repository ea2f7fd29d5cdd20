"""The table of metrics: name, kind, labels, help, and where the numbers come from. docs/metrics.md is its twin."""

from sidecar.admin.billing_families import BILLING
from sidecar.admin.family import Family
from sidecar.admin.limit_families import QUOTA_SHARES, SHADOW_REFUSED, SHARED_LIMITS
from sidecar.admin.margin_families import MARGIN
from sidecar.admin.rows import (
    DURATION_BOUNDS_US,
    OVERHEAD_BOUNDS_US,
    breakers,
    by_pair,
    by_route,
    by_series,
    by_target,
    cost,
    failures,
    histogram,
    one,
    replies,
    retries,
)
from sidecar.admin.worker_families import WORKERS

_ROUTE = ("route",)
_SERIES = ("route", "plan", "status")
_TARGET = ("upstream", "target")

_TRAFFIC = (
    Family(
        "requests_total",
        "counter",
        _SERIES,
        "Requests passed to an upstream, by the reply's status class.",
        by_series("requests"),
    ),
    Family(
        "units_total", "counter", _SERIES, "Units (weight) of the requests passed to an upstream.", by_series("units")
    ),
    Family(
        "cost_total", "counter", ("route", "plan", "currency"), "What serving cost us, in units of the currency.", cost
    ),
    Family(
        "refusals_total",
        "counter",
        ("route", "code"),
        "Requests the sidecar refused itself, by problem code.",
        by_pair(lambda r: r.tallies.refusals),
    ),
    Family(
        "meter_anomalies_total",
        "counter",
        ("meter", "reason"),
        "Replies from which a value could not be read, by meter (_cost: a reported cost) and reason.",
        by_pair(lambda r: r.tallies.anomalies),
    ),
    Family(
        "request_body_bytes_total",
        "counter",
        _ROUTE,
        "Body bytes received from clients.",
        by_route("bytes_in"),
        "bytes",
    ),
    Family(
        "response_body_bytes_total", "counter", _ROUTE, "Body bytes sent to clients.", by_route("bytes_out"), "bytes"
    ),
    Family(
        "request_duration_seconds",
        "histogram",
        _ROUTE,
        "From the end of the request's head to the end of the reply.",
        histogram("total", DURATION_BOUNDS_US),
        "seconds",
    ),
    Family(
        "upstream_duration_seconds",
        "histogram",
        _ROUTE,
        "From the first byte sent upstream to the last byte received.",
        histogram("upstream", DURATION_BOUNDS_US),
        "seconds",
    ),
    Family(
        "overhead_seconds",
        "histogram",
        _ROUTE,
        "The sidecar's own share: request duration less upstream duration.",
        histogram("overhead", OVERHEAD_BOUNDS_US),
        "seconds",
    ),
    Family(
        "requests_in_flight",
        "gauge",
        _ROUTE,
        "Requests being served now.",
        lambda r: [((t.route,), t.in_flight) for t in r.tallies.routes],
    ),
    Family("client_connections", "gauge", (), "Open connections from clients.", one(lambda r: r.connections.open)),
    Family(
        "client_connections_bound",
        "gauge",
        (),
        "The most client connections that are accepted.",
        one(lambda r: r.connections.bound),
    ),
)

_ADMISSION = (
    Family(
        "admitted_units_total",
        "counter",
        ("plan",),
        "Units that limits and quotas let pass.",
        lambda r: [((plan,), n) for plan, n in r.admission.admitted_units.items()],
    ),
    Family(
        "limit_refused_total",
        "counter",
        ("plan", "limit"),
        "Requests refused by a rate or concurrency limit.",
        by_pair(lambda r: r.admission.limit_refused),
    ),
    *SHARED_LIMITS,
    Family(
        "quota_refused_total",
        "counter",
        ("plan", "quota"),
        "Requests refused by a quota.",
        by_pair(lambda r: r.admission.quota_refused),
    ),
    SHADOW_REFUSED,
    Family("limit_buckets", "gauge", (), "Limit counters held in memory.", one(lambda r: r.admission.buckets)),
    Family(
        "limit_buckets_bound",
        "gauge",
        (),
        "The most limit counters that are held.",
        one(lambda r: r.admission.buckets_bound),
    ),
    Family(
        "limit_overflows_total",
        "counter",
        (),
        "Look-ups that ended at a shared counter, none being left.",
        one(lambda r: r.admission.overflows),
    ),
    Family(
        "limit_evictions_total",
        "counter",
        (),
        "Idle limit counters that made room for others.",
        one(lambda r: r.admission.evictions),
    ),
    *QUOTA_SHARES,
    Family("quota_counters", "gauge", (), "Quota counters held in memory.", one(lambda r: r.admission.quota_counters)),
    Family(
        "quota_blind_total",
        "counter",
        (),
        "Requests decided before the quota's earlier use could be read.",
        one(lambda r: r.admission.quota_blind),
    ),
)

_LEDGER = (
    Family("journal_bytes", "gauge", (), "Bytes held by the journal's files.", one(lambda r: r.journal.bytes), "bytes"),
    Family(
        "journal_bytes_bound",
        "gauge",
        (),
        "The most bytes the journal may hold; when full, billable requests get 503.",
        one(lambda r: r.journal.bytes_bound),
    ),
    Family(
        "journal_open_intents",
        "gauge",
        (),
        "Calls begun whose end is not yet written.",
        one(lambda r: r.journal.open_intents),
    ),
    Family(
        "journal_refused_total", "counter", (), "Calls that found the journal full.", one(lambda r: r.journal.refused)
    ),
    Family(
        "journal_fsync_failures_total",
        "counter",
        (),
        "Failed fsyncs of the journal.",
        one(lambda r: r.journal.fsync_failures),
    ),
    Family(
        "journal_recovered_total",
        "counter",
        (),
        "Usage records found in the journal at start.",
        one(lambda r: r.journal.recovered),
    ),
    Family(
        "journal_indeterminate_total",
        "counter",
        (),
        "Calls found at start whose end was never written.",
        one(lambda r: r.journal.indeterminate),
    ),
    Family(
        "journal_torn_bytes_total",
        "counter",
        (),
        "Bytes cut off the journal's torn end at start.",
        one(lambda r: r.journal.torn_bytes),
        "bytes",
    ),
    Family(
        "journal_corrupt_segments_total",
        "counter",
        (),
        "Journal segments set aside as corrupt.",
        one(lambda r: r.journal.corrupt_segments),
    ),
    Family(
        "ledger_lag_seconds",
        "gauge",
        (),
        "Age of the oldest usage record that is not yet in the ledger.",
        one(lambda r: r.journal.lag_s),
        "seconds",
    ),
    Family(
        "ledger_lag_records",
        "gauge",
        (),
        "Usage records that are not yet in the ledger.",
        one(lambda r: r.journal.unshipped),
    ),
    Family(
        "ledger_shipped_total", "counter", (), "Usage records handed to the ledger.", one(lambda r: r.journal.shipped)
    ),
    Family(
        "ledger_new_total",
        "counter",
        (),
        "Usage records the ledger did not know before.",
        one(lambda r: r.journal.new),
    ),
    Family(
        "ledger_rejected_total",
        "counter",
        (),
        "Usage records that could not be read and were set aside.",
        one(lambda r: r.journal.rejected),
    ),
    Family(
        "ledger_failures_total",
        "counter",
        (),
        "Batches the ledger could not take; they are tried again.",
        one(lambda r: r.journal.failures),
    ),
)

_UPSTREAM = (
    Family("upstream_up", "gauge", _TARGET, "Whether requests are sent to the target: 1 or 0.", by_target("up")),
    Family(
        "upstream_connections_in_use",
        "gauge",
        _TARGET,
        "Connections to the target that carry a request.",
        by_target("in_use"),
    ),
    Family(
        "upstream_connections_idle",
        "gauge",
        _TARGET,
        "Connections to the target that are kept for the next request.",
        by_target("idle"),
    ),
    Family("upstream_requests_waiting", "gauge", _TARGET, "Requests that wait for a connection.", by_target("waiting")),
    Family(
        "upstream_breaker_state", "gauge", (*_TARGET, "state"), "1 for the state the target's breaker is in.", breakers
    ),
    Family("upstream_failures_total", "counter", (*_TARGET, "kind"), "Failed attempts, by kind.", failures),
    Family("upstream_replies_total", "counter", (*_TARGET, "status"), "Replies, by status class.", replies),
    Family(
        "upstream_retries_total",
        "counter",
        (*_TARGET, "why"),
        "Attempts at the target after another one: connect (none elsewhere) or race (a dead kept connection).",
        retries,
    ),
)

_PAYMENTS = (
    Family(
        "webhooks_total",
        "counter",
        ("result",),
        "Deliveries of Stripe: stored, known, or why they were refused.",
        lambda r: [((result,), count) for result, count in r.payments.webhooks.items()],
    ),
    Family(
        "payment_events_total",
        "counter",
        ("result",),
        "Events of Stripe: done, postponed, or found by polling.",
        lambda r: [((result,), count) for result, count in r.payments.events.items()],
    ),
    Family(
        "access_changes_total",
        "counter",
        ("access",),
        "Changes of a tenant's access or plan that followed from payment, by the new access.",
        lambda r: [((access,), count) for access, count in r.payments.changes.items()],
    ),
    Family(
        "notices_total",
        "counter",
        ("channel", "result"),
        "Attempts to tell somebody: sent, failed (tried again), given_up.",
        by_pair(lambda r: r.payments.notices),
    ),
    Family("stripe_failures_total", "counter", (), "Readings that Stripe failed.", one(lambda r: r.payments.failures)),
)

_BUILD = (
    Family(
        "config_reloads_total",
        "counter",
        ("result",),
        "Configurations that were read again: taken, or refused with the last good one kept.",
        lambda r: [(("taken",), r.reloads.taken), (("refused",), r.reloads.refused)],
    ),
    Family(
        "config_refused",
        "gauge",
        (),
        "1 while the configuration on the disk is one that was refused.",
        one(lambda r: int(r.reloads.refused_last)),
    ),
    Family(
        "build",
        "info",
        ("version", "python", "policy"),
        "What runs here.",
        lambda r: [((r.build.version, r.build.python, r.build.policy), 1)],
    ),
)

FAMILIES = _TRAFFIC + _ADMISSION + _LEDGER + _UPSTREAM + MARGIN + _PAYMENTS + BILLING + WORKERS + _BUILD
