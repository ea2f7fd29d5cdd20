"""A paying tenant's account, as the payee has it, and what follows from it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from sidecar.core.billing import Bill, Period
from sidecar.core.periods import Cycle, cycle_between
from sidecar.core.values import AccessState, Tenant

# A subscription in one of these states has no further period.
ENDED = ("canceled", "incomplete_expired")
US_PER_S = 1_000_000
MOST_PERIODS = 24  # of an account, the newest; before the oldest of so many there may have been another


@dataclass(frozen=True, slots=True)
class Account:
    """What the payee said of a tenant when it was last read, and what follows from it.

    ``status``: the subscription's, in the payee's words; empty before there is one. ``plan``: what the subscription
    bought, None: the tenant's own. ``access``: what follows from payment (the tenant has the worse of this and its own
    state); ``until_ns``: when it ends by itself (of a grace, a read-only time), None: never. ``periods``: ascending,
    the newest few. ``ends_s``: when the subscription is going to end, if that is known. Times in Unix nanoseconds.
    """

    tenant: str
    customer: str
    subscription: str | None = None
    status: str = ""
    plan: str | None = None
    access: AccessState = AccessState.ACTIVE
    since_ns: int = 0
    until_ns: int | None = None
    trial_until_s: int | None = None
    ends_s: int | None = None
    periods: tuple[Period, ...] = ()
    read_ns: int = 0

    def minutes(self) -> Iterator[tuple[Period, range]]:
        """Each period with the Unix minutes whose usage is asked for in it: those that it touches and no earlier one
        has. So the minute in which one ends and the next begins belongs to the first. A period without a whole minute,
        in which an event could stand, leaves its minutes to the next one; to none where the subscription ended."""
        known = len(self.periods) < MOST_PERIODS
        taken = 0 if known or not self.periods else -(-self.periods[0].start_s // 60)
        for period in self.periods:
            begin, end = max(period.start_s // 60, taken), -(-period.end_s // 60)
            if not period.stamps and (period is not self.periods[-1] or self.status in ENDED):
                end = begin
            taken = max(begin, end)
            yield period, range(begin, taken)

    def minutes_of(self, period: Period) -> range:
        """Those of one of ``periods``; of another one those that it touches."""
        touched = range(period.start_s // 60, -(-period.end_s // 60))
        return next((minutes for one, minutes in self.minutes() if one == period), touched)

    def free_spans(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """[since_us, until_us) of those parts of the Unix minutes [begin, end) in which no subscription ran, where one
        begins or ends: before the first period, between two, behind the last one of a subscription that ended."""
        edges = {edge // 60 for period in self.periods for edge in (period.start_s, period.end_s)}
        for minute in sorted(edge for edge in edges if begin <= edge < end):
            at_s, until_s = minute * 60, minute * 60 + 60
            for period in self.periods:
                if at_s < min(period.start_s, until_s):
                    yield at_s * US_PER_S, min(period.start_s, until_s) * US_PER_S
                at_s = max(at_s, period.end_s)
            if at_s < until_s and self.status in ENDED:
                yield at_s * US_PER_S, until_s * US_PER_S


@dataclass(frozen=True, slots=True)
class Arrival:
    """A webhook's event as it was stored. ``object_id``: what it is about; ``payload``: the verified JSON text."""

    id: str
    type: str
    object_id: str
    payload: str
    at_ns: int
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell the operator or the tenant, once by each channel. ``id`` dedupes: one fact has one id.

    ``channel``: ``webhook`` or ``email``; whoever makes a notice makes one for each. ``kind``: ``access.read_only``,
    ``billing.parity`` and so on; ``tenant`` empty: the operator's alone. ``facts``: what the texts are made of; no
    secret.
    """

    id: str
    channel: str
    kind: str
    tenant: str
    facts: Mapping[str, str | int]
    at_ns: int
    attempts: int = 0
    next_ns: int = 0


@dataclass(slots=True)
class PaymentCounts:
    """What happened so far, for the metrics. Every label is one of a few words. ``webhooks`` and ``events`` by result,
    ``changes`` by the new access, ``notices`` by channel and result; ``failures``: readings that the payee failed;
    ``faults``: of what is read (``subscriptions``, ``events``, ``checkouts``) to why the last reading failed."""

    webhooks: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    notices: dict[tuple[str, str], int] = field(default_factory=dict)
    failures: int = 0
    faults: dict[str, str] = field(default_factory=dict)

    def read(self) -> "PaymentCounts":
        """A copy that stays as it is."""
        return replace(
            self,
            webhooks=dict(self.webhooks),
            events=dict(self.events),
            changes=dict(self.changes),
            notices=dict(self.notices),
            faults=dict(self.faults),
        )


class AccountSource(Protocol):
    """Where accounts are looked up; core.billing_store.Accounts is one."""

    async def account(self, tenant: str) -> Account | None: ...


class AccountPages(AccountSource, Protocol):
    """And where they are listed."""

    async def accounts(self, *, after: str = "", limit: int = 100) -> list[Account]:
        """By tenant, ascending."""
        ...


_WORSE = tuple(AccessState)


def standing(tenant: Tenant, account: Account | None) -> Tenant:
    """The tenant with the account's plan, where it has one, and the worse of both access states."""
    if account is None:
        return tenant
    state = max(tenant.state, account.access, key=_WORSE.index)
    return replace(tenant, plan=account.plan or tenant.plan, state=state)


def billing_cycle(tenant: Tenant, account: Account | None, now_s: int) -> str:
    """The tenant's billing periods as ``core.periods`` writes them: from its anchor, where one is written; else those
    of its subscription, as the payee says of the one that runs (or ran last); else calendar months in its zone."""
    zone = tenant.time_zone or "UTC"
    if tenant.anchor is not None:
        return Cycle("month", zone, tenant.anchor.day, tenant.anchor.minute * 60).text
    if account is not None and tenant.time_zone is None:
        begun = [period for period in account.periods if period.start_s <= now_s]
        if begun:
            return cycle_between(begun[-1].start_s, begun[-1].end_s).text
    return Cycle("month", zone).text


class Bills(Protocol):
    """The payee's invoices. SidecarError when it cannot be asked."""

    async def bill(self, account: Account, period: Period) -> Bill | None:
        """The one over this period of the account's subscription; None: there is none yet."""
        ...
