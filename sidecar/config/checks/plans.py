"""Plans, meters and tenants: references, limits that can never bind, meters that nothing sees."""

from collections.abc import Iterable, Mapping
from itertools import permutations
from typing import TypeVar

from sidecar.config.reading import Reading, nearest, quoted
from sidecar.core.policy import Concurrency, Limit, Meter, Plan, Quota, Route, Snapshot
from sidecar.core.units import format_duration_ns

_K = TypeVar("_K")
_KNOWN = ("requests", "units")  # counts that are known before a call is served
# Each longer period of the same calendar holds the shorter one whole; a week may lie in two months, so that pair says
# nothing, and a billing period begins at any minute.
_INSIDE = {"hour": ("day", "week", "month"), "day": ("week", "month"), "week": (), "month": (), "billing": ()}


def check(snapshot: Snapshot, reading: Reading) -> None:
    plans = _defined("plan", snapshot.plans, reading)
    meters = _defined("meter", snapshot.meters, reading)
    heaviest = _Heaviest(snapshot.routes)
    for plan in snapshot.plans.values():
        _check_names(plan, reading)
        _check_limits(plan, reading)
        _check_units(plan, snapshot, heaviest, reading)
        _check_meters(plan, meters, reading)
        _check_estimates(plan, snapshot.meters, reading)
        if plan.test_keys is not None and plan.test_keys not in plans:
            reading.blame(plan, "test_keys", _undefined("plan", plan.test_keys, plans))
    for tenant in snapshot.tenants.values():
        if tenant.plan not in plans:
            reading.blame(tenant, "plan", _undefined("plan", tenant.plan, plans))
    if not any(fault.path.startswith("plans") for fault in reading.faults):
        _check_seen(snapshot, reading)
    _check_meter_routes(snapshot, reading)
    _check_route_estimates(snapshot, meters, reading)


def _defined(kind: str, good: Iterable[str], reading: Reading) -> set[str]:
    """The names of ``kind``, those too whose definition has a fault of its own."""
    return {*good, *reading.names(kind)}


def _undefined(kind: str, name: str, known: set[str]) -> str:
    return f"nobody defined the {kind} {quoted(name)}{nearest(name, known)}"


def _check_names(plan: Plan, reading: Reading) -> None:
    seen: dict[str, Limit | Concurrency | Quota] = {}
    policies: tuple[Limit | Concurrency | Quota, ...] = (*plan.limits, *plan.concurrency, *plan.quotas)
    for policy in policies:
        if policy.name in seen:
            first = reading.where(seen[policy.name])
            message = f"the plan {quoted(plan.name)} has two policies named {quoted(policy.name)}, the other at {first}"
            reading.blame(policy, "name", f"{message}; callers see the names, give each its own")
        seen.setdefault(policy.name, policy)


def _wider(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether every count of ``other`` lies within a single count of ``one``; a key belongs to one tenant."""
    return set(one) <= {*other, *(("tenant",) if "key" in other else ())}


def _check_limits(plan: Plan, reading: Reading) -> None:
    """A limit never binds when another lets less through in its window: ceil(window / other window) x other limit.

    What is in shadow mode lets all through."""
    idle: set[int] = set()
    for limit, other in permutations(plan.limits, 2):
        if id(limit) in idle or id(other) in idle or other.mode == "shadow" or not _wider(other.scope, limit.scope):
            continue
        windows = -(-limit.window_ns // other.window_ns)
        most = other.limit * windows
        if most < limit.limit or (windows == 1 and most == limit.limit):
            idle.add(id(limit))
            window = format_duration_ns(limit.window_ns)
            message = (
                f"the limit {quoted(limit.name)} ({_rate(limit)}) can never bind: {quoted(other.name)} "
                f"({_rate(other)}) at {reading.where(other)} lets at most {most:,} through in {window}; "
                "remove one or correct its numbers"
            )
            reading.blame(limit, "limit", message)
    _check_concurrency(plan, reading)
    _check_quotas(plan, reading)


def _check_concurrency(plan: Plan, reading: Reading) -> None:
    idle: set[int] = set()
    for call, wide in permutations(plan.concurrency, 2):
        binds = id(wide) not in idle and wide.mode != "shadow"
        if binds and _wider(wide.scope, call.scope) and wide.limit <= call.limit:
            idle.add(id(call))
            message = (
                f"{quoted(call.name)} can never bind: {quoted(wide.name)} at {reading.where(wide)} always binds first"
            )
            reading.blame(call, "limit", f"{message}; remove one or correct its number")


def _check_quotas(plan: Plan, reading: Reading) -> None:
    idle: set[int] = set()
    for quota, other in permutations(plan.quotas, 2):
        blocks = quota.overage == other.overage == "block" and quota.meter == other.meter and other.mode != "shadow"
        blocks = blocks and quota.time_zone == other.time_zone
        longer = other.period in _INSIDE[quota.period] or (other.period == quota.period and id(other) not in idle)
        if blocks and longer and other.limit <= quota.limit:
            idle.add(id(quota))
            message = (
                f"the quota {quoted(quota.name)} ({quota.limit:,} per {quota.period}) can never bind: "
                f"{quoted(other.name)} ({other.limit:,} per {other.period}) at {reading.where(other)} always "
                "binds first"
            )
            reading.blame(quota, "limit", f"{message}; remove one or correct its numbers")


def _rate(limit: Limit) -> str:
    return f"{limit.limit:,} per {format_duration_ns(limit.window_ns)}"


class _Heaviest:
    """The heaviest route by who may call it, so that plans times routes need not be walked."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_feature: dict[str | None, Route] = {}
        self._by_plan: dict[str, Route] = {}
        for route in routes:
            if route.auth == "required":
                self._keep(self._by_feature, route.feature, route)
            elif route.plan is not None:
                self._keep(self._by_plan, route.plan, route)

    @staticmethod
    def _keep(into: dict[_K, Route], key: _K, route: Route) -> None:
        if key not in into or into[key].units < route.units:
            into[key] = route

    def of(self, plan: Plan) -> Route | None:
        """The heaviest route that callers of ``plan`` may use."""
        keys = (None, *plan.features)
        found = [self._by_feature[key] for key in keys if key in self._by_feature]
        if plan.name in self._by_plan:
            found.append(self._by_plan[plan.name])
        return max(found, key=lambda route: route.units, default=None)


def _check_units(plan: Plan, snapshot: Snapshot, heaviest: _Heaviest, reading: Reading) -> None:
    route = heaviest.of(plan)
    if route is None:
        return
    blocking = [quota for quota in plan.quotas if quota.overage == "block" and _counts_units(snapshot, quota)]
    policies: tuple[Limit | Quota, ...] = (*plan.limits, *blocking)
    for policy in sorted(policies, key=lambda policy: policy.limit)[:1]:
        if policy.limit < route.units:
            message = (
                f"{quoted(policy.name)} of the plan {quoted(plan.name)} allows {policy.limit:,} units, but one "
                f"call of the route {quoted(route.name)} at {reading.where(route)} weighs {route.units:,}: it "
                "could never pass; write a larger limit or smaller units"
            )
            built_in = not policy.origin.line
            reading.blame(route if built_in else policy, "units" if built_in else "limit", message)


def _counts_units(snapshot: Snapshot, quota: Quota) -> bool:
    meter = snapshot.meters.get(quota.meter)
    return meter is not None and meter.count == "units" and meter.routes is None


def _check_estimates(plan: Plan, meters: Mapping[str, Meter], reading: Reading) -> None:
    for quota in plan.quotas:
        meter = meters.get(quota.meter)
        if quota.estimate and meter is not None and meter.count in _KNOWN:
            reading.blame(quota, "estimate", _known_before(meter))


def _check_route_estimates(snapshot: Snapshot, meters: set[str], reading: Reading) -> None:
    """Field bug 21, for estimates: one that no quota holds says nothing."""
    held = {quota.meter for plan in snapshot.plans.values() for quota in plan.quotas if quota.overage == "block"}
    for plan in snapshot.plans.values():
        if plan.price is not None and (plan.prepaid or plan.spend_cap is not None):
            held |= {price.meter for price in plan.price.meters}
    for route in snapshot.routes:
        for name, _ in route.estimates or ():
            meter = snapshot.meters.get(name)
            if name not in meters:
                reading.blame(route, "estimates", _undefined("meter", name, meters))
            elif meter is not None and meter.count in _KNOWN:
                reading.blame(route, "estimates", _known_before(meter))
            elif meter is not None and name not in held:
                message = (
                    f"no quota with overage: block, and no budget in money, counts the meter {quoted(name)}; "
                    "write one, or remove this"
                )
                reading.blame(route, "estimates", message)


def _known_before(meter: Meter) -> str:
    return f"what a call takes of the meter {quoted(meter.name)} is known beforehand; remove the estimate"


def _check_meters(plan: Plan, meters: set[str], reading: Reading) -> None:
    priced = {price.meter for price in plan.price.meters} if plan.price else set()
    for quota in plan.quotas:
        if quota.meter not in meters:
            reading.blame(quota, "meter", _undefined("meter", quota.meter, meters))
        elif quota.overage == "bill" and quota.meter not in priced:
            message = (
                f"overage: bill charges nothing, for the plan {quoted(plan.name)} has no price for the meter "
                f"{quoted(quota.meter)}; write one under price.meters, or overage: allow"
            )
            reading.blame(quota, "overage", message)
    for price in plan.price.meters if plan.price else ():
        if price.meter not in meters:
            reading.blame(price, "", _undefined("meter", price.meter, meters))


def _check_seen(snapshot: Snapshot, reading: Reading) -> None:
    """Field bug 21: a meter that can never match, or that nothing looks at, is an error and not a silent no-op."""
    seen = {quota.meter for plan in snapshot.plans.values() for quota in plan.quotas}
    seen |= {price.meter for plan in snapshot.plans.values() if plan.price for price in plan.price.meters}
    if snapshot.settings.billing.cloud_events is not None:  # whoever takes the events puts a price on them
        seen |= {meter.name for meter in snapshot.meters.values() if meter.stripe_event is not None}
    for meter in snapshot.meters.values():
        if meter.name not in seen and meter.origin.line:
            message = (
                f"no quota or price sees the meter {quoted(meter.name)}; remove it, or write a quota or price over it"
            )
            reading.blame(meter, "", message)


def _check_meter_routes(snapshot: Snapshot, reading: Reading) -> None:
    routes = {route.name: route for route in snapshot.routes}
    names = _defined("route", routes, reading)
    anonymous = {route.name for route in snapshot.routes if route.auth == "none"}
    for meter in snapshot.meters.values():
        for name in sorted(meter.routes or ()):
            if name not in names:
                reading.blame(meter, "routes", _undefined("route", name, names))
            elif name in anonymous:
                message = f"the route {quoted(name)} has auth: none, so there is no tenant to count for; remove it here"
                reading.blame(meter, "routes", message)
        _check_countable(meter, routes, anonymous, reading)


def _check_countable(meter: Meter, routes: dict[str, Route], anonymous: set[str], reading: Reading) -> None:
    if meter.origin.line and meter.routes is None and routes and len(anonymous) == len(routes):
        message = f"the meter {quoted(meter.name)} can never count: every route has auth: none, so there is no tenant"
        reading.blame(meter, "", message)
    counted = [routes[name] for name in meter.routes or () if name in routes]
    if meter.count == "units" and counted and all(route.units == 0 for route in counted):
        reading.blame(meter, "routes", f"the meter {quoted(meter.name)} can never count: its routes weigh 0 units")
