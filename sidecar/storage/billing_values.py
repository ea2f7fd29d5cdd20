"""Billing's values and the columns that both adapters keep them in, in the order of the migrations."""

import json
from collections.abc import Sequence
from typing import Any

from sidecar.core.accounts import Account, Notice
from sidecar.core.billing import OutboxRow, Parity, Period
from sidecar.core.values import AccessState

ARRIVALS = 1_000_000
ATTEMPTS = 20  # of one arrival
NOTICES = 100_000
WAITING = ("rejected", "conflict", "expired", "held")  # states of a row that wait for a person

ACCOUNT_COLUMNS = (
    "tenant, customer, subscription, status, plan, access, since_ns, until_ns, trial_until_s, ends_s, periods, read_ns"
)
ROW_COLUMNS = (
    "id, tenant, customer, meter, event_name, begin_minute, end_minute, period_start_s, period_end_s, minute,"
    " version, value, identifier, state, created_ns, first_attempt_ns, attempts, round, next_ns, http, request_id,"
    " note, settled_ns, verified_ns"
)
PARITY_COLUMNS = (
    "tenant, meter, period_start_s, period_end_s, invoice, customer, ledger, assigned, accepted, verified, payee,"
    " billed, final, at_ns"
)
NOTICE_COLUMNS = "id, channel, kind, tenant, facts, at_ns, attempts, next_ns"


def first_key_of(tenant: str) -> str:
    """What is claimed of a tenant's first key."""
    return f"first-key:{tenant}"


def account_values(account: Account) -> tuple[Any, ...]:
    periods = json.dumps([[period.start_s, period.end_s] for period in account.periods])
    return (
        *(account.tenant, account.customer, account.subscription, account.status, account.plan, account.access.value),
        *(account.since_ns, account.until_ns, account.trial_until_s, account.ends_s, periods, account.read_ns),
    )


def account_of(row: Sequence[Any]) -> Account:
    tenant, customer, subscription, status, plan, access, since, until, trial, ends, periods, read = row
    parsed = tuple(Period(start, end) for start, end in json.loads(periods))
    state = AccessState(access)
    return Account(tenant, customer, subscription, status, plan, state, since, until, trial, ends, parsed, read)


def account_change(old: Account | None, new: Account) -> dict[str, str | None]:
    """What the audit log says of it; empty: nothing that it would be told of."""
    before = _facts(old) if old else {}
    after = _facts(new)
    if before == after:
        return {}
    return after | {f"was_{name}": value for name, value in before.items()}


def is_news(old: Account | None, new: Account) -> bool:
    """Whether caches of tenants and keys have to hear of it."""
    return old is None or (old.access, old.plan) != (new.access, new.plan)


def _facts(held: Account) -> dict[str, str | None]:
    return {"access": held.access.value, "plan": held.plan, "status": held.status, "customer": held.customer}


def outbox_row(row: Sequence[Any]) -> OutboxRow:
    row_id, tenant, customer, meter, event_name, begin, end, start_s, end_s, *rest = row
    return OutboxRow(row_id, tenant, customer, meter, event_name, begin, end, Period(start_s, end_s), *rest)


def parity_values(parity: Parity) -> tuple[Any, ...]:
    period = parity.period
    return (
        *(parity.tenant, parity.meter, period.start_s, period.end_s, parity.invoice, parity.customer, parity.ledger),
        *(parity.assigned, parity.accepted, parity.verified, parity.payee, parity.billed, parity.final, parity.at_ns),
    )


def parity_of(row: Sequence[Any]) -> Parity:
    tenant, meter, start_s, end_s, invoice, customer, *numbers, final, at_ns = row
    ledger, assigned, accepted, verified, payee, billed = numbers
    return Parity(
        tenant=tenant,
        customer=customer,
        meter=meter,
        period=Period(start_s, end_s),
        invoice=invoice,
        ledger=ledger,
        assigned=assigned,
        accepted=accepted,
        verified=verified,
        payee=payee,
        billed=billed,
        final=bool(final),
        at_ns=at_ns,
    )


def notice_of(row: Sequence[Any]) -> Notice:
    notice_id, channel, kind, tenant, facts, *numbers = row
    return Notice(notice_id, channel, kind, tenant, json.loads(facts), *numbers)
