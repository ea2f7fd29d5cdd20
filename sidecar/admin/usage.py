"""Pages of grouped usage, from the ledger's sums."""

from collections.abc import AsyncIterator
from dataclasses import replace

from sidecar.admin.groups import parse_by, parse_sandbox
from sidecar.admin.spans import Span, has_minutes, summed_span
from sidecar.core.ports import Ledger, UsageQuery, UsageRow
from sidecar.core.units import format_duration_ns

MAX_PAGE = 1_000


def check_page(limit: int) -> None:
    """ValueError when a page of ``limit`` would be too long."""
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit must be from 1 to {MAX_PAGE}")


def usage_query(
    by: str,
    since: str,
    until: str | None,
    now_us: int,
    minute_sums_ns: int,
    *,
    tenant: str | None = None,
    plan: str | None = None,
    key: str | None = None,
    route: str | None = None,
    sandbox: str = "false",
) -> UsageQuery:
    """The query that these words ask for, over the range that the kept sums can answer."""
    parts = parse_by(by)
    span = summed_span(since, until, now_us, minute_sums_ns)
    if "minute" in parts and not has_minutes(span, now_us, minute_sums_ns):
        kept = format_duration_ns(minute_sums_ns)
        raise ValueError(f"sums per minute are kept for {kept}; group by hour, or begin later")
    return UsageQuery(parts, *span, tenant, plan, key, route, parse_sandbox(sandbox))


async def usage_page(ledger: Ledger, query: UsageQuery) -> tuple[list[UsageRow], bool]:
    """At most ``query.limit`` rows, and whether there are more."""
    rows = await ledger.usage_rows(replace(query, limit=query.limit + 1))
    return rows[: query.limit], len(rows) > query.limit


async def usage_pages(ledger: Ledger, query: UsageQuery) -> AsyncIterator[list[UsageRow]]:
    """All rows, ``query.limit`` of them in memory at a time."""
    while rows := await ledger.usage_rows(query):
        yield rows
        if len(rows) < query.limit:
            return
        query = replace(query, after=rows[-1].group)


def span_of(query: UsageQuery) -> Span:
    """The query's range."""
    return Span(query.since_us, query.until_us)
