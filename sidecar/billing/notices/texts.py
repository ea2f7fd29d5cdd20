"""What is said, by kind: a subject and a sentence. ``{...}`` are facts of the notice."""

from collections.abc import Mapping
from datetime import UTC, datetime

from sidecar.core.accounts import Notice
from sidecar.core.clock import NS_PER_S

KINDS: Mapping[str, tuple[str, str]] = {
    "access.grace": (
        "{tenant} owes; served in full until {until}",
        "A payment of {tenant} failed (subscription {status}). Calls go on as before until {until}; then {tenant} is "
        "read-only, or on the fallback plan, unless it pays.",
    ),
    "access.read_only": (
        "{tenant} is read-only",
        "{tenant} has not paid (subscription {status}). GET, HEAD and OPTIONS pass; other calls get 402 with the way "
        "to pay. It is suspended at {until} unless it pays. No data is deleted.",
    ),
    "access.suspended": (
        "{tenant} is suspended",
        "{tenant} has not paid (subscription {status}). Every call gets 402 with the way to pay. No data is deleted; a "
        "payment opens it within seconds.",
    ),
    "access.closed": (
        "{tenant} is closed",
        "The subscription of {tenant} ended and the time to come back is over. Every call gets 403. No data is "
        "deleted.",
    ),
    "access.active": ("{tenant} is active", "{tenant} is served in full again (subscription {status}, plan {plan})."),
    "access.plan": ("{tenant} has another plan", "{tenant} is on the plan {plan} now (subscription {status})."),
    "trial.ending": ("The trial of {tenant} ends at {until}", "The trial of {tenant} ends at {until}."),
    "tenant.created": ("{tenant} is a new customer", "{tenant} has paid at the checkout and can make calls."),
    "checkout.taken": (
        "{tenant} was bought twice",
        "The customer {customer} bought {tenant}, which another customer pays for already. Nothing was changed here; "
        "cancel and refund one of the two at Stripe.",
    ),
    "billing.parity": (
        "The invoice {invoice} of {tenant} does not agree with the book",
        "The book has {ledger} units of {meter} for {tenant}, Stripe has {payee}, its invoice asks for {billed} (-1: "
        "nothing yet). While it is a draft (final: 0) it can be put right: sidecar reconcile --tenant {tenant} says "
        "what differs.",
    ),
    "quota.threshold": (
        "{tenant} has used {threshold} % of {quota}",
        "{tenant} (plan {plan}) has used {used} of the {limit} {meter} of its quota {quota}, which starts anew at "
        "{until}. Beyond the limit: {overage}.",
    ),
    "billing.refused": (
        "Stripe refused {count} events that it had taken",
        "Stripe answered 200 to {count} events and refused them afterwards: {codes}. {rows} of them are named and wait "
        "for you: sidecar outbox list. The others are found when its sums are read.",
    ),
    "billing.waiting": (
        "{rows} rows of usage wait for you: {state}",
        "{rows} rows are {state}; the first is row {row}, {meter} of {of}: {note}. Until they are settled this usage "
        "is on no invoice: sidecar outbox list, and docs/billing.md says what to do about {difference}.",
    ),
    "billing.stopped": (
        "Usage is not reported",
        "For ten minutes nothing has been reported: {faults}. Calls are served and usage waits; an invoice takes it "
        "for its grace after the period's end, an hour unless you set more.",
    ),
    "status.unknown": (
        "{tenant} has a subscription in an unknown state",
        'Stripe says "{status}" of the subscription of {tenant}, which this version does not know. Its access stays as '
        "it was; look at it at Stripe.",
    ),
}


_EXAMPLES: Mapping[str, Mapping[str, str | int]] = {
    "billing.parity": {
        "meter": "requests",
        "invoice": "in_example",
        "ledger": 1200,
        "payee": 1000,
        "billed": 1000,
        "final": 0,
    },
    "billing.refused": {"count": 2, "codes": "meter_event_customer_not_found", "rows": 1},
    "billing.waiting": {
        "rows": 1,
        "state": "rejected",
        "difference": "rejected",
        "row": 7,
        "of": "acme",
        "meter": "requests",
        "note": "meter_event_customer_not_found: the customer does not exist",
    },
    "billing.stopped": {"faults": "the API key lacks a permission: Meter events: Write; grant it at Stripe"},
}


def text_of(notice: Notice) -> tuple[str, str]:
    """Subject and body. A kind without texts is told by its facts."""
    subject, body = KINDS.get(notice.kind, ("{kind} {tenant}", "{kind}"))
    facts = _Facts({name: _shown(name, value) for name, value in notice.facts.items()})
    facts.setdefault("tenant", notice.tenant)
    facts.setdefault("kind", notice.kind)
    listed = "\n".join(f"{name}: {facts[name]}" for name in notice.facts)
    return subject.format_map(facts), f"{body.format_map(facts)}\n\n{listed}\n"


def example(kind: str, tenant: str, channel: str, at_ns: int) -> Notice:
    """What a notice of this kind looks like; KeyError when there is none."""
    KINDS[kind]
    access = kind.partition(".")[2] if kind.startswith("access.") else "active"
    status = {"access.active": "active", "trial.ending": "trialing", "tenant.created": "active"}.get(kind, "past_due")
    facts: dict[str, str | int] = {"tenant": tenant, "customer": "cus_example", "status": status, "access": access}
    facts |= {"was": "active", "plan": "pro", "until": at_ns // NS_PER_S + 7 * 86_400}
    facts = dict(_EXAMPLES.get(kind, facts))
    if kind.startswith("quota."):
        facts = {"tenant": tenant, "plan": "pro", "quota": "monthly", "meter": "requests", "threshold": 80}
        facts |= {"limit": 10_000, "used": 8_004, "overage": "block", "until": at_ns // NS_PER_S + 7 * 86_400}
    return Notice(f"example:{kind}:{tenant}:{at_ns}", channel, kind, tenant, facts, at_ns)


class _Facts(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return {"plan": "of its own", "until": "an unknown time"}.get(key, "unknown")


def _shown(name: str, value: str | int) -> str:
    if name == "until" and isinstance(value, int):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return " ".join(str(value).split())
