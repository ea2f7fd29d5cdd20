"""A record of one call, as the journal has it."""

import dataclasses
from typing import Any

from sidecar.core.records import encode_record
from tests.records import CALL, event_id_of

_SMALL = dataclasses.replace(
    CALL, units=1, cost=1, bytes_in=1, bytes_out=1, total_us=5, upstream_us=1, first_byte_us=1, meters={}
)


def call_record(number: int, started_us: int, **changes: Any) -> bytes:
    """``number`` makes its event id; it takes 5 us unless ``changes`` say so."""
    return encode_record(dataclasses.replace(_SMALL, event_id=event_id_of(number), started_us=started_us, **changes))


def used(
    number: int, at_s: int, *, tenant: str = "acme", sandbox: bool = False, took_us: int = 5, **meters: int
) -> bytes:
    """``at_s``: when it began, ``took_us``: how long it took; ``meters``: what it used."""
    known = {"tenant": tenant, "sandbox": sandbox, "total_us": took_us, "meters": meters}
    return call_record(number, at_s * 1_000_000, **known)
