"""Where the payee's sum of a period differs: hour by hour, and in those hours row by row."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from sidecar.billing.reconcile.differences import Difference
from sidecar.core.billing import OutboxRow, Period, RowQuery, Sums
from sidecar.core.billing_store import BillingStore

THERE = ("accepted", "verified")
UNDER_WAY = ("pending", "sent")
MOST_MINUTES = 200  # looked up for one line of a report: the payee answers five a second
_HOURS = 96  # of one reading
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Pair:
    """A customer and a meter, in one period. ``tenant``: the one whose line this is."""

    tenant: str
    customer: str
    meter: str
    event_name: str
    period: Period

    def difference(
        self, kind: str, ours: int | None, theirs: int | None, minute: int | None = None, note: str = ""
    ) -> Difference:
        return Difference(kind, self.tenant, self.customer, self.meter, ours, theirs, minute, note)


async def rows_of(store: BillingStore, query: RowQuery) -> AsyncIterator[OutboxRow]:
    """All of them, read page by page."""
    after = 0
    while True:
        page = await store.rows(replace(query, after=after, limit=_PAGE))
        for row in page:
            yield row
        if len(page) < _PAGE:
            return
        after = page[-1].id


async def drill(store: BillingStore, sums: Sums, pair: Pair) -> list[Difference]:
    """What explains the difference. Hours on the period's edges hold rows of its neighbours too: all count."""
    stamps = pair.period.stamps
    found: list[Difference] = []
    left = MOST_MINUTES
    first, last = stamps.start // 60, -(-stamps.stop // 60)
    for begin in range(first, last, _HOURS):
        end = min(begin + _HOURS, last)
        theirs = await sums.hours(pair.event_name, pair.customer, begin, end)
        for hour, rows in sorted((await _by_hour(store, pair, begin, end, set(theirs))).items()):
            told = await _compare(sums, pair, hour, rows, theirs.get(hour, 0), left)
            left -= len(rows) if told else 0
            found += told
    return found


async def _by_hour(
    store: BillingStore, pair: Pair, begin: int, end: int, hours: set[int]
) -> dict[int, list[OutboxRow]]:
    rows: dict[int, list[OutboxRow]] = {hour: [] for hour in hours}
    query = RowQuery(
        customer=pair.customer,
        event_name=pair.event_name,
        states=(*THERE, *UNDER_WAY),
        since=begin * 60,
        until=end * 60,
    )
    async for row in rows_of(store, query):
        rows.setdefault(row.minute // 60, []).append(row)
    return rows


async def _compare(
    sums: Sums, pair: Pair, hour: int, rows: list[OutboxRow], theirs: int, left: int
) -> list[Difference]:
    if any(row.hourly for row in rows):
        return _compare_totals(pair, hour, rows, theirs)
    certain = sum(row.value for row in rows if row.state in THERE)
    if certain <= theirs <= sum(row.value for row in rows):
        return []
    if len(rows) > left:
        kind = "missing" if theirs < certain else "foreign"
        return [
            pair.difference(kind, certain, theirs, hour * 60, "the whole hour: too much differs to look at each row")
        ]
    found, explained = [], 0
    for row in rows:
        there = await sums.total(pair.event_name, pair.customer, row.minute, row.minute + 1)
        explained += there
        if there != row.value and not (there == 0 and row.state in UNDER_WAY):
            kind = "missing" if there == 0 else "duplicate" if there % row.value == 0 else "conflict"
            found.append(pair.difference(kind, row.value, there, row.minute, f"row {row.id}"))
    if theirs != explained:
        found.append(pair.difference("foreign", explained, theirs, hour * 60, "beside our rows of this hour"))
    return found


def _compare_totals(pair: Pair, hour: int, rows: list[OutboxRow], theirs: int) -> list[Difference]:
    """Of an hour's totals the newest alone counts, whatever became of the others."""
    newest = max(rows, key=lambda row: row.version)
    if theirs == newest.value or newest.state in UNDER_WAY:
        return []
    kind = "missing" if theirs == 0 else "conflict"
    return [pair.difference(kind, newest.value, theirs, hour * 60, f"row {newest.id}")]
