"""The columns of exports, and the rows they are filled with. Money is integer micro-units with the currency beside."""

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any, NamedTuple

from sidecar.admin.shapes import metered
from sidecar.core.clock import NS_PER_S, NS_PER_US
from sidecar.core.latency import quantile_us
from sidecar.core.ports import TIMES, UsageQuery, UsageRow
from sidecar.core.records import UsageRecord

_US_PER_MINUTE = 60 * NS_PER_S // NS_PER_US
Row = tuple[Any, ...]


class Column(NamedTuple):
    """``kind``: ``text``, ``integer`` (may be None), ``flag``, ``instant`` (Unix microseconds) or ``counts`` (a dict of
    names to integers)."""

    name: str
    kind: str


class Sheet(NamedTuple):
    """What is exported. ``identity``, ``subject`` and ``at_us`` of a row are the CloudEvents attributes id, subject
    and time; ``event`` is their type."""

    columns: tuple[Column, ...]
    event: str
    identity: Callable[[Row], str]
    subject: Callable[[Row], str]
    at_us: Callable[[Row], int]


def _columns(text: str) -> tuple[Column, ...]:
    return tuple(Column(*word.split(":")) for word in text.split())


EVENTS = Sheet(
    _columns(
        "event_id:text time:instant tenant:text key:text plan:text sandbox:flag route:text method:text status:integer "
        "outcome:text units:integer cost_micros:integer currency:text bytes_in:integer bytes_out:integer "
        "total_us:integer upstream_us:integer first_byte_us:integer meters:counts anomalies:counts "
        "shadow_refused:counts"
    ),
    "sidecar.call.v1",
    lambda row: str(row[0]),
    lambda row: str(row[2]),
    lambda row: int(row[1]),
)
_SUMS = _columns(
    "since:instant until:instant requests:integer units:integer cost_micros:integer currency:text bytes_in:integer "
    "bytes_out:integer total_us:integer upstream_us:integer indeterminate:integer p50_us:integer p90_us:integer "
    "p99_us:integer meters:counts anomalies:counts shadow_refused:counts"
)


def event_rows(events: Iterable[UsageRecord], currency: str) -> list[Row]:
    """The rows of EVENTS."""
    return [
        (
            e.event_id,
            e.started_us,
            e.tenant,
            e.key_id,
            e.plan,
            e.sandbox,
            e.route,
            e.method,
            e.status,
            e.outcome,
            e.units,
            e.cost,
            currency,
            e.bytes_in,
            e.bytes_out,
            e.total_us,
            e.upstream_us,
            e.first_byte_us,
            *metered(e.meters).values(),
        )
        for e in events
    ]


def usage_sheet(query: UsageQuery) -> Sheet:
    """The sheet of grouped usage: the parts it is grouped by, the range, the sums. A row's id is made of its group,
    range and filters: the same question gives the same ids."""
    kinds = {"sandbox": "flag"} | dict.fromkeys(TIMES, "instant")
    parts = tuple(Column(part, kinds.get(part, "text")) for part in query.by)
    width = len(parts)
    asked = (query.by, query.tenant, query.plan, query.key, query.route, query.sandbox)
    at = query.by.index("tenant") if "tenant" in query.by else None
    return Sheet(
        parts + _SUMS,
        "sidecar.usage.v1",
        lambda row: sha256(repr((asked, row[: width + 2])).encode()).hexdigest()[:32],
        lambda row: query.tenant or "" if at is None else str(row[at]),
        lambda row: int(row[width + 1]),
    )


def usage_rows(query: UsageQuery, rows: Iterable[UsageRow], currency: str) -> list[Row]:
    """The rows of ``usage_sheet``."""
    made = []
    for row in rows:
        group = (_value(part, value) for part, value in zip(query.by, row.group, strict=True))
        t = row.totals
        quantiles = (quantile_us(row.latency, part) for part in (0.5, 0.9, 0.99))
        sums = (t.requests, t.units, t.cost, currency, t.bytes_in, t.bytes_out, t.total_us, t.upstream_us)
        counts = metered(row.meters).values()
        made.append((*group, query.since_us, query.until_us, *sums, row.indeterminate, *quantiles, *counts))
    return made


def _value(part: str, value: str | int) -> Any:
    if part in TIMES:
        return int(value) * _US_PER_MINUTE
    return bool(value) if part == "sandbox" else value
