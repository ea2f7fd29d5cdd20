"""Credits: prepaid money of tenants, and how metered use burns it. Integers, no clock, no I/O.

A grant is money, not units of a meter: one balance pays for every meter at its price, and what is free of a meter is
what its price includes. A grant is used from the minute in which it was given to the one in which it expires or was
taken back. Use is burned from the grants that can be used at that time: lower ``priority`` first, then the one that
expires first, then the older, then by source. A grant is never burned below nothing; use that no grant covers stays
uncovered and is not taken from later ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sidecar.core.clock import NS_PER_S
from sidecar.core.money import round_div

NS_PER_MINUTE = 60 * NS_PER_S
FOREVER = 1 << 62  # a minute that never comes
MOST_GRANTS = 1000  # of one tenant that may still be burned
MOST_MICROS = 10**15  # of one grant: a thousand million of a currency


@dataclass(frozen=True, slots=True)
class Grant:
    """``source``: what it was given for, such as an invoice's id; the same source is granted once to a tenant.

    ``amount`` and ``burned`` in micro-units of ``currency``; ``burned`` is what was settled (Book), the rest follows
    from the ledger. ``bonus``: of the amount, what was given away; the rest was paid. Times in Unix nanoseconds, None
    is never.
    """

    tenant: str
    source: str
    amount: int
    currency: str
    granted_ns: int
    priority: int = 100
    expires_ns: int | None = None
    revoked_ns: int | None = None
    note: str = ""
    burned: int = 0
    bonus: int = 0

    @property
    def paid(self) -> int:
        """Micro-units of money that came in for it."""
        return self.amount - self.bonus

    def earned(self, burned: int) -> int:
        """What of ``paid`` is earned once ``burned`` is: each micro-unit earns alike, all of them earn ``paid``."""
        return round_div(burned * self.paid, self.amount)

    @property
    def begin(self) -> int:
        """The Unix minute from which it can be used."""
        return self.granted_ns // NS_PER_MINUTE

    @property
    def end(self) -> int:
        """The Unix minute in which it can no longer be used."""
        ends = [ns for ns in (self.expires_ns, self.revoked_ns) if ns is not None]
        return max(self.begin, -(-min(ends) // NS_PER_MINUTE)) if ends else FOREVER

    @property
    def order(self) -> tuple[int, int, int, str]:
        """What is burned first."""
        expires = FOREVER if self.expires_ns is None else self.expires_ns
        return self.priority, expires, self.granted_ns, self.source


@dataclass(frozen=True, slots=True)
class Book:
    """What is settled of a tenant's credits: all use of minutes before ``until`` is in its grants' ``burned``, or was
    ``uncovered``, in micro-units."""

    tenant: str
    until: int
    uncovered: int = 0


class Step(NamedTuple):
    """Use of [begin, end), Unix minutes: ``micros`` is its price. No grant begins or ends within."""

    begin: int
    end: int
    micros: int


class Share(NamedTuple):
    """What one grant paid of the use of [begin, end), Unix minutes, that cost ``due``: from ``above``, up to where
    grants before it paid, to ``above + amount``; ``earned`` is the part of it for which money came in. Micro-units."""

    source: str
    begin: int
    end: int
    due: int
    above: int
    amount: int
    earned: int
    currency: str


@dataclass(frozen=True, slots=True)
class Burned:
    """``by_source``: what is burned of each grant in all; ``uncovered``: what no grant paid for, in all; ``shares``:
    who paid for what, in the order of steps and of burning."""

    by_source: Mapping[str, int]
    uncovered: int
    shares: tuple[Share, ...] = field(default=(), compare=False)


class CreditHistory(NamedTuple):
    """Of one moment. ``book`` and ``grants`` as of CreditStore.credit; ``shares``: what was settled of steps that touch
    the time asked for; ``expired``: grants that expired within it."""

    book: Book | None
    grants: Sequence[Grant]
    shares: Sequence[Share]
    expired: Sequence[Grant]


def burn(grants: Iterable[Grant], steps: Sequence[Step], uncovered: int = 0) -> Burned:
    """Burns the use of ``steps``, ascending, from what ``burned`` has left of ``grants``. What it returns, added up, is
    what was burned before and the steps' price, to the last micro-unit."""
    ordered = sorted(grants, key=lambda grant: grant.order)
    left = {grant.source: max(0, grant.amount - grant.burned) for grant in ordered}
    shares = []
    for step in steps:
        whole = due = max(0, step.micros)
        for grant in ordered:
            if not due:
                break
            if grant.begin <= step.begin and step.end <= grant.end and left[grant.source]:
                taken = min(due, left[grant.source])
                before = grant.amount - left[grant.source]
                earned = grant.earned(before + taken) - grant.earned(before)
                shares.append(Share(grant.source, *step[:2], whole, whole - due, taken, earned, grant.currency))
                left[grant.source] -= taken
                due -= taken
        uncovered += due
    by_source = {grant.source: max(grant.burned, grant.amount - left[grant.source]) for grant in ordered}
    return Burned(by_source, uncovered, tuple(shares))


def edges(grants: Iterable[Grant], begin: int, end: int) -> list[int]:
    """The minutes in [begin, end] at which what can be used may change, ascending, both ends with them."""
    inner = {minute for grant in grants for minute in (grant.begin, grant.end) if begin < minute < end}
    return sorted({begin, end} | inner)
