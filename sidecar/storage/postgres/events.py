"""Pages of single events: in the order of (tenant, time, id), which is that of the primary key."""

import base64
import json
from typing import Any
from uuid import UUID

from sidecar.core.ports import EventPage
from sidecar.core.records import UsageRecord
from sidecar.storage.postgres.connection import Connection
from sidecar.storage.postgres.texts import shown, stored

_COLUMNS = """
    event_id, started_us, tenant, key_id, plan, sandbox, route, method, status, outcome,
    units, cost, bytes_in, bytes_out, total_us, upstream_us, first_byte_us, meters
"""
PAGE = f"""
    SELECT {_COLUMNS} FROM sidecar.entries
    WHERE tenant = $1 AND started_us >= $2 AND started_us < $3 AND (started_us, event_id) > ($4, $5)
    ORDER BY started_us, event_id LIMIT $6
"""  # noqa: S608 - fixed texts
# The next tenant, one look-up per partition: $2 and $3 are on whole days, so that the first row found is the answer.
NEXT_TENANT = """
    SELECT min(tenant COLLATE "C") FROM sidecar.entries WHERE tenant >= $1 AND started_us >= $2 AND started_us < $3
"""
_LAST_ID = UUID(int=(1 << 128) - 1)
_US_PER_DAY = 86_400_000_000
_Place = tuple[str, int, UUID]


def place(after: str | None, tenant: str | None, limit: int) -> _Place | None:
    """The event that the page before ended with, in stored form. ValueError when ``after`` is not from here."""
    if limit < 1:
        raise ValueError("a page has at least one event")
    if after is None:
        return None
    try:
        name, started_us, event_id = json.loads(base64.b64decode(after, b"-_", validate=True))
        found = stored(name), started_us, UUID(event_id)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError("this is not the end of a page of events") from error
    if type(started_us) is not int or not 0 <= started_us < 1 << 63:
        raise ValueError("this is not the end of a page of events")
    if tenant not in (None, name):
        raise ValueError("the page before was another tenant's")
    return found


async def page(
    connection: Connection, tenant: str | None, since_us: int, until_us: int, start: _Place | None, limit: int
) -> EventPage:
    name: str | None
    days = since_us // _US_PER_DAY * _US_PER_DAY, -(-until_us // _US_PER_DAY) * _US_PER_DAY
    if tenant is not None:
        name = stored(tenant)
    else:
        name = start[0] if start else await connection.fetchval(NEXT_TENANT, "", *days)
    rows: list[Any] = []
    while name is not None and len(rows) <= limit:  # one more than the page has tells whether there is a next page
        began, identity = start[1:] if start and start[0] == name else (since_us - 1, _LAST_ID)
        wanted = limit + 1 - len(rows)
        rows += await connection.fetch(PAGE, name, since_us, until_us, began, identity, wanted)
        if tenant is not None:
            break
        if len(rows) <= limit:
            name = await connection.fetchval(NEXT_TENANT, name + "\x01", *days)
    more = len(rows) > limit
    del rows[limit:]
    return EventPage(tuple(map(_record, rows)), _cursor(rows[-1]) if more else None)


def _cursor(row: Any) -> str:
    place = shown(row["tenant"]), row["started_us"], str(row["event_id"])
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode()


def _record(row: Any) -> UsageRecord:
    event_id, started_us, tenant, key_id, plan, sandbox, route, method, status, outcome, *values = row
    values[-1] = {shown(name): value for name, value in json.loads(values[-1]).items()}
    return UsageRecord(
        str(event_id),
        started_us,
        shown(tenant),
        shown(key_id),
        shown(plan),
        bool(sandbox),
        shown(route),
        shown(method),
        status,
        shown(outcome),
        *values,
    )
