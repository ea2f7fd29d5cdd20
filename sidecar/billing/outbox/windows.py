"""Which minutes of a tenant's usage are asked for together: pure functions of marks, the account and the time.

A minute of usage belongs to the period that it lies in, at its edges as ``Account.minutes`` says. A period is **open**
until the payee's invoice for it becomes final; usage that becomes known later than that is late: it is held for a
person, or carried into the open period.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sidecar.core.accounts import ENDED, Account
from sidecar.core.billing import Period, Window

# The invoice is read by the payee some time before it is final; usage has to be there by then.
MARGIN_S = 600


@dataclass(frozen=True, slots=True)
class Terms:
    """``window``: minutes that are asked for together; ``settle``: minutes that a window waits for stragglers.
    ``grace_s``: how long after a period's end its invoice takes usage. ``carry``: late usage goes into the open
    period; else it is held."""

    window: int = 5
    settle: int = 2
    grace_s: int = 3600
    carry: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """A window, and the state that its rows begin in. ``note``: why they are held."""

    window: Window
    state: str = "pending"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Division:
    """``shares``: to be assigned now; ``unbilled``: [begin, end) of minutes that no period of the subscription has."""

    shares: tuple[Share, ...] = ()
    unbilled: tuple[tuple[int, int], ...] = ()


def closed_minute(now_s: int, terms: Terms) -> int:
    """The first Unix minute that is not yet to be assigned: usage is asked for in whole windows."""
    settled = now_s // 60 - terms.settle
    return settled - settled % terms.window


def closed_hour(now_s: int, terms: Terms) -> int:
    """As ``closed_minute``, on a whole hour."""
    settled = now_s // 60 - max(terms.settle, 10)
    return settled - settled % 60


def ends_within_hour(account: Account, now_s: int, terms: Terms) -> bool:
    """Whether a period has ended in an hour that is not closed yet. Its invoice may be final before that hour is."""
    closed_s = closed_hour(now_s, terms) * 60
    return any(closed_s < period.end_s <= now_s and period.end_s % 3600 for period in account.periods)


def is_open(period: Period, now_s: int, terms: Terms) -> bool:
    return now_s < period.end_s + terms.grace_s - min(MARGIN_S, terms.grace_s // 2)


def divide(account: Account, minutes: Sequence[int], now_s: int, terms: Terms) -> Division:
    """``minutes``: marked ones, ascending. All of a period become one window: after an outage there is one row to
    send, not one for each five minutes of it. Minutes of a period that is not known yet are left as they are."""
    shares: list[Share] = []
    unbilled: list[tuple[int, int]] = []
    for period, inside in _by_period(account, minutes):
        begin, end = inside[0], inside[-1] + 1
        if period is not None and not period.stamps:
            continue  # it runs, and no event could stand in it: the next one has these minutes
        if period is not None:
            shares.append(_share(account, period, begin, end, now_s, terms))
        elif _never_billed(account, begin):
            unbilled.append((begin, end))
    return Division(tuple(shares), tuple(unbilled))


def divide_hours(account: Account, minutes: Sequence[int], now_s: int, terms: Terms) -> list[Share]:
    """As ``divide``, of meters that keep an hour's newest total: one whole hour each. An hour in which one period ends
    and the next begins is held: one total cannot stand in both."""
    shares = []
    for hour in sorted({minute // 60 for minute in minutes}):
        begin, end = hour * 60, hour * 60 + 60
        periods = [p for p, owned in account.minutes() if owned.start < end and owned.stop > begin]
        whole = [p for p in periods if p.start_s <= begin * 60 and end * 60 <= p.end_s]
        if whole:
            window = Window(account.tenant, account.customer, begin, end, whole[0], hourly=True)
            late = not is_open(whole[0], now_s, terms)  # an hour's total cannot be carried into another period
            shares.append(
                Share(window, "held", "its period was invoiced before this was known") if late else Share(window)
            )
        elif periods:
            window = Window(account.tenant, account.customer, begin, end, periods[-1], hourly=True)
            shares.append(Share(window, "held", "the billing period changes within this hour"))
    return shares


def _share(account: Account, period: Period, begin: int, end: int, now_s: int, terms: Terms) -> Share:
    free = tuple(account.free_spans(begin, end))
    window = Window(account.tenant, account.customer, begin, end, period, free=free)
    if is_open(period, now_s, terms):
        return Share(window)
    current = account.periods[-1]
    if terms.carry and is_open(current, now_s, terms):
        return Share(replace(window, period=current), note=f"carried from the period that ended at {period.end_s}")
    return Share(window, "held", "its period was invoiced before this was known")


def _by_period(account: Account, minutes: Sequence[int]) -> list[tuple[Period | None, list[int]]]:
    """Minutes of no period stand by themselves for each gap."""
    found: list[tuple[Period | None, list[int]]] = []
    known = list(account.minutes())
    for minute in minutes:
        period = next((p for p, owned in known if minute in owned), None)
        same = bool(found) and found[-1][0] is period
        if same and (period is not None or not any(found[-1][1][-1] < owned.start <= minute for _, owned in known)):
            found[-1][1].append(minute)
        else:
            found.append((period, [minute]))
    return found


def _never_billed(account: Account, minute: int) -> bool:
    """Before the first period, between two subscriptions, or behind the last of one that ended. A later period may
    still come for what lies behind the last one: then it waits."""
    known = list(account.minutes())
    return account.status in ENDED or (bool(known) and minute < known[-1][1].start)
