"""Records to store, and what a store says about a tenant, as one value."""

import dataclasses
import itertools

from sidecar.core.ports import UsageQuery
from sidecar.core.records import UsageRecord, encode_record
from sidecar.storage.postgres import PostgresStore
from tests.records import CALL, MINUTE, event_id_of

_numbers = itertools.count(1)


def records(count: int, **changes: object) -> list[bytes]:
    """That many different events."""
    return [encode_record(record(**changes)) for _ in range(count)]


def record(**changes: object) -> UsageRecord:
    return dataclasses.replace(CALL, event_id=event_id_of(next(_numbers)), **changes)


async def counted(store: PostgresStore, tenant: str = "acme") -> tuple[int, int, int]:
    """Calls by the entries, by the sums, by the meter; all three have to agree."""
    span = {"since_us": 0, "until_us": 1000 * MINUTE}
    page = await store.events(tenant=tenant, after=None, limit=100_000, **span)
    rows = await store.usage_rows(UsageQuery(("tenant",), 0, 1000 * MINUTE, tenant))
    meter = await store.meter_total(tenant, "requests", sandbox=False, **span)
    return len(page.events), sum(row.totals.requests for row in rows), meter
