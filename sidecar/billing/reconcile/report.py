"""A report over a billing period that somebody can sign: what was used, sent, taken, and where these differ.

Everything is read anew, nothing is changed: ledger, outbox, and the payee's sums, first of the whole period, then of
its hours where that differs, then of our rows' minutes in those hours.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from sidecar.billing.outbox.windows import Terms, is_open
from sidecar.billing.reconcile.differences import WAITING, Difference
from sidecar.billing.reconcile.drill import THERE, UNDER_WAY, Pair, drill, rows_of
from sidecar.core.accounts import Account, Bills
from sidecar.core.billing import Bill, OutboxRow, Period, RowQuery, Sums
from sidecar.core.billing_store import BillingStore
from sidecar.core.clock import NS_PER_S, Clock
from sidecar.core.errors import Conflict, SidecarError, StoreError

_STATES = (*THERE, *UNDER_WAY, *WAITING)


class Book(BillingStore, Protocol):
    """A billing store that holds the ledger too."""

    async def meter_total(self, tenant: str, meter: str, *, since_us: int, until_us: int, sandbox: bool) -> int: ...


@dataclass(frozen=True, slots=True)
class Invoiced:
    """What an invoice asks for by one meter. ``number``: as printed, None while it has none; ``quantity``: in units,
    None while a draft has no line for it; ``final``: it cannot be changed any more."""

    id: str
    number: str | None
    quantity: int | None
    final: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One meter of one tenant in one period, in units of the meter. ``under_way``: not yet answered, or the outcome is
    unknown. ``waiting``: for a person. ``payee`` None: it could not be read, or has no sums. These five, and what is
    invoiced, are the customer's, of all its tenants. ``invoice`` None: there is none over this period yet."""

    tenant: str
    customer: str
    meter: str
    event_name: str
    period: Period
    ledger: int
    assigned: int
    under_way: int
    accepted: int
    verified: int
    waiting: int
    payee: int | None
    differences: tuple[Difference, ...]
    invoice: Invoiced | None = None

    @property
    def agrees(self) -> bool:
        return not self.differences


@dataclass(frozen=True, slots=True)
class Report:
    """``digest``: of digest_of."""

    at_s: int
    instance: str
    lines: tuple[Line, ...]

    def as_dict(self) -> dict[str, Any]:
        body = {"at_s": self.at_s, "instance": self.instance, "lines": [_plain(line) for line in self.lines]}
        return body | {"digest": digest_of(body)}


def digest_of(report: Mapping[str, Any]) -> str:
    """SHA-256 over ``at_s``, ``instance`` and ``lines`` as JSON with sorted keys and no spaces. KeyError without one of
    them."""
    signed = {name: report[name] for name in ("at_s", "instance", "lines")}
    text = json.dumps(signed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Reporter:
    """``meters``: meter to event name. ``sums`` None: the payee has none, so that the book is compared with itself;
    ``bills`` None: it has no invoices."""

    def __init__(
        self,
        store: Book,
        sums: Sums | None,
        meters: Mapping[str, str],
        clock: Clock,
        *,
        terms: Terms | None = None,
        bills: Bills | None = None,
    ) -> None:
        self._bills = bills
        self._terms = terms or Terms()
        self._store = store
        self._sums = sums
        self._meters = meters
        self._clock = clock

    async def report(self, accounts: AsyncIterator[Account], chosen: "Choice") -> Report:
        """Of those periods of the accounts that ``chosen`` picks. StoreError."""
        now_s = self._clock.wall_ns() // NS_PER_S
        lines: list[Line] = []
        async for account in accounts:
            for period in chosen(account, now_s):
                bill, fault = await self._bill(account, period, now_s)
                for meter, event_name in self._meters.items():
                    line = await self.line(account, meter, event_name, period, now_s)
                    lines.append(_invoiced(line, bill, fault))
        return Report(now_s, await self._store.instance(), tuple(lines))

    async def _bill(self, account: Account, period: Period, now_s: int) -> tuple[Bill | None, str]:
        """The invoice over the period, once that is over, or why it cannot be read. StoreError."""
        if self._bills is None or now_s < period.end_s:
            return None, ""
        try:
            return await self._bills.bill(account, period), ""
        except StoreError:
            raise
        except SidecarError as error:
            return None, str(error)

    async def destination(self, row: OutboxRow, account: Account | None) -> Period:
        """Where usage of a row that waits for a person may be asked for anew: in its own period while that is open,
        else in the running one. Conflict when the payee may have it already, or there is no such period. SidecarError
        when the payee cannot be asked."""
        now_s = self._clock.wall_ns() // NS_PER_S
        tried = row.first_attempt_ns is not None or row.state == "conflict"
        if tried and self._sums is not None:
            there = await self._sums.total(row.event_name, row.customer, row.minute, row.minute + 1)
            if there:
                raise Conflict(
                    f"the payee has {there} in this row's minute; settle that there first, then drop the row"
                )
        elif tried:
            raise Conflict("the payee may have it, and has no sums to look at; retry the row, or drop it")
        running = account.periods[-1] if account is not None and account.periods else None
        if account is not None and account.customer == row.customer and is_open(row.period, now_s, self._terms):
            return row.period
        if running is None or not running.start_s <= now_s < running.end_s:
            raise Conflict(f"the tenant {row.tenant} has no open period to carry usage into")
        return running

    async def line(self, account: Account, meter: str, event_name: str, period: Period, now_s: int) -> Line:
        """Usage of the last half hour may be unassigned yet: that is no difference."""
        tenant, customer = account.tenant, account.customer
        owned = account.minutes_of(period)
        end = max(owned.start, min(owned.stop, now_s // 60 - 30))
        of_states = {state: await self._of_state(customer, event_name, period, state) for state in _STATES}
        settled = await self._held(tenant, meter, owned.start, end)
        ledger, assigned = await self._held(tenant, meter, owned.start, owned.stop)
        found: list[Difference] = []
        if settled[0] != settled[1]:
            kind = "unassigned" if settled[0] > settled[1] else "overassigned"
            found.append(Difference(kind, tenant, customer, meter, *settled))
        found += await self._strays(account, meter, event_name, period)
        ours = sum(of_states[state] for state in THERE)
        under_way = sum(of_states[state] for state in UNDER_WAY)
        payee, told = await self._at_payee(Pair(tenant, customer, meter, event_name, period), ours, under_way)
        return Line(
            tenant=tenant,
            customer=customer,
            meter=meter,
            event_name=event_name,
            period=period,
            ledger=ledger,
            assigned=assigned,
            under_way=under_way,
            accepted=of_states["accepted"],
            verified=of_states["verified"],
            waiting=sum(of_states[state] for state in WAITING),
            payee=payee,
            differences=(*found, *told),
        )

    async def _held(self, tenant: str, meter: str, begin: int, end: int) -> tuple[int, int]:
        """What the ledger holds of these minutes that somebody is asked for, and what was assigned of them."""
        since_us, until_us = begin * 60_000_000, end * 60_000_000
        ledger = await self._store.meter_total(tenant, meter, since_us=since_us, until_us=until_us, sandbox=False)
        excused = await self._store.excused(tenant, meter, begin=begin, end=end)
        return ledger - excused, await self._store.assigned(tenant, meter, begin=begin, end=end)

    async def _of_state(self, customer: str, event_name: str, period: Period, state: str) -> int:
        stamps = period.stamps
        sums = await self._store.row_sums(
            customer=customer, event_name=event_name, begin=stamps.start, end=stamps.stop, states=(state,)
        )
        return sum(sums.values())

    async def _strays(self, account: Account, meter: str, event_name: str, period: Period) -> list[Difference]:
        """Rows of the tenant that stand for another customer, or that were carried here."""
        found = []
        stamps = period.stamps
        async for row in rows_of(
            self._store, RowQuery(tenant=account.tenant, event_name=event_name, since=stamps.start, until=stamps.stop)
        ):
            kind = _stray_kind(row, account, period)
            if kind and row.state in (*THERE, *UNDER_WAY):
                found.append(Difference(kind, row.tenant, row.customer, meter, row.value, None, row.minute, row.note))
            elif row.state in WAITING:
                note = f"row {row.id}: {row.note}"
                kind = WAITING[row.state]
                found.append(Difference(kind, row.tenant, row.customer, meter, row.value, None, row.minute, note))
        return found

    async def _at_payee(self, pair: Pair, ours: int, under_way: int) -> tuple[int | None, list[Difference]]:
        if self._sums is None:
            return None, []
        stamps = pair.period.stamps
        try:
            theirs = await self._sums.total(pair.event_name, pair.customer, stamps.start, stamps.stop)
            if ours <= theirs <= ours + under_way:
                return theirs, []
            return theirs, await drill(self._store, self._sums, pair)
        except StoreError:
            raise
        except SidecarError as error:
            return None, [pair.difference("unreadable", ours, None, note=str(error))]


def _invoiced(line: Line, bill: Bill | None, fault: str) -> Line:
    """With the invoice, and with what it asks for where that is another quantity than the payee's own sum."""
    pair = Pair(line.tenant, line.customer, line.meter, line.event_name, line.period)
    if fault:
        return replace(line, differences=(*line.differences, pair.difference("unreadable", None, None, note=fault)))
    if bill is None:
        return line
    quantity = bill.quantities.get(line.event_name, 0 if bill.final else None)
    found = replace(line, invoice=Invoiced(bill.invoice, bill.number, quantity, bill.final))
    if not bill.final or line.payee in (None, quantity):
        return found
    told = pair.difference("misbilled", line.payee, quantity, note=f"invoice {bill.number or bill.invoice}")
    return replace(found, differences=(*found.differences, told))


def _stray_kind(row: OutboxRow, account: Account, period: Period) -> str:
    if row.customer != account.customer:
        return "wrong_customer"
    owned = account.minutes_of(period)
    inside = owned.start <= row.begin and row.end <= owned.stop
    return "" if inside or row.hourly else "wrong_period"


class Choice(Protocol):
    """Which of an account's periods."""

    def __call__(self, account: Account, now_s: int) -> tuple[Period, ...]: ...


def _plain(line: Line) -> dict[str, Any]:
    differences = [asdict(difference) | {"action": difference.action} for difference in line.differences]
    return asdict(line) | {"agrees": line.agrees, "differences": differences}
