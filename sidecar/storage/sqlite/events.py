"""Pages of single events: plain functions of a connection."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import apsw

from sidecar.core.ports import EventPage
from sidecar.core.records import UsageRecord
from sidecar.storage.sqlite.names import END

PAGE = """
    SELECT
        seq, event_id, started_us, tenant, key_id, plan, sandbox, route, method, status, outcome,
        units, cost, bytes_in, bytes_out, total_us, upstream_us, first_byte_us, meters
    FROM entries
    WHERE tenant = :tenant AND (started_us, seq) > (:after_us, :after_seq) AND started_us < :until_us
    ORDER BY started_us, seq
    LIMIT :limit
"""
NEXT_TENANT = "SELECT min(tenant) FROM entries WHERE tenant >= :first AND tenant <= :last"
_Place = tuple[str, int, int]  # tenant, started_us, seq


def events(
    connection: apsw.Connection, tenant: str | None, since_us: int, until_us: int, after: str | None, limit: int
) -> EventPage:
    """In the order of (tenant, time, arrival): one index serves one tenant's pages and everybody's."""
    if limit < 1:
        raise ValueError("a page has at least one event")
    first, last = ("", END) if tenant is None else (tenant, tenant)
    start = None if after is None else _place(after)
    if start is not None and tenant not in (None, start[0]):
        raise ValueError("the page before was another tenant's")
    rows: list[tuple[Any, ...]] = []
    # one more than the page has, to know whether there is a next page
    for name in _tenants(connection, first if start is None else start[0], last):
        began, seq = start[1:] if start is not None and name == start[0] else (since_us, 0)
        asked = {
            "tenant": name,
            "after_us": max(began, since_us),
            "after_seq": seq if began >= since_us else 0,
            "until_us": until_us,
            "limit": limit + 1 - len(rows),
        }
        rows += connection.execute(PAGE, asked)
        if len(rows) > limit:
            break
    more = len(rows) > limit
    del rows[limit:]
    cursor = _text((rows[-1][3], rows[-1][2], rows[-1][0])) if more else None
    return EventPage(tuple(map(_record, rows)), cursor)


def _tenants(connection: apsw.Connection, first: str, last: str | bytes) -> Iterator[str]:
    while True:
        name = connection.execute(NEXT_TENANT, {"first": first, "last": last}).get
        if name is None:
            return
        yield name
        first = name + "\0"  # the next text there can be


def _text(place: _Place) -> str:
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode()


def _place(text: str) -> _Place:
    try:
        tenant, started_us, seq = json.loads(base64.b64decode(text, b"-_", validate=True))
    except (ValueError, TypeError) as error:
        raise ValueError("this is not the end of a page of events") from error
    numbers = all(type(number) is int and 0 <= number < 1 << 63 for number in (started_us, seq))
    if not (isinstance(tenant, str) and numbers):
        raise ValueError("this is not the end of a page of events")
    return tenant, started_us, seq


def _record(row: tuple[Any, ...]) -> UsageRecord:
    _, event_id, started_us, tenant, key_id, plan, sandbox, *values = row
    identity = str(UUID(bytes=event_id))
    values[-1] = json.loads(values[-1])
    return UsageRecord(identity, started_us, tenant, key_id, plan, bool(sandbox), *values)
