"""What operators ask the ledger: a tenant's usage, grouped usage, exports, margins. Nothing here changes anything.

Every method but ``export`` returns a dict that JSON can hold. Errors: NotFound and StoreError, and ValueError with a
sentence that says what to write instead. The ledger catches up with the journal before it is read.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from sidecar.admin import margins, shapes
from sidecar.admin.accounts import MarginBooks, tenant_accounts
from sidecar.admin.exports import PAGE, Export, export_events, export_usage
from sidecar.admin.groups import cursor, named, read_cursor
from sidecar.admin.owners import tenant_named
from sidecar.admin.periods import OWN, Stretch, calendar_cycle
from sidecar.admin.spans import (
    Span,
    exact_span,
    has_minutes,
    month_span,
    running_minute_us,
    summed_span,
    whole_hours,
)
from sidecar.admin.usage import check_page, span_of, usage_page, usage_query
from sidecar.core.accounts import standing
from sidecar.core.clock import Clock
from sidecar.core.errors import NotFound
from sidecar.core.periods import period_bounds
from sidecar.core.policy import Snapshot
from sidecar.core.ports import Ledger, UsageQuery
from sidecar.core.units import format_duration_ns
from sidecar.core.values import Tenant
from sidecar.metering import parse_buffer, period_parts, price_of

MAX_MONTHS = 36  # of one margin: more is a mistake, and a tenant's sums by month and route are held in memory
_NS_PER_US = 1_000


class Reports:
    """``flush`` waits until the ledger holds every call that has ended."""

    def __init__(
        self,
        store: MarginBooks,
        ledger: Ledger,
        snapshot: Callable[[], Snapshot],
        clock: Clock,
        flush: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._snapshot = snapshot
        self._clock = clock
        self._flush = flush

    async def usage(self, tenant: str, *, since: str = "1d", until: str | None = None) -> dict[str, Any]:
        """The tenant's usage between two instants, each a duration before now or an ISO 8601 time, widened to what sums
        can answer; ``since`` and ``until`` of the reply say to what.

        ``cost`` is in micro-units of ``currency``. ``month`` prices the running calendar month (UTC) by the plan that
        is paid for.
        """
        now_us, snapshot = self._now_us(), self._snapshot()
        since_us, until_us = summed_span(since, until, now_us, snapshot.settings.minute_sums_ns)
        await self._flush()
        report = await self._ledger.usage(tenant, since_us=since_us, until_us=until_us)
        try:
            owner, _ = await tenant_named(self._snapshot(), self._store, tenant)
        except NotFound:
            # A tenant that was removed keeps its usage.
            if not (report.totals.requests or report.sandbox.requests or report.indeterminate):
                raise
            return shapes.usage(report, snapshot.costs.currency)
        month = await self._month(standing(owner, await self._store.account(tenant)), now_us)
        return shapes.usage(report, snapshot.costs.currency) | month

    async def usage_by(
        self,
        *,
        by: str,
        since: str = "1d",
        until: str | None = None,
        after: str | None = None,
        limit: int = 100,
        **narrowed: str,
    ) -> dict[str, Any]:
        """A page of usage grouped by parts such as ``tenant,day``; ``next`` leads to the next page, None at the end.

        ``narrowed``: ``tenant``, ``plan``, ``key``, ``route``, and ``sandbox`` (``true``, ``false`` or ``any``).
        ``after`` keeps the range of the first page, whatever ``since`` and ``until`` say then.
        """
        check_page(limit)
        query = replace(self._query(by, since, until, narrowed), limit=limit)
        if after is not None:
            span, group = read_cursor(after, query.by)
            query = replace(query, since_us=span.since_us, until_us=span.until_us, after=group)
        await self._flush()
        rows, more = await usage_page(self._ledger, query)
        if not rows:
            await self._must_be_meant(query)
        return {
            "by": list(query.by),
            **span_of(query).texts(),
            "cost_unit": "micros",
            "currency": self._snapshot().costs.currency,
            "rows": [{"group": named(query.by, row.group)} | shapes.usage_row(row) for row in rows],
            "next": cursor(query.by, span_of(query), rows[-1].group) if more else None,
        }

    async def export(
        self,
        *,
        what: str,
        format: str,
        since: str = "1d",
        until: str | None = None,
        by: str | None = None,
        **narrowed: str,
    ) -> Export:
        """A file of ``events`` or of ``usage`` grouped by ``by`` (``tenant,route,day``), streamed."""
        now_us, currency = self._now_us(), self._snapshot().costs.currency
        query = None
        if what == "events":
            if by is not None or narrowed.keys() - {"tenant"}:
                raise ValueError("events are single calls: they take a tenant, since and until, and nothing else")
            span, tenant = self._kept(exact_span(since, until, now_us), now_us), narrowed.get("tenant")
            export = export_events(self._ledger, format, tenant, span, currency)
        elif what == "usage":
            query = replace(self._query(by or "tenant,route,day", since, until, narrowed), limit=PAGE)
            export = export_usage(self._ledger, format, query, currency)
        else:
            raise ValueError(f"what is {what!r}; write events or usage")
        await self._flush()
        if query is not None:
            await self._must_be_meant(query)
        elif tenant is not None:
            await self._must_be_known(tenant, span)
        return export

    async def margin(
        self,
        *,
        by: str | None = None,
        tenant: str | None = None,
        since: str | None = None,
        until: str | None = None,
        month: str | None = None,
        period: str | None = None,
        buffer: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> dict[str, Any]:
        """Revenue, cost and margin by ``tenant`` (in pages), ``plan``, ``route`` or ``month``, and the price floor.

        The time is ``month`` (``2026-11``), ``period`` as of ``usage``, or from ``since`` to ``until``; without any it
        is the running month. With the period ``billing`` or ``previous`` each tenant is shown by its own, ``by`` is
        ``tenant`` unless said, and the floor is that of the calendar month. ``next`` leads to the next page of tenants,
        None at the end.
        """
        check_page(limit)
        own = period in OWN
        by = by or ("tenant" if own else "plan")
        if by not in margins.VIEWS:
            raise ValueError(f"margins are not kept by {by!r}; write one of {', '.join(margins.VIEWS)}")
        if after is not None and by != "tenant":
            raise ValueError("after leads through tenants; write by=tenant")
        now_ns, snapshot, name = self._clock.wall_ns(), self._snapshot(), None
        stretch = self._stretch(since, until, month, period)
        part = snapshot.costs.buffer if buffer is None else parse_buffer(buffer)
        pages = ("tenant", str(period)) if own else ("tenant",)
        if after is not None:
            span, (name, *_) = read_cursor(after, pages)
            stretch = stretch._replace(span=span)
        await self._flush()
        currency, common = margins.currency(snapshot), stretch.of("month")
        floor = margins.Floor(await margins.whole_account(self._ledger, common), common, part, currency)
        if tenant is not None:
            await self._must_be_known(tenant, common)
        first = None if name is None else str(name)
        accounts = tenant_accounts(self._store, self._ledger, snapshot, stretch, now_ns, tenant=tenant, after=first)
        if by == "tenant":
            found, more = await margins.paged(accounts, limit, floor, spans=own)
            last = (found["rows"][-1]["tenant"], "")[: len(pages)] if more else ()
            found["next"] = cursor(pages, stretch.span, last) if more else None
        else:
            found = await margins.summed(accounts, by, floor)
        times = {"since": None, "until": None} if own else stretch.span.texts()
        head = {"by": by, "period": period, **times, "cost_unit": "micros", "currency": currency}
        return head | found | floor.document()

    def _stretch(self, since: str | None, until: str | None, month: str | None, period: str | None) -> Stretch:
        now_us, kept_ns = self._now_us(), self._snapshot().settings.minute_sums_ns
        if len([one for one in (since, month, period) if one is not None]) > 1:
            raise ValueError("month, period and since exclude each other")
        if since is not None:
            span = summed_span(since, until, now_us, kept_ns)
        elif until is not None:
            raise ValueError("until needs since")
        elif period is not None and period not in OWN:
            start_ns, end_ns = period_bounds(calendar_cycle(period), now_us * _NS_PER_US)
            span = Span(start_ns // _NS_PER_US, min(end_ns // _NS_PER_US, running_minute_us(now_us)))
        else:
            span = month_span(month or shapes.time_text(now_us * _NS_PER_US)[:7], now_us)
        parts = period_parts(*span)
        if len(parts) > MAX_MONTHS:
            raise ValueError(f"{len(parts)} months are too many; ask for at most {MAX_MONTHS}")
        # What was used earlier in the first month counts too, and may be kept by the hour alone.
        if not has_minutes(Span(parts[0].start_us, span.until_us), now_us, kept_ns):
            span = whole_hours(span)
        return Stretch(span, period if period in OWN else None)

    def _query(self, by: str, since: str, until: str | None, narrowed: dict[str, str]) -> UsageQuery:
        kept_ns = self._snapshot().settings.minute_sums_ns
        return usage_query(by, since, until, self._now_us(), kept_ns, **narrowed)

    def _kept(self, span: Span, now_us: int) -> Span:
        kept_ns = self._snapshot().settings.raw_events_ns
        if span.since_us < now_us - kept_ns // _NS_PER_US:
            kept = format_duration_ns(kept_ns)
            raise ValueError(f"single events are kept for {kept}; begin later, or export usage")
        return span

    async def _must_be_known(self, tenant: str, span: Span) -> None:
        """NotFound when the tenant neither exists nor left any usage (one that was removed keeps its usage)."""
        try:
            await tenant_named(self._snapshot(), self._store, tenant)
        except NotFound:
            query = UsageQuery(("tenant",), *whole_hours(span), tenant=tenant, sandbox=None, limit=1)
            if not await self._ledger.usage_rows(query):
                raise

    async def _must_be_meant(self, query: UsageQuery) -> None:
        """NotFound or ValueError when the query is narrowed to a name that nobody defined and that left no usage."""
        snapshot, span = self._snapshot(), whole_hours(span_of(query))
        if query.tenant is not None:
            await self._must_be_known(query.tenant, span)
        defined = {"plan": list(snapshot.plans), "route": [route.name for route in snapshot.routes]}
        for part, names in defined.items():
            name = getattr(query, part)
            if name is None or name in names:
                continue
            asked = replace(UsageQuery((part,), *span, sandbox=None, limit=1), **{part: name})
            if not await self._ledger.usage_rows(asked):
                near = get_close_matches(name, names, 1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ValueError(
                    f"there is no {part} {name!r}; {hint}{part.capitalize()}s: {', '.join(sorted(names)) or 'none'}"
                )

    async def _month(self, tenant: Tenant, now_us: int) -> dict[str, Any]:
        plan = self._snapshot().plans.get(tenant.plan)
        if plan is None or plan.price is None:
            return {}
        start_ns, end_ns = period_bounds("month", now_us * _NS_PER_US)
        totals = {
            part.meter: await self._ledger.meter_total(
                tenant.name,
                part.meter,
                since_us=start_ns // _NS_PER_US,
                until_us=end_ns // _NS_PER_US,
                sandbox=False,
            )
            for part in plan.price.meters
        }
        price = str(price_of(plan.price, totals))
        return {"month": {"period": shapes.time_text(start_ns)[:7], "price": price, "meters": totals}}

    def _now_us(self) -> int:
        return self._clock.wall_ns() // _NS_PER_US
