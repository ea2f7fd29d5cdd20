"""Credits, thresholds and tenants' terms, and the columns that both adapters keep them in."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sidecar.core.credits import MOST_GRANTS, Book, Grant, Share
from sidecar.core.crossings import Crossing
from sidecar.core.errors import Conflict
from sidecar.core.units import parse_money
from sidecar.core.values import AccessState, Anchor, Override, Overrides, SpendCapOverride, Tenant, Terms

GRANT_COLUMNS = "tenant, source, amount, currency, granted_ns, priority, expires_ns, revoked_ns, note, burned, bonus"
SHARE_COLUMNS = "source, begin_minute, end_minute, due, above, amount, earned, currency"
_KINDS = ("limits", "concurrency", "quotas")
KEEP_CROSSINGS_S = 40 * 86_400  # after their period's end: late usage is long in by then
# Grants that may be burned after the book's minute (:until). Kept in step with Grant.end.
OPEN = (
    "burned < amount AND (expires_ns IS NULL OR expires_ns > {until}) AND (revoked_ns IS NULL OR revoked_ns > {until})"
)


def grant_values(grant: Grant) -> tuple[Any, ...]:
    return (
        *(grant.tenant, grant.source, grant.amount, grant.currency, grant.granted_ns, grant.priority),
        *(grant.expires_ns, grant.revoked_ns, grant.note, grant.burned, grant.bonus),
    )


def grant_of(row: Sequence[Any]) -> Grant:
    return Grant(*row)


def same_grant(stored: Grant, given: Grant) -> Grant:
    """The stored one. Conflict when the source was granted for something else."""
    for what in ("amount", "currency", "bonus"):
        if getattr(stored, what) != getattr(given, what):
            words = "share of it that was paid" if what == "bonus" else what
            raise Conflict(
                f"{given.source!r} was granted to {given.tenant} with another {words}; the same source is granted once"
            )
    return stored


def check_room(tenant: str, open_grants: int) -> None:
    if open_grants >= MOST_GRANTS:
        raise Conflict(f"{tenant} has {MOST_GRANTS} grants that are not burned yet; revoke some first")


def grant_facts(grant: Grant) -> dict[str, Any]:
    """What the audit log says of it."""
    return {
        "source": grant.source,
        "amount": grant.amount,
        "paid": grant.paid,
        "currency": grant.currency,
        "priority": grant.priority,
        "expires_ns": grant.expires_ns,
        "revoked_ns": grant.revoked_ns,
    }


def book_of(row: Sequence[Any] | None) -> Book | None:
    return None if row is None else Book(*row)


def share_of(row: Sequence[Any]) -> Share:
    return Share(*row)


def share_values(tenant: str, share: Share) -> tuple[Any, ...]:
    return (tenant, *share)


def crossing_values(crossing: Crossing) -> tuple[Any, ...]:
    return (
        *(crossing.tenant, crossing.name, crossing.start_s, crossing.threshold, crossing.limit),
        *(crossing.end_s, crossing.used, crossing.at_ns),
    )


def terms_text(terms: Terms) -> str | None:
    """As JSON; None when it says nothing."""
    told: dict[str, Any] = {}
    if terms.anchor is not None:
        told["anchor"] = [terms.anchor.day, terms.anchor.minute]
    if terms.time_zone is not None:
        told["time_zone"] = terms.time_zone
    if terms.overrides is not None:
        told["overrides"] = {
            kind: {name: [one.limit, one.overage] for name, one in getattr(terms.overrides, kind).items()}
            for kind in _KINDS
        }
        cap = terms.overrides.spend_cap
        if cap is not None:
            told["spend_cap"] = [None if cap.limit is None else str(cap.limit), cap.overage]
    return json.dumps(told) if told else None


def terms_of(text: str | None) -> Terms:
    """The terms that ``terms_text`` was given."""
    told: dict[str, Any] = {} if text is None else json.loads(text)
    if "anchor" in told:
        told["anchor"] = Anchor(*told["anchor"])
    cap = told.pop("spend_cap", None)
    if "overrides" in told:
        kinds: Mapping[str, Mapping[str, Sequence[Any]]] = told["overrides"]
        made = {kind: {name: Override(name, *of) for name, of in by_name.items()} for kind, by_name in kinds.items()}
        limit, overage = cap or (None, None)
        own = None if cap is None else SpendCapOverride(None if limit is None else parse_money(limit), overage)
        told["overrides"] = Overrides(**made, spend_cap=own)
    return Terms(**told)


def tenant_change(old: Tenant, plan: str | None, state: AccessState | None, terms: Terms | None) -> Tenant:
    """The tenant with what is not None."""
    new = replace(old, plan=plan or old.plan, state=state or old.state)
    if terms is None:
        return new
    return replace(new, anchor=terms.anchor, time_zone=terms.time_zone, overrides=terms.overrides)


def tenant_facts(old: Tenant, new: Tenant) -> dict[str, str | None]:
    """What the audit log says of a change."""
    facts: dict[str, str | None] = {
        "plan": new.plan,
        "state": new.state.value,
        "was_plan": old.plan,
        "was_state": old.state.value,
    }
    if old.terms != new.terms:
        facts |= {"terms": terms_text(new.terms), "was_terms": terms_text(old.terms)}
    return facts


def tenant_of(row: Sequence[Any]) -> Tenant:
    """Of name, plan, state, stripe_customer, created_ns, terms."""
    name, plan, state, customer, created_ns, text = row
    terms = terms_of(text)
    access = AccessState(state)
    return Tenant(name, plan, access, customer, created_ns, terms.anchor, terms.time_zone, terms.overrides)
