"""Turns what the rooms say about themselves into what the metrics show."""

from collections.abc import Iterable, Mapping

from sidecar.admin.sources import AdmissionReading, JournalReading, UpstreamReading
from sidecar.admission import Readings as AdmissionReadings
from sidecar.core.clock import NS_PER_S
from sidecar.core.policy import Plan
from sidecar.ledger import JournalReadings, ShipperReadings
from sidecar.upstream import TargetReading


def read_admission(readings: AdmissionReadings, plans: Mapping[str, Plan]) -> AdmissionReading:
    """Splits refusals into those of quotas and those of limits; a name that no plan has any more counts as a limit."""
    quotas = {(plan.name, quota.name) for plan in plans.values() for quota in plan.quotas}
    return AdmissionReading(
        buckets=readings.buckets,
        buckets_bound=readings.max_buckets,
        overflows=readings.overflows,
        evictions=readings.evictions,
        quota_counters=readings.quota_counters,
        quota_blind=readings.quota_blind,
        admitted_units=dict(readings.admitted_units),
        limit_refused={pair: count for pair, count in readings.refused.items() if pair not in quotas},
        limit_blind=dict(readings.blind),
        store_calls=readings.store_calls,
        store_failures=readings.store_failures,
        shadow_refused=dict(readings.shadow_refused),
        thresholds=dict(readings.thresholds),
        quota_refused={pair: count for pair, count in readings.refused.items() if pair in quotas},
    )


def read_journal(journal: JournalReadings, shipper: ShipperReadings) -> JournalReading:
    """Journal and shipper as one way."""
    return JournalReading(
        bytes=journal.bytes_used,
        bytes_bound=journal.max_bytes,
        open_intents=journal.open_calls,
        unshipped=journal.unshipped_records,
        lag_s=journal.oldest_unshipped_ns / NS_PER_S,
        fsync_failures=journal.fsync_failures,
        refused=journal.refused,
        shipped=shipper.shipped,
        new=shipper.new,
        rejected=shipper.rejected,
        failures=shipper.failures,
        recovered=shipper.recovered,
        indeterminate=shipper.indeterminate,
        torn_bytes=shipper.torn_bytes,
        corrupt_segments=shipper.corrupt_segments,
    )


def read_upstreams(targets: Iterable[TargetReading]) -> tuple[UpstreamReading, ...]:
    """One reading per target."""
    return tuple(
        UpstreamReading(
            upstream=target.upstream,
            target=target.target,
            up=target.up,
            in_use=target.in_use,
            idle=target.idle,
            waiting=target.waiting,
            breaker=target.breaker,
            failures=dict(target.failures),
            replies=target.replies,
            retries=dict(target.retries),
        )
        for target in targets
    )
