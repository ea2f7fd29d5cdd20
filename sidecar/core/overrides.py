"""What a tenant has instead of its plan's numbers: the plan as it holds for that tenant."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from sidecar.core.policy import Concurrency, Limit, Plan, Quota, SpendCap
from sidecar.core.values import Override, Overrides, SpendCapOverride

_Policy = TypeVar("_Policy", Limit, Concurrency, Quota)


def overridden(plan: Plan, overrides: Overrides | None) -> Plan:
    """The plan with the numbers of ``overrides``; names that it does not have say nothing. Where a policy stands
    (``origin``) is then where its override does."""
    if overrides is None:
        return plan
    return replace(
        plan,
        limits=_changed(plan.limits, overrides.limits),
        concurrency=_changed(plan.concurrency, overrides.concurrency),
        quotas=_changed(plan.quotas, overrides.quotas),
        spend_cap=_capped(plan.spend_cap, overrides.spend_cap),
    )


def _capped(cap: SpendCap | None, override: SpendCapOverride | None) -> SpendCap | None:
    if cap is None or override is None:
        return cap
    limit, overage = override.limit or cap.limit, override.overage or cap.overage
    return replace(cap, limit=limit, overage=overage, origin=override.origin)


def _changed(policies: Iterable[_Policy], by_name: Mapping[str, Override]) -> tuple[_Policy, ...]:
    return tuple(_one(policy, by_name[policy.name]) if policy.name in by_name else policy for policy in policies)


def _one(policy: _Policy, override: Override) -> _Policy:
    limit = policy.limit if override.limit is None else override.limit
    if isinstance(policy, Quota):
        return replace(policy, limit=limit, overage=override.overage or policy.overage, origin=override.origin)
    return replace(policy, limit=limit, origin=override.origin)
