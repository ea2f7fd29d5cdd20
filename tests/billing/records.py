"""A record of one call, as the journal has it."""

from sidecar.core.records import UsageRecord, encode_record


def used(
    number: int, at_s: int, *, tenant: str = "acme", sandbox: bool = False, took_us: int = 5, **meters: int
) -> bytes:
    """``number`` makes its event id; ``at_s``: when it began, ``took_us``: how long it took; ``meters``: what it
    used."""
    record = UsageRecord(
        event_id=f"0193a5f0-0000-7000-8000-{number:012x}",
        started_us=at_s * 1_000_000,
        tenant=tenant,
        key_id="k1",
        plan="pro",
        sandbox=sandbox,
        route="search",
        method="GET",
        status=200,
        outcome="ok",
        units=1,
        cost=1,
        bytes_in=1,
        bytes_out=1,
        total_us=took_us,
        upstream_us=1,
        first_byte_us=1,
        meters=meters,
    )
    return encode_record(record)
