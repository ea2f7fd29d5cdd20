"""From what the payee says of a tenant to what the tenant may do: one pure function, no clock, no I/O.

================================  ===================================================================================
the subscription is               access
================================  ===================================================================================
none, ``trialing``, ``active``    active
``past_due``, ``unpaid``          grace for ``grace``, then read-only for ``read_only``, then suspended
``paused`` (a trial's end)        read-only for ``read_only``, then suspended
``canceled``                      the same; closed ``closed`` after its end
``incomplete``                    as before: nothing was bought yet
``incomplete_expired``            as before
anything else                     as before, and somebody is told
================================  ===================================================================================

With a fallback plan there is no read-only and no suspension: the tenant gets that plan. Steps are counted from the
moment the debt was first seen here, so that a tenant whose debt became known late is not cut off by surprise.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sidecar.core.accounts import MOST_PERIODS, Account, Notice
from sidecar.core.billing import Period
from sidecar.core.billing_settings import DAY_NS, AccessPolicy
from sidecar.core.clock import NS_PER_S
from sidecar.core.values import AccessState

WARN_S = 3 * 86_400  # before a trial ends, as Stripe does
_GOOD = frozenset({"", "trialing", "active"})
_OWING = frozenset({"past_due", "unpaid"})
_ENDED = frozenset({"paused", "canceled"})
_UNDECIDED = frozenset({"incomplete", "incomplete_expired"})
KNOWN = _GOOD | _OWING | _ENDED | _UNDECIDED


@dataclass(frozen=True, slots=True)
class Seen:
    """What the payee says now. ``status`` empty: there is no subscription. ``plan`` None: it names none that is known.

    Seconds are Unix time. ``ended_s``: when the subscription ended, None while it has not.
    """

    customer: str
    subscription: str | None = None
    status: str = ""
    plan: str | None = None
    periods: tuple[Period, ...] = ()
    trial_until_s: int | None = None
    ends_s: int | None = None
    ended_s: int | None = None


def follow(
    account: Account, seen: Seen, policy: AccessPolicy, now_ns: int, channels: tuple[str, ...] = ()
) -> tuple[Account, tuple[Notice, ...]]:
    """The account as it follows, and what is to be told by each channel. Called again with what it returned, and the
    same ``seen``, it changes nothing before ``until_ns``."""
    status = seen.status
    if status not in KNOWN or (status in _UNDECIDED):
        kept = replace(account, customer=seen.customer, status=status, until_ns=_next_of(account, policy, now_ns))
        kept = replace(kept, subscription=seen.subscription or account.subscription)
        return kept, tuple(_tell(account, kept, seen, now_ns, channels))
    since = account.since_ns if account.since_ns and _goes_on(account, seen) else now_ns
    access, until, plan = _step(account, seen, policy, since, now_ns)
    stamps = tuple(sorted({*account.periods, *seen.periods}))[-MOST_PERIODS:]
    new = Account(
        account.tenant,
        seen.customer,
        seen.subscription,
        status,
        plan,
        access,
        since,
        until,
        seen.trial_until_s,
        seen.ends_s,
        _settled(stamps, seen.periods),
        account.read_ns,
    )
    return new, tuple(_tell(account, new, seen, now_ns, channels))


def _step(
    account: Account, seen: Seen, policy: AccessPolicy, since_ns: int, now_ns: int
) -> tuple[AccessState, int | None, str | None]:
    """Access, until when, and the plan."""
    bought = seen.plan
    if seen.status in _GOOD:
        warn = None if seen.status != "trialing" or seen.trial_until_s is None else seen.trial_until_s - WARN_S
        return AccessState.ACTIVE, None if warn is None or warn * NS_PER_S <= now_ns else warn * NS_PER_S, bought
    closing = None
    if seen.status == "canceled" and policy.closed_ns is not None:
        closing = (seen.ended_s * NS_PER_S if seen.ended_s is not None else since_ns) + policy.closed_ns
        if now_ns >= closing:
            return AccessState.CLOSED, None, bought
    graced = since_ns + (policy.grace_ns if seen.status in _OWING else 0)
    if now_ns < graced:
        return AccessState.GRACE, graced, bought
    if policy.fallback_plan is not None:
        return AccessState.ACTIVE, closing, policy.fallback_plan
    read_only = graced + policy.read_only_ns
    if now_ns < read_only:
        return AccessState.READ_ONLY, read_only if closing is None else min(read_only, closing), bought
    return AccessState.SUSPENDED, closing, bought


def _next_of(account: Account, policy: AccessPolicy, now_ns: int) -> int | None:
    """A state that is kept although its time is over is looked at again in an hour."""
    return account.until_ns if account.until_ns is None or account.until_ns > now_ns else now_ns + DAY_NS // 24


def _goes_on(account: Account, seen: Seen) -> bool:
    """Whether the time counts on: good stays good, or the same subscription stays bad. A status in between that says
    nothing does not start the grace anew."""
    was_good = account.status in _GOOD or (
        account.status not in _OWING | _ENDED and account.access is AccessState.ACTIVE
    )
    if seen.status in _GOOD:
        return was_good
    return not was_good and account.subscription == seen.subscription


def _settled(periods: tuple[Period, ...], newest: tuple[Period, ...]) -> tuple[Period, ...]:
    """One period for each beginning: what the payee says now wins (a period that was cut short). Where one begins
    within another the first ends there: another price in the middle of a month has an invoice of its own."""
    by_start = {period.start_s: period for period in periods} | {period.start_s: period for period in newest}
    starts = sorted(by_start)
    ends = [*starts[1:], by_start[starts[-1]].end_s] if starts else []
    return tuple(Period(start, min(by_start[start].end_s, end)) for start, end in zip(starts, ends, strict=True))


def _tell(old: Account, new: Account, seen: Seen, now_ns: int, channels: tuple[str, ...]) -> Iterator[Notice]:
    facts: dict[str, str | int] = {
        "tenant": new.tenant,
        "customer": new.customer,
        "status": new.status or "none",
        "access": new.access.value,
        "was": old.access.value,
    }
    facts |= {"plan": new.plan} if new.plan else {}
    facts |= {"until": new.until_ns // NS_PER_S} if new.until_ns else {}
    told: list[tuple[str, str]] = []
    if new.access is not old.access or (old.read_ns and new.plan != old.plan):
        what = f"access.{new.access.value}" if new.access is not old.access else "access.plan"
        told.append((what, f"{what}:{new.tenant}:{old.read_ns}"))
    if new.status == "trialing" and seen.trial_until_s is not None:
        left_ns = seen.trial_until_s * NS_PER_S - now_ns
        if 0 < left_ns <= WARN_S * NS_PER_S:
            told.append(("trial.ending", f"trial.ending:{new.subscription}:{seen.trial_until_s}"))
            facts["until"] = seen.trial_until_s
    if new.status not in KNOWN and old.status != new.status:
        told.append(("status.unknown", f"status.unknown:{new.subscription}:{new.status}"))
    for kind, id in told:
        for channel in channels:
            yield Notice(id, channel, kind, new.tenant, facts, now_ns)
