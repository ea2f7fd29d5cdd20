"""A call that tests change what they need of."""

from sidecar.core.records import UsageRecord

MINUTE = 60_000_000
CALL = UsageRecord(
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


def event_id_of(number: int) -> str:
    return f"0193a5f0-0000-7000-8000-{number:012x}"
