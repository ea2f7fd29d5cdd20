"""Three books of the same calls, and what must hold between them.

==========  ==========================================================================================
client      every answer that a client saw whole: event id, status, body bytes (``load.ClientBook``)
upstream    every call that ran: event id and the client's number of it
ledger      the events that are kept, and the sums over them (``LedgerBook``)
==========  ==========================================================================================
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sidecar.core.latency import MAX_US, bucket_index
from sidecar.core.ports import UsageReport, UsageRow
from sidecar.core.records import ANOMALY, UsageRecord
from tests.chaos.load import ClientBook

UpstreamBook = list[tuple[str, int]]  # event id, the client's call
_SHOWN = 5  # examples per kind of violation
_SUMS = ("units", "cost", "bytes_in", "bytes_out", "total_us", "upstream_us")


@dataclass(frozen=True, slots=True)
class LedgerBook:
    """What the store says: single events, sums per minute and per hour by tenant, key, route, status and sandbox, a
    usage report per tenant over all time, and how many records were set aside as malformed."""

    events: list[UsageRecord]
    minutes: list[UsageRow]
    hours: list[UsageRow]
    reports: list[UsageReport]
    rejected: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was compared, and every violation in a sentence with some examples."""

    answers: int
    ran: int
    events: int
    indeterminate: int
    in_flight: int
    lost: int
    doubled: int
    unearned: int
    violations: tuple[str, ...]


def read_upstream(path: Path) -> UpstreamBook:
    """The upstream's log. A last line without its end was being written."""
    lines = path.read_text().split("\n")[:-1]
    return [(event_id, int(call)) for event_id, _, call in (line.partition(" ") for line in lines)]


def judge(client: ClientBook, upstream: UpstreamBook, ledger: LedgerBook, may_bill: frozenset[str]) -> Verdict:
    """Compares the books. ``may_bill``: routes that bill calls whose end is not known, whether they ran or not."""
    times = Counter(event.event_id for event in ledger.events)
    known = {event.event_id: event for event in ledger.events}
    ran = dict(upstream)
    answered = {answer.event_id for answer in client.answers if answer.ran}
    lost = _lost(client, known)
    missing = [event_id for event_id in ran if event_id not in known]
    doubled = [event_id for event_id, count in times.items() if count > 1]
    unearned = [e for e in ledger.events if _billed(e) and e.event_id not in ran and not _allowed(e, may_bill)]
    unknown = [event for event in ledger.events if event.outcome == "indeterminate"]
    explained = [e for e in unknown if e.event_id in ran and ran[e.event_id] not in client.unanswered]
    found = (
        ("an answer seen whole is not in the ledger as it was seen", lost),
        ("a call that ran is not in the ledger", missing),
        ("an event is in the ledger more than once", doubled),
        ("a call that did not run is billed", [event.event_id for event in unearned]),
        ("a call is indeterminate although its answer was seen whole", [event.event_id for event in explained]),
        ("a refusal of the sidecar is billed", _refusals(client, known)),
        ("an answer came from the upstream, which knows nothing of it", [e for e in answered if e not in ran]),
        ("sums differ from the events", list(sums_differ(ledger))),
    )
    violations = [f"{len(cases)} x {text}: {'; '.join(cases[:_SHOWN])}" for text, cases in found if cases]
    if len(unknown) > client.in_flight:
        violations.append(
            f"{len(unknown)} calls are indeterminate, only {client.in_flight} were in flight at the kills"
        )
    if ledger.rejected:
        violations.append(f"{ledger.rejected} records were set aside as malformed")
    return Verdict(
        answers=len(client.answers),
        ran=len(ran),
        events=len(ledger.events),
        indeterminate=len(unknown),
        in_flight=client.in_flight,
        lost=len(lost) + len(missing),
        doubled=len(doubled),
        unearned=len(unearned),
        violations=tuple(violations),
    )


def _lost(client: ClientBook, known: dict[str, UsageRecord]) -> list[str]:
    cases = []
    for seen in client.answers:
        event = known.get(seen.event_id)
        if not seen.ran:
            continue
        if event is None:
            cases.append(f"{seen.event_id} is missing")
            continue
        wanted = ("ok", seen.status, seen.sent, seen.got, seen.tenant, seen.sandbox)
        found = (event.outcome, event.status, event.bytes_in, event.bytes_out, event.tenant, event.sandbox)
        if wanted != found or (seen.status < 400 and event.meters.get("requests") != 1):
            cases.append(f"{seen.event_id} was seen as {wanted}, is {found} with {event.meters}")
    return cases


def _refusals(client: ClientBook, known: dict[str, UsageRecord]) -> list[str]:
    """The sidecar's own answers: not in the ledger, or there as a call that failed and costs nothing."""
    cases = []
    for seen in client.answers:
        event = None if seen.ran else known.get(seen.event_id)
        if event is not None and (event.outcome != "upstream_failed" or _billed(event)):
            cases.append(f"{seen.event_id} got {seen.status}, is {event.outcome} with {event.units} units")
    return cases


def _billed(event: UsageRecord) -> bool:
    return event.units > 0 or any(value for name, value in event.meters.items() if not name.endswith(ANOMALY))


def _allowed(event: UsageRecord, may_bill: frozenset[str]) -> bool:
    return event.outcome == "indeterminate" and event.route in may_bill


# Sums -----------------------------------------------------------------------------------------------------------------


def sums_differ(ledger: LedgerBook) -> Iterator[str]:
    """Every sum that is not that of its events."""
    yield from _rows(ledger.minutes, ledger.events, lambda event: event.ended_us // 60_000_000)
    yield from _rows(ledger.hours, ledger.events, lambda event: event.ended_us // 3_600_000_000 * 60)
    reported = {report.tenant: report for report in ledger.reports}
    for tenant in {event.tenant for event in ledger.events} | set(reported):
        mine = [event for event in ledger.events if event.tenant == tenant]
        yield from _report(tenant, reported[tenant], mine)


def _rows(rows: list[UsageRow], events: list[UsageRecord], time: Callable[[UsageRecord], int]) -> Iterator[str]:
    groups: dict[tuple[str | int, ...], list[UsageRecord]] = defaultdict(list)
    for e in events:
        groups[(e.tenant, e.key_id, e.route, _status(e), int(e.sandbox), time(e))].append(e)
    seen = {row.group: row for row in rows}
    if len(seen) != len(rows):
        yield "a group has several rows"
    for group in groups.keys() | seen.keys():
        wanted = sums_of(groups.get(group, []))
        row = seen.get(group)
        found = None if row is None else (_totals(row), row.indeterminate, _present(row.meters), dict(row.latency))
        if found != wanted:
            yield f"{group}: the events make {wanted}, the sums say {found}"


def sums_of(events: Iterable[UsageRecord]) -> tuple[tuple[int, ...], int, dict[str, int], dict[int, int]]:
    """Totals in the order of UsageTotals, indeterminate calls, meters that are not zero, histogram of total_us
    of the calls whose end is known."""
    events = list(events)
    meters: Counter[str] = Counter()
    for event in events:
        meters.update(event.meters)
    totals = (len(events), *(sum(getattr(event, name) for event in events) for name in _SUMS))
    unknown = sum(event.outcome == "indeterminate" for event in events)
    return (
        totals,
        unknown,
        _present(meters),
        dict(Counter(bucket_index(min(e.total_us, MAX_US)) for e in events if e.outcome != "indeterminate")),
    )


def _report(tenant: str, report: UsageReport, events: list[UsageRecord]) -> Iterator[str]:
    live = [event for event in events if not event.sandbox]
    totals, unknown, meters, latency = sums_of(live)
    if (_totals(report), report.indeterminate, _present(report.meters), dict(report.latency)) != (
        totals,
        unknown,
        meters,
        latency,
    ):
        yield f"the report of {tenant} says {report}, the events make {totals}, {unknown}, {meters}"
    tried = sums_of(event for event in events if event.sandbox)[0]
    sandbox = report.sandbox
    if tuple(getattr(sandbox, name) for name in ("requests", *_SUMS)) != tried:
        yield f"the report of {tenant} has {sandbox} of test keys, the events make {tried}"
    for split in (report.routes, report.statuses):
        if tuple(sum(getattr(part, name) for part in split.values()) for name in ("requests", *_SUMS)) != totals:
            yield f"the parts of the report of {tenant} do not make its whole: {split}"


def _totals(row: UsageRow | UsageReport) -> tuple[int, ...]:
    return tuple(getattr(row.totals, name) for name in ("requests", *_SUMS))


def _present(meters: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in meters.items() if value}


def _status(event: UsageRecord) -> str:
    return f"{event.status // 100}xx" if event.status else "none"
