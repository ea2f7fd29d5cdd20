"""Records to store, and what a store says about a tenant, as one value."""

import dataclasses
import itertools

from sidecar.core.ports import UsageQuery
from sidecar.core.records import UsageRecord, encode_record
from sidecar.storage.postgres import PostgresStore

MINUTE = 60_000_000
_numbers = itertools.count(1)
GOOD = UsageRecord(
    event_id="0193a5f0-0000-7000-8000-ffffffffffff",
    started_us=100 * MINUTE,
    tenant="acme",
    key_id="k1",
    plan="pro",
    sandbox=False,
    route="search",
    method="GET",
    status=200,
    outcome="ok",
    units=5,
    cost=15,
    bytes_in=1,
    bytes_out=2,
    total_us=30,
    upstream_us=20,
    first_byte_us=10,
    meters={"requests": 1, "tokens": 7},
)


def records(count: int, **changes: object) -> list[bytes]:
    """That many different events."""
    return [encode_record(record(**changes)) for _ in range(count)]


def record(**changes: object) -> UsageRecord:
    return dataclasses.replace(GOOD, event_id=f"0193a5f0-0000-7000-8000-{next(_numbers):012x}", **changes)


async def counted(store: PostgresStore, tenant: str = "acme") -> tuple[int, int, int]:
    """Calls by the entries, by the sums, by the meter; all three have to agree."""
    span = {"since_us": 0, "until_us": 1000 * MINUTE}
    page = await store.events(tenant=tenant, after=None, limit=100_000, **span)
    rows = await store.usage_rows(UsageQuery(("tenant",), 0, 1000 * MINUTE, tenant))
    meter = await store.meter_total(tenant, "requests", sandbox=False, **span)
    return len(page.events), sum(row.totals.requests for row in rows), meter
