"""Reports: plain functions of a connection that read sums and never an event.

A statement is put together from the fixed texts below; every value is bound. It reads whole days from the sums per day,
the edges of the time asked for from those per hour and per minute: five ranges of primary keys per tenant.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import apsw

from sidecar.core.ports import PARTS, TIMES, Group, UsageQuery, UsageReport, UsageRow, UsageTotals
from sidecar.storage.sqlite.connection import one_moment
from sidecar.storage.sqlite.names import END, names

US_PER_MINUTE = 60_000_000
_TENANTS_AT_ONCE = 100
_EXPRESSIONS = {
    "tenant": "tenant",
    "plan": "plan",
    "key": "key_id",
    "route": "route",
    "status": "CASE status_class WHEN 0 THEN 'none' ELSE status_class || 'xx' END",
    "sandbox": "sandbox",
    "minute": "at",
    "hour": "at / 60 * 60",
    "day": "at / 1440 * 1440",
    "month": "unixepoch(at * 60, 'unixepoch', 'start of month') / 60",
}
_MINUTES = {"minute": 1, "hour": 60, "day": 1440}
_VALUES = {
    "calls": "requests, units, cost, bytes_in, bytes_out, total_us, upstream_us, indeterminate",
    "meters": "meter, value",
    "latency": "bucket, calls",
}
_CALLS = ", ".join(f"sum({column})" for column in _VALUES["calls"].split(", "))
_NAMES = f"{names('calls_by_day')} SELECT name FROM names WHERE name IS NOT NULL LIMIT :names"  # noqa: S608 - fixed texts
_METER_TOTAL = "SELECT coalesce(sum(value), 0) FROM ({source}) WHERE meter = :meter"

Values = dict[str, Any]


def usage(connection: apsw.Connection, tenant: str, since_us: int, until_us: int) -> UsageReport:
    asked = _asked(UsageQuery((), since_us, until_us, tenant, sandbox=None)) | {"first": tenant, "last": tenant}
    routes: dict[str, UsageTotals] = {}
    statuses: dict[str, UsageTotals] = {}
    totals = sandbox = UsageTotals()
    unknown = 0
    with one_moment(connection):
        calls = connection.execute(calls_sql(("route", "status", "sandbox")), asked | {"limit": -1})
        for route, status, is_sandbox, *sums, indeterminate in calls:
            part = UsageTotals(*sums)
            if is_sandbox:
                sandbox = _add(sandbox, part)
                continue
            totals = _add(totals, part)
            routes[route] = _add(routes.get(route, UsageTotals()), part)
            statuses[status] = _add(statuses.get(status, UsageTotals()), part)
            unknown += indeterminate
        live = asked | {"sandbox": 0}
        meters = {meter: value for _, meter, value in connection.execute(details_sql("meters", ()), live)}
        latency = {bucket: calls for _, bucket, calls in connection.execute(details_sql("latency", ()), live)}
    return UsageReport(tenant, since_us, until_us, totals, routes, statuses, meters, latency, sandbox, unknown)


def usage_rows(connection: apsw.Connection, query: UsageQuery) -> list[UsageRow]:
    """ValueError when ``by``, ``after`` or ``limit`` is not as UsageQuery says."""
    times = [part for part in query.by if part in TIMES]
    if len(set(query.by)) != len(query.by) or len(times) > 1 or not set(query.by) <= {*PARTS, *TIMES}:
        raise ValueError(f"usage cannot be grouped by {', '.join(query.by)}")
    if query.after is not None and len(query.after) != len(query.by):
        raise ValueError("the group to start after has not the parts that are grouped by")
    if query.limit < 1:
        raise ValueError("a page has at least one row")
    rows: list[UsageRow] = []
    with one_moment(connection):
        for first, last in _stretches(connection, query):
            asked = _asked(query) | {"first": first, "last": last, "limit": query.limit - len(rows)}
            rows += _page(connection, query, asked)
            if len(rows) == query.limit:
                break
    return rows


def meter_total(
    connection: apsw.Connection, tenant: str, meter: str, since_us: int, until_us: int, sandbox: bool
) -> int:
    query = UsageQuery((), since_us, until_us, tenant, sandbox=sandbox)
    asked = _asked(query) | {"first": tenant, "last": tenant, "meter": meter}
    return int(connection.execute(_METER_TOTAL.format(source=_source("meters", ())), asked).get)


def calls_sql(by: tuple[str, ...], *, paged: bool = False) -> str:
    """Each group's calls, ascending, of the tenants from :first to :last; ``paged``: those after :low0, :low1, ..."""
    where = f"WHERE ({_list(by)}) > ({_bound('low', by)})" if paged else ""
    return f"""
        SELECT {_list(by)}, {_CALLS} FROM ({_source("calls", by)}) {where}
        GROUP BY {_ordinals(by)} ORDER BY {_ordinals(by)} LIMIT :limit
    """  # noqa: S608 - fixed texts


def details_sql(what: str, by: tuple[str, ...]) -> str:
    """The meters or the latency of the groups from :low0, ... to :high0, ...; without ``by`` of all there is."""
    name, value = _VALUES[what].split(", ")
    within = f"({_list(by)}) >= ({_bound('low', by)}) AND ({_list(by)}) <= ({_bound('high', by)})"
    return f"""
        SELECT {_list(by)}, {name}, sum({value}) FROM ({_source(what, by)}) {"WHERE " + within if by else ""}
        GROUP BY {_ordinals(by)}, {name}
    """  # noqa: S608 - fixed texts


def _page(connection: apsw.Connection, query: UsageQuery, asked: Values) -> list[UsageRow]:
    if query.after == ():
        return []  # the only group there is was on the page before
    parts = len(query.by)
    after = _values("low", query.after) if query.after else {}
    found: dict[Group, list[int]] = {}
    rows: Iterable[tuple[Any, ...]] = connection.execute(calls_sql(query.by, paged=bool(after)), asked | after)
    for row in rows:
        found[row[:parts]] = list(row[max(parts, 1) :])
    if not found:
        return []
    within = asked | _values("low", next(iter(found))) | _values("high", next(reversed(found)))
    meters: dict[Group, dict[str, int]] = {group: {} for group in found}
    latency: dict[Group, dict[int, int]] = {group: {} for group in found}
    for kept, what in ((meters, "meters"), (latency, "latency")):
        rows = connection.execute(details_sql(what, query.by), within)
        for row in rows:
            kept[row[:parts]][row[-2]] = row[-1]
    return [
        UsageRow(group, UsageTotals(*sums), unknown, meters[group], latency[group])
        for group, (*sums, unknown) in found.items()
    ]


def _stretches(connection: apsw.Connection, query: UsageQuery) -> Iterator[tuple[str, str | bytes]]:
    """The first and the last tenant to read together. Rows that are ordered by tenant first need no tenant beyond the
    page, so that a page of a million tenants' usage reads those of some hundred."""
    if query.tenant is not None:
        yield query.tenant, query.tenant
    elif query.by[:1] != ("tenant",):
        yield "", END
    else:
        first = str(query.after[0]) if query.after else ""
        while True:
            asked = {"first": first, "last": END, "names": _TENANTS_AT_ONCE}
            found = [name for (name,) in connection.execute(_NAMES, asked)]
            if not found:
                return
            yield found[0], found[-1]
            first = found[-1] + "\0"  # the next text there can be


def _source(what: str, by: tuple[str, ...]) -> str:
    periods = ["minute"] if "minute" in by else ["minute", "hour"] if "hour" in by else ["minute", "hour", "day"]
    coarsest = periods.pop()
    ranges = [_range(what, coarsest, f"{coarsest}_begin", f"{coarsest}_end")]
    for period in periods:
        ranges.append(_range(what, period, f"{period}_begin", f"{period}_head"))
        ranges.append(_range(what, period, f"{period}_tail", f"{period}_end"))
    return " UNION ALL ".join(ranges)


def _range(what: str, period: str, begin: str, end: str) -> str:
    table = f"{what}_by_{period}"
    return f"""
        SELECT {period} * {_MINUTES[period]} AS at, tenant, plan, key_id, route, status_class, sandbox, {_VALUES[what]}
        FROM ({names(table)} SELECT name FROM names) CROSS JOIN {table}
        WHERE tenant = name AND {period} >= :{begin} AND {period} < :{end}
            AND (:plan IS NULL OR plan = :plan) AND (:key IS NULL OR key_id = :key)
            AND (:route IS NULL OR route = :route) AND (:sandbox IS NULL OR sandbox = :sandbox)
    """  # noqa: S608 - names of tables and parameters


def _asked(query: UsageQuery) -> Values:
    """``<period>_begin`` and ``_end`` bound the whole periods within the time asked for; of those, what a longer period
    within it does not hold is from ``_begin`` to ``_head`` and from ``_tail`` to ``_end``."""
    asked: Values = {"plan": query.plan, "key": query.key, "route": query.route}
    asked["sandbox"] = None if query.sandbox is None else int(query.sandbox)
    begin, end = query.since_us // US_PER_MINUTE, query.until_us // US_PER_MINUTE
    for period, longer in (("minute", 60), ("hour", 24), ("day", 0)):
        asked |= {f"{period}_begin": begin, f"{period}_end": end, f"{period}_head": end, f"{period}_tail": end}
        if not longer:
            break
        within_begin, within_end = -(-begin // longer), end // longer
        if within_begin < within_end:
            asked |= {f"{period}_head": within_begin * longer, f"{period}_tail": within_end * longer}
            begin, end = within_begin, within_end
        else:
            begin = end = 0
    return asked


def _list(by: tuple[str, ...]) -> str:
    return ", ".join(_EXPRESSIONS[part] for part in by) or "NULL"


def _ordinals(by: tuple[str, ...]) -> str:
    return ", ".join(str(number + 1) for number in range(max(len(by), 1)))


def _bound(name: str, by: tuple[str, ...]) -> str:
    return ", ".join(f":{name}{number}" for number in range(len(by)))


def _values(name: str, group: Group) -> Values:
    return {f"{name}{number}": value for number, value in enumerate(group)}


def _add(left: UsageTotals, right: UsageTotals) -> UsageTotals:
    names = UsageTotals.__dataclass_fields__
    return UsageTotals(*(getattr(left, name) + getattr(right, name) for name in names))
