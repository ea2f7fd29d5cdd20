"""What is done with a row now, and what became of it: pure functions.

Exactly once needs two things and no assumption about the network: an identifier that never changes its value, which the
payee refuses for at least a day after it took it; and a look at the payee's sums before anything is sent that might
have been taken longer ago than that. The look is possible because no other row has the stamp's minute. (The rule was
found with a model of Stripe's documented behaviour: tests/billing/outbox/test_exactly_once.py.)
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from sidecar.billing.outbox.windows import Terms, is_open
from sidecar.core.billing import OutboxRow, Outcome
from sidecar.core.clock import NS_PER_S

DAY_S = 86_400
OLDEST_S = 34 * DAY_S  # Stripe takes 35 days; what arrives on the edge may be refused
AHEAD_S = 60  # Stripe takes up to five minutes ahead of its own clock
_BACKOFF_S = (1.0, 300.0)  # the first, the longest


@dataclass(frozen=True, slots=True)
class Rules:
    """``gate_s``: how old a row or its stamp may be for the payee to know its identifier for sure, should it have taken
    it: 20 hours of a promised 24. None: the payee never forgets an identifier, and nothing is read back."""

    terms: Terms = field(default_factory=Terms)
    gate_s: int | None = 20 * 3600


@dataclass(frozen=True, slots=True)
class Step:
    """``kind``: ``send``, ``read`` (the payee's sum of the stamp's minute, then ``seen``), ``wait`` (until ``at_ns``)
    or ``settle`` (as ``state``, with ``note``)."""

    kind: str
    state: str = ""
    note: str = ""
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What the row's ``settle`` is told."""

    state: str
    next_ns: int = 0
    rounds: int = 0
    http: int = 0
    request_id: str = ""
    note: str = ""


def next_step(row: OutboxRow, now_ns: int, rules: Rules) -> Step:
    """Of an open row whose time has come."""
    now_s = now_ns // NS_PER_S
    if row.timestamp_s > now_s + AHEAD_S:
        return Step("wait", at_ns=(row.timestamp_s - AHEAD_S) * NS_PER_S)
    read = needs_reading(row, now_ns, rules)
    if not read and now_s - row.timestamp_s > OLDEST_S:
        return Step("settle", "expired", "the payee takes no usage of more than 35 days ago")
    if not read and row.first_attempt_ns is None and not is_open(row.period, now_s, rules.terms):
        return Step("settle", "held", "its period was invoiced before it could be sent")
    return Step("read" if read else "send")


def needs_reading(row: OutboxRow, now_ns: int, rules: Rules) -> bool:
    """A row that was never attempted needs it too: a database that was restored forgot its attempts. Totals of an hour
    do not: the same total again changes nothing."""
    if rules.gate_s is None or row.hourly:
        return False
    oldest_s = min(row.created_ns // NS_PER_S, row.timestamp_s)
    return now_ns // NS_PER_S - oldest_s >= rules.gate_s


def seen(row: OutboxRow, total: int, now_ns: int, rules: Rules) -> Step:
    """After the payee's sum of the stamp's minute was read."""
    now_s = now_ns // NS_PER_S
    if total == row.value:
        return Step("settle", "verified")
    if total != 0:
        return Step("settle", "conflict", f"the payee has {total} in this minute, not {row.value}")
    if now_s - row.timestamp_s > OLDEST_S:
        return Step("settle", "expired", "the payee takes no usage of more than 35 days ago")
    if not is_open(row.period, now_s, rules.terms):
        return Step("settle", "held", "its period was invoiced, and the payee does not have it")
    return Step("send")


def result_of(row: OutboxRow, outcome: Outcome, now_ns: int, jitter: Callable[[], float]) -> Result:
    """After an attempt (``row`` counts it already). ``jitter``: [0, 1)."""
    state = {"accepted": "accepted", "rejected": "rejected"}.get(outcome.kind, "sent")
    wait_ns = 0
    if state == "sent":
        wait_ns = max(outcome.retry_after_ns, backoff_ns(row.attempts, jitter()))
    note = row.note if state == "accepted" else outcome.message or outcome.code
    rounds = int(outcome.used_key)
    next_ns = now_ns + wait_ns if wait_ns else 0
    return Result(state, next_ns, rounds, outcome.http, outcome.request_id, note)


def backoff_ns(attempts: int, jitter: float) -> int:
    """Full jitter over a doubling bound, not below a tenth of it ("Exponential Backoff And Jitter", AWS, 2015)."""
    first, longest = _BACKOFF_S
    bound = min(longest, first * 2.0 ** min(attempts, 20))
    return round(bound * max(0.1, jitter) * NS_PER_S)
