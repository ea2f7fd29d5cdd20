"""Reports: plain functions of a connection that read sums and never an event.

A statement is put together from the fixed texts below; every value is bound. It reads whole hours from the sums per
hour and the ragged edges of the time asked for from those per minute: for one tenant a range of the primary key each,
for all of them a range of the index by time.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from sidecar.core.ports import PARTS, TIMES, Group, UsageQuery, UsageReport, UsageRow, UsageTotals
from sidecar.storage.postgres.connection import Connection
from sidecar.storage.postgres.texts import shown, stored

US_PER_MINUTE = 60_000_000
_TENANTS_AT_ONCE = 100
_EXPRESSIONS = {
    "tenant": "tenant",
    "plan": "plan",
    "key": "key_id",
    "route": "route",
    "status": "CASE status_class WHEN 0 THEN 'none' ELSE status_class::text || 'xx' END COLLATE \"C\"",
    "sandbox": "sandbox::bigint",
    "minute": "at",
    "hour": "at / 60 * 60",
    "day": "at / 1440 * 1440",
    "month": "extract(epoch FROM date_trunc('month', to_timestamp(at * 60) AT TIME ZONE 'UTC'))::bigint / 60",
}
_VALUES = {
    "calls": "requests, units, cost, bytes_in, bytes_out, total_us, upstream_us, indeterminate",
    "meters": "meter, value",
    "latency": "bucket, calls",
}
_CALLS = ", ".join(f"sum({column})" for column in _VALUES["calls"].split(", "))
# The next tenants that have sums, one look-up each: the loose index scan that PostgreSQL does not have.
_TENANTS = """
    WITH RECURSIVE names (name) AS (
        (SELECT tenant FROM sidecar.calls_by_hour WHERE tenant >= $1 ORDER BY tenant LIMIT 1)
        UNION ALL
        SELECT (SELECT tenant FROM sidecar.calls_by_hour WHERE tenant > name ORDER BY tenant LIMIT 1)
        FROM names WHERE name IS NOT NULL
    )
    SELECT name FROM (SELECT name FROM names LIMIT $2) AS found WHERE name IS NOT NULL
"""


@dataclass(slots=True)
class Statement:
    """A text with ``$n`` and the values for them."""

    query: UsageQuery
    tenants: tuple[str, str | None]  # the first and the last one, stored; None: no last one
    values: list[Any] = field(default_factory=list)

    def bind(self, value: Any, kind: str) -> str:
        """The placeholder of one more value."""
        self.values.append(value)
        return f"${len(self.values)}::{kind}"

    def bind_group(self, group: Group) -> str:
        parts = zip(self.query.by, group, strict=True)
        kinds = ((value, "bigint" if part in TIMES or part == "sandbox" else "text") for part, value in parts)
        return ", ".join(self.bind(stored(v) if isinstance(v, str) else v, kind) for v, kind in kinds)

    def calls(self, after: Group | None, limit: int) -> str:
        """Each group's calls, ascending, after that group."""
        by = self.query.by
        source = self._source("calls")
        where = f"WHERE ({_list(by)}) > ({self.bind_group(after)})" if after else ""
        return f"""
            SELECT {_list(by)}, {_CALLS} FROM ({source}) AS part {where}
            GROUP BY {_ordinals(by)} ORDER BY {_ordinals(by)} LIMIT {self.bind(limit, "bigint")}
        """  # noqa: S608 - fixed texts

    def details(self, what: str, low: Group, high: Group) -> str:
        """The meters or the latency of the groups from ``low`` to ``high``."""
        by, (name, value) = self.query.by, _VALUES[what].split(", ")
        source, where = self._source(what), ""
        if by:
            begin, end = self.bind_group(low), self.bind_group(high)
            where = f"WHERE ({_list(by)}) >= ({begin}) AND ({_list(by)}) <= ({end})"
        return f"""
            SELECT {_list(by)}, {name}, sum({value}) FROM ({source}) AS part {where}
            GROUP BY {_ordinals(by)}, {name}
        """  # noqa: S608 - fixed texts

    def meter_total(self, meter: str) -> str:
        source = self._source("meters")
        return f"SELECT sum(value) FROM ({source}) AS part WHERE meter = {self.bind(stored(meter), 'text')}"  # noqa: S608

    def _source(self, what: str) -> str:
        since, until = self.query.since_us // US_PER_MINUTE, self.query.until_us // US_PER_MINUTE
        first, last = -(-since // 60), until // 60
        if "minute" in self.query.by or first >= last:
            return self._range(what, "minute", since, until)
        arms = [self._range(what, "hour", first, last)]
        if since < first * 60:
            arms.append(self._range(what, "minute", since, first * 60))
        if last * 60 < until:
            arms.append(self._range(what, "minute", last * 60, until))
        return " UNION ALL ".join(arms)

    def _range(self, what: str, period: str, begin: int, end: int) -> str:
        at = "minute" if period == "minute" else "hour * 60"
        lowest, highest = self.tenants
        where = [f"{period} >= {self.bind(begin, 'bigint')}", f"{period} < {self.bind(end, 'bigint')}"]
        if lowest == highest:
            where.append(f"tenant = {self.bind(lowest, 'text')}")
        elif highest is not None:
            where.append(f"tenant >= {self.bind(lowest, 'text')} AND tenant <= {self.bind(highest, 'text')}")
        for column, value in (("plan", self.query.plan), ("key_id", self.query.key), ("route", self.query.route)):
            if value is not None:
                where.append(f"{column} = {self.bind(stored(value), 'text')}")
        if self.query.sandbox is not None:
            where.append(f"sandbox = {self.bind(int(self.query.sandbox), 'smallint')}")
        return f"""
            SELECT {at} AS at, tenant, plan, key_id, route, status_class, sandbox, {_VALUES[what]}
            FROM sidecar.{what}_by_{period} WHERE {" AND ".join(where)}
        """  # noqa: S608 - fixed texts


def check(query: UsageQuery) -> None:
    """ValueError when ``by``, ``after`` or ``limit`` is not as UsageQuery says."""
    times = [part for part in query.by if part in TIMES]
    if len(set(query.by)) != len(query.by) or len(times) > 1 or not set(query.by) <= {*PARTS, *TIMES}:
        raise ValueError(f"usage cannot be grouped by {', '.join(query.by)}")
    if query.after is not None and len(query.after) != len(query.by):
        raise ValueError("the group to start after has not the parts that are grouped by")
    for part, value in zip(query.by, query.after or (), strict=query.after is not None):
        if isinstance(value, str) is (part in TIMES or part == "sandbox"):
            raise ValueError(f"the group to start after has a wrong {part}")
    if query.limit < 1:
        raise ValueError("a page has at least one row")


async def usage(connection: Connection, tenant: str, since_us: int, until_us: int) -> UsageReport:
    query = UsageQuery(("route", "status", "sandbox"), since_us, until_us, tenant, sandbox=None)
    routes: dict[str, UsageTotals] = {}
    statuses: dict[str, UsageTotals] = {}
    totals = sandbox = UsageTotals()
    unknown = 0
    calls = _one_tenant(query)
    for row in await connection.fetch(calls.calls(None, 1 << 62), *calls.values):
        route, status, is_sandbox = shown(row[0]), row[1], row[2]
        *sums, indeterminate = map(int, row[3:])
        part = UsageTotals(*sums)
        if is_sandbox:
            sandbox = _add(sandbox, part)
            continue
        totals = _add(totals, part)
        routes[route] = _add(routes.get(route, UsageTotals()), part)
        statuses[status] = _add(statuses.get(status, UsageTotals()), part)
        unknown += indeterminate
    live = UsageQuery((), since_us, until_us, tenant)
    meters = {shown(row[1]): int(row[2]) for row in await _details(connection, live, "meters")}
    latency = {row[1]: int(row[2]) for row in await _details(connection, live, "latency")}
    return UsageReport(tenant, since_us, until_us, totals, routes, statuses, meters, latency, sandbox, unknown)


async def usage_rows(connection: Connection, query: UsageQuery) -> list[UsageRow]:
    rows: list[UsageRow] = []
    if query.after == ():
        return rows  # the only group there is was on the page before
    async for tenants in _stretches(connection, query):
        rows += await _page(connection, query, tenants, query.limit - len(rows))
        if len(rows) == query.limit:
            break
    return rows


async def meter_total(
    connection: Connection, tenant: str, meter: str, since_us: int, until_us: int, sandbox: bool
) -> int:
    statement = _one_tenant(UsageQuery((), since_us, until_us, tenant, sandbox=sandbox))
    return int(await connection.fetchval(statement.meter_total(meter), *statement.values) or 0)


async def _page(
    connection: Connection, query: UsageQuery, tenants: tuple[str, str | None], limit: int
) -> list[UsageRow]:
    parts = len(query.by)
    statement = Statement(query, tenants)
    found: dict[Group, list[int]] = {}
    for row in await connection.fetch(statement.calls(query.after, limit), *statement.values):
        if row[-1] is not None:  # without ``by`` there is a row even when there is no usage
            found[_group(row, parts)] = [int(value) for value in row[max(parts, 1) :]]
    if not found:
        return []
    meters: dict[Group, dict[str, int]] = {group: {} for group in found}
    latency: dict[Group, dict[int, int]] = {group: {} for group in found}
    low, high = next(iter(found)), next(reversed(found))
    for what in ("meters", "latency"):
        statement = Statement(query, tenants)
        for row in await connection.fetch(statement.details(what, low, high), *statement.values):
            group = _group(row, parts)
            if what == "meters":
                meters[group][shown(row[-2])] = int(row[-1])
            else:
                latency[group][row[-2]] = int(row[-1])
    return [
        UsageRow(group, UsageTotals(*sums), unknown, meters[group], latency[group])
        for group, (*sums, unknown) in found.items()
    ]


async def _stretches(connection: Connection, query: UsageQuery) -> AsyncIterator[tuple[str, str | None]]:
    """The first and the last tenant to read together. Rows that are ordered by tenant first need no tenant beyond the
    page, so that a page of a million tenants' usage reads those of some hundred."""
    if query.tenant is not None:
        yield stored(query.tenant), stored(query.tenant)
    elif query.by[:1] != ("tenant",):
        yield "", None
    else:
        first = stored(str(query.after[0])) if query.after else ""
        while found := await connection.fetch(_TENANTS, first, _TENANTS_AT_ONCE):
            yield found[0][0], found[-1][0]
            first = found[-1][0] + "\x01"  # before the next text there can be


def _one_tenant(query: UsageQuery) -> Statement:
    name = stored(query.tenant or "")
    return Statement(query, (name, name))


async def _details(connection: Connection, query: UsageQuery, what: str) -> list[Any]:
    statement = _one_tenant(query)
    rows: list[Any] = await connection.fetch(statement.details(what, (), ()), *statement.values)
    return rows


def _group(row: Any, parts: int) -> Group:
    return tuple(shown(value) if isinstance(value, str) else value for value in row[:parts])


def _list(by: tuple[str, ...]) -> str:
    return ", ".join(_EXPRESSIONS[part] for part in by) or "NULL"


def _ordinals(by: tuple[str, ...]) -> str:
    return ", ".join(str(number + 1) for number in range(max(len(by), 1)))


def _add(left: UsageTotals, right: UsageTotals) -> UsageTotals:
    names = UsageTotals.__dataclass_fields__
    return UsageTotals(*(getattr(left, name) + getattr(right, name) for name in names))
