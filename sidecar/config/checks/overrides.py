"""Overrides: each names a policy of its tenant's plan, and one whose count is the tenant's own."""

from collections.abc import Iterable

from sidecar.config.reading import Reading, nearest, quoted
from sidecar.core.policy import Concurrency, Limit, Plan, Quota, Snapshot
from sidecar.core.values import Override, Overrides


def check(snapshot: Snapshot, reading: Reading) -> None:
    for tenant in snapshot.tenants.values():
        plan = snapshot.plans.get(tenant.plan)
        if tenant.overrides is not None and plan is not None:
            for override, message in faults(plan, tenant.overrides):
                reading.blame(override, "", message)
            message = cap_fault(plan, tenant.overrides)
            if message:
                reading.blame(tenant.overrides.spend_cap, "", message)


def faults(plan: Plan, overrides: Overrides) -> Iterable[tuple[Override, str]]:
    """Each override that cannot be meant, and why."""
    for word, policies, given in (
        ("limit", plan.limits, overrides.limits),
        ("concurrency limit", plan.concurrency, overrides.concurrency),
        ("quota", plan.quotas, overrides.quotas),
    ):
        known: dict[str, Limit | Concurrency | Quota] = {policy.name: policy for policy in policies}
        for override in given.values():
            if override.name not in known:
                hint = nearest(override.name, known) if known else "; it has none"
                yield override, f"the plan {quoted(plan.name)} has no {word} {quoted(override.name)}{hint}"
                continue
            message = _senseless(known[override.name], override)
            if message:
                yield override, message


def cap_fault(plan: Plan, overrides: Overrides) -> str:
    """What is wrong with the override of the spend cap; empty: nothing."""
    cap = overrides.spend_cap
    if cap is None:
        return ""
    if plan.spend_cap is None:
        return f"the plan {quoted(plan.name)} has no spend cap"
    known, given = plan.spend_cap.limit, cap.limit
    if given is not None and given.currency != known.currency:
        return f"{given} mixes currencies, the plan's spend cap is in {known.currency}"
    return ""


def _senseless(policy: Limit | Concurrency | Quota, override: Override) -> str:
    if isinstance(policy, Quota):
        limit = policy.limit if override.limit is None else override.limit
        if limit == 0 and (override.overage or policy.overage) == "block":
            return "a quota of 0 with overage: block refuses every call; write a larger limit or another overage"
        return ""
    if not {"tenant", "key"} & set(policy.scope):
        scope = f"[{', '.join(policy.scope)}]"
        return (
            f"tenants share one count of {quoted(policy.name)}, whose scope is {scope}; only one with tenant or key "
            "in its scope can be another's"
        )
    return ""
