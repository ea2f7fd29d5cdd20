"""From the policy snapshot to what one gate asks."""

from collections.abc import Iterable
from typing import Final

from sidecar.admission.gate import Demand, Rule
from sidecar.admission.quotas import QuotaKey, QuotaRule, Quotas
from sidecar.admission.refusals import Refused, barred, state_refusals
from sidecar.admission.scopes import static_values
from sidecar.core.overrides import overridden
from sidecar.core.policy import Concurrency, Limit, Meter, Plan, Quota, Route, Snapshot
from sidecar.core.values import Principal

_ENFORCE: Final = "enforce"
_SHADOW: Final = "shadow"


def plan_of(snapshot: Snapshot, principal: Principal) -> Plan | Refused:
    """The plan whose limits and quotas count for this principal: for a test key, the one named by ``test_keys``."""
    plan = snapshot.plans.get(principal.plan)
    if plan is None:
        return barred("plan_unknown", f"The account's plan {principal.plan!r} is not defined.")
    if not principal.sandbox:
        return overridden(plan, principal.overrides)
    if plan.test_keys is None:
        return barred("test_keys_unavailable", f'The plan "{plan.name}" has no test keys.', upgrade=plan.upgrade)
    test_plan = snapshot.plans.get(plan.test_keys)
    if test_plan is None:
        return barred("plan_unknown", f"The plan {plan.test_keys!r} of test keys is not defined.")
    return test_plan


def quota_keys(plan: Plan | Refused, principal: Principal) -> list[QuotaKey]:
    """The counters of every quota in the plan that is enforced."""
    if isinstance(plan, Refused):
        return []
    return [_quota_key(quota, principal) for quota in plan.quotas if quota.mode != _SHADOW]


def demand(snapshot: Snapshot, principal: Principal, route: Route, quotas: Quotas) -> Demand:
    """What this principal's requests at this route must satisfy."""
    plan = plan_of(snapshot, principal)
    refused, refused_writes = state_refusals(principal, snapshot.settings.billing.access.pay_url)
    if isinstance(plan, Refused):
        return Demand(route, principal.plan, principal.sandbox, barred=refused or plan, barred_writes=refused_writes)
    enforced, shadowed = _quota_rules(snapshot, plan, principal, route, quotas)
    return Demand(
        route,
        plan.name,
        principal.sandbox,
        plan.upgrade,
        refused or entitlement(snapshot.plans[principal.plan], principal, route),
        refused_writes,
        _rules("limit", _ENFORCE, plan.name, plan.limits, principal, route),
        _rules("concurrency", _ENFORCE, plan.name, plan.concurrency, principal, route),
        enforced,
        _shadow(plan, principal, route, shadowed),
    )


def anonymous_demand(snapshot: Snapshot, route: Route) -> Demand:
    """What callers without identity must satisfy at an ``auth: none`` route: the limits of ``route.plan``, if any.

    Quotas are a tenant's, so they do not count here.
    """
    if route.plan is None:
        return Demand(route)
    plan = snapshot.plans.get(route.plan)
    if plan is None:
        return Demand(route, barred=barred("plan_unknown", f"The route's plan {route.plan!r} is not defined."))
    return Demand(
        route,
        plan.name,
        upgrade=plan.upgrade,
        limits=_rules("limit", _ENFORCE, plan.name, plan.limits, None, route),
        concurrency=_rules("concurrency", _ENFORCE, plan.name, plan.concurrency, None, route),
        shadow=_shadow(plan, None, route, ()),
    )


def money_plan(snapshot: Snapshot, principal: Principal) -> Plan | None:
    """The plan whose prices and budgets in money count; None when there is none, and for test keys."""
    plan = plan_of(snapshot, principal)
    return None if principal.sandbox or isinstance(plan, Refused) else plan


def entitlement(plan: Plan, principal: Principal, route: Route) -> Refused | None:
    """The refusal of a route for which the account's plan or the key has not what it needs."""
    if route.feature is not None and route.feature not in plan.features:
        detail = f'The plan "{plan.name}" does not include "{route.feature}".'
        return barred("feature_not_in_plan", detail, upgrade=plan.upgrade)
    if principal.scopes is not None and not route.scopes <= principal.scopes:
        missing = ", ".join(sorted(route.scopes - principal.scopes))
        return barred("scope_missing", f"The key lacks the scope {missing}; use a key that has it.")
    return None


def _shadow(plan: Plan, principal: Principal | None, route: Route, quotas: tuple[QuotaRule, ...]) -> Demand | None:
    """What is in shadow mode; its counters have the same keys as if it were enforced."""
    limits = _rules("limit", _SHADOW, plan.name, plan.limits, principal, route)
    concurrency = _rules("concurrency", _SHADOW, plan.name, plan.concurrency, principal, route)
    if not (limits or concurrency or quotas):
        return None
    sandbox = principal is not None and principal.sandbox
    return Demand(route, plan.name, sandbox, limits=limits, concurrency=concurrency, quotas=quotas)


def _rules(
    kind: str, mode: str, plan: str, policies: Iterable[Limit | Concurrency], principal: Principal | None, route: Route
) -> tuple[Rule, ...]:
    sandbox = principal is not None and principal.sandbox
    return tuple(
        Rule(policy, (kind, plan, policy.name, sandbox, policy.scope), static_values(policy.scope, principal, route))
        for policy in policies
        if policy.mode == mode
    )


def _quota_rules(
    snapshot: Snapshot, plan: Plan, principal: Principal, route: Route, quotas: Quotas
) -> tuple[tuple[QuotaRule, ...], tuple[QuotaRule, ...]]:
    """Those that are enforced, and those in shadow mode, which come after the others and so count what those do not."""
    rules: dict[str, list[QuotaRule]] = {_ENFORCE: [], _SHADOW: []}
    counted: set[QuotaKey] = set()
    for quota in sorted(plan.quotas, key=lambda quota: quota.mode == _SHADOW):
        meter, key = snapshot.meters[quota.meter], _quota_key(quota, principal)
        if meter.routes is None or route.name in meter.routes:
            hold, estimated = _hold(quota, meter, route)
            rule = QuotaRule(quota, key, quotas.get(key), hold, key not in counted, estimated)
            rules[quota.mode].append(rule)
            counted.add(key)
    return tuple(rules[_ENFORCE]), tuple(rules[_SHADOW])


def _quota_key(quota: Quota, principal: Principal) -> QuotaKey:
    return QuotaKey(principal.tenant, principal.sandbox, quota.meter, quota.cycle(principal.billing_cycle))


def _hold(quota: Quota, meter: Meter, route: Route) -> tuple[int, bool]:
    """What a request holds, and whether that is an estimate: of what is known before it is served it is not."""
    known = {"requests": 1, "units": route.units}.get(meter.count)
    if known is not None:
        return known, False
    estimate = dict(route.estimates or ()).get(meter.name, quota.estimate)
    return estimate or 0, estimate is not None
