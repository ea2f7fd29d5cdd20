"""What a gate would answer now, and how every policy stands that it asks, in its order. For people.

Nothing is consumed: a counter that a request would meet is looked up, and made where there is none, and nothing is
counted in it. Where limits are shared the store is asked how they stand, for no units.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sidecar.admission.buckets import Slots
from sidecar.admission.budgets import SharedPeriod
from sidecar.admission.compile import entitlement, plan_of
from sidecar.admission.gate import Gate, Rule
from sidecar.admission.keeper import Keeper
from sidecar.admission.leases import Lease
from sidecar.admission.places import SharedSlots
from sidecar.admission.quotas import Period, QuotaRule
from sidecar.admission.refusals import PolicyUse, Refused, Violation, exceeded, seconds, state_refusals
from sidecar.admission.scopes import OVERFLOW, Key
from sidecar.admission.shadow import ShadowGate
from sidecar.admission.shared import UNAVAILABLE, _share, lends, seats
from sidecar.core.policy import Concurrency, Limit, Plan, Quota, Route, Snapshot
from sidecar.core.values import SAFE_METHODS, Principal
from sidecar.core.windows import Window


@dataclass(frozen=True, slots=True)
class Asker:
    """What of a request is known beside its principal; ``ip`` None, a header that is not among ``headers`` (by
    lower-case name), ``key`` False: not said, so that counters by it are not known."""

    method: str = "GET"
    key: bool = True
    ip: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """A question that comes before the policies. ``code``: of the refusal, None: it passes."""

    name: str
    says: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How one policy stands. ``missing``: what of the request has to be said for it, then ``use`` is None.

    ``bucket``: the counter, for people; ``leased``: units in hand here of a shared one, None: it is not shared.
    ``retry_s``: of a policy that would refuse, None: never passes. ``blind``: how the store of limits being gone would
    decide, empty when it would not.
    """

    policy: Limit | Concurrency | Quota
    kind: str
    bucket: str = ""
    missing: tuple[str, ...] = ()
    use: PolicyUse | None = None
    leased: int | None = None
    refuses: bool = False
    retry_s: int | None = None
    blind: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """``answer`` None: the request would pass, as far as is known. ``shared``: whether the store of limits that nodes
    share answered, None: there is none, or no limit of it."""

    plan: Plan | None
    checks: tuple[Check, ...]
    standings: tuple[Standing, ...]
    answer: Refused | None
    shared: bool | None = None


def checks_of(
    snapshot: Snapshot, principal: Principal, route: Route, method: str
) -> tuple[list[Check], Refused | None]:
    """What is asked before the policies, in order; and the refusal of the first one that does not pass."""
    every, unsafe = state_refusals(principal, snapshot.settings.billing.access.pay_url)
    barred = every or (unsafe if method not in SAFE_METHODS else None)
    found, answer = [Check("state", str(principal.state), _code(barred))], barred
    plan = plan_of(snapshot, principal)
    if isinstance(plan, Refused):
        return [*found, Check("plan", plan.problem.detail, plan.problem.code)], answer or plan
    found.append(Check("plan", plan.name))
    own = snapshot.plans[principal.plan]
    refused = entitlement(own, principal, route)
    code = _code(refused)
    feature = "none needed" if route.feature is None else f"{route.feature} needed, {_listed(own.features)} in the plan"
    found.append(Check("feature", feature, code if code == "feature_not_in_plan" else None))
    has = "all" if principal.scopes is None else _listed(principal.scopes)
    scopes = f"{_listed(route.scopes)} needed, {has} on the key" if route.scopes else "none needed"
    found.append(Check("scopes", scopes, code if code == "scope_missing" else None))
    return found, answer or refused


async def explain(
    gate: Gate, asker: Asker, keeper: Keeper | None
) -> tuple[tuple[Standing, ...], Refused | None, bool | None]:
    """Every policy of ``gate``; what they would answer; whether the shared store was there (as in Explanation)."""
    parts: tuple[Gate, ...] = (gate._enforced, gate) if isinstance(gate, ShadowGate) else (gate,)
    leases = [bucket for part in parts for _, bucket in _buckets(part, asker) if isinstance(bucket, Lease)]
    periods = [each for part in parts for each in _periods(part) if isinstance(each, SharedPeriod)]
    periods += [slots.places for part in parts for _, slots in _buckets(part, asker) if isinstance(slots, SharedSlots)]
    there = None
    if (leases or periods) and keeper is not None:
        there = await keeper.look(leases, gate.route.units, periods)
    enforced, *shadow = (tuple(_standings(part, asker, there)) for part in parts)
    violations = [Violation(one.use, one.retry_s) for one in enforced if one.refuses and one.use is not None]
    # As the gate: a limit that is known to be used up goes before the store that is not there, all else comes after it.
    blind = any(one.blind == "deny" for one in enforced) and not any(each.use.kind == "limit" for each in violations)
    answer = UNAVAILABLE if blind else None
    if violations and not blind:
        answer = exceeded(violations, gate.route.units, parts[0]._demand.upgrade, ())
    return (*enforced, *(one for part in shadow for one in part)), answer, there


def _buckets(gate: Gate, asker: Asker) -> Iterator[tuple[Rule, Window | Slots | None]]:
    """Each rule with its counter; None when that is not known."""
    now = gate._monotonic_ns()
    for rule in (*gate._demand.limits, *gate._demand.concurrency):
        known = not _missing(rule.policy.scope, asker)
        yield rule, gate._bucket(rule, now, asker.ip or "", _headers(asker)) if known else None


def _periods(gate: Gate) -> list[Period]:
    now, wall = gate._monotonic_ns(), gate._wall_ns()
    return [gate._turn(rule, wall, now) for rule in gate._quotas]


def _standings(gate: Gate, asker: Asker, there: bool | None) -> Iterator[Standing]:
    now, units = gate._monotonic_ns(), gate.route.units
    for rule, bucket in _buckets(gate, asker):
        policy = rule.policy
        kind = "limit" if isinstance(policy, Limit) else "concurrency"
        if bucket is None:
            yield Standing(policy, kind, missing=_missing(policy.scope, asker))
            continue
        key = _met(gate, rule, bucket, asker)
        use = gate._bucket_use(rule, bucket, now)
        if isinstance(bucket, Slots):
            yield _slots_standing(bucket, policy, bucket_text(key), use, there)
            continue
        leased = bucket.left if isinstance(bucket, Lease) else None
        if isinstance(bucket, Lease) and isinstance(policy, Limit) and not (there or bucket.closed(now, units)):
            blind = "" if bucket.left >= units else _blind(bucket, policy, now, units)
            yield Standing(policy, kind, bucket_text(key), (), use, leased, blind=blind)
            continue
        at = bucket.retry_at_ns(now, units)
        retry_s = None if at is None else max(1, seconds(at - now))
        yield Standing(policy, kind, bucket_text(key), (), use, leased, at is None or at > now, retry_s)
    wall = gate._wall_ns()
    for quota in gate._quotas:
        yield _quota_standing(gate, quota, wall, now, there)


def _slots_standing(
    slots: Slots, policy: Limit | Concurrency, bucket: str, use: PolicyUse, there: bool | None
) -> Standing:
    if not isinstance(slots, SharedSlots) or not isinstance(policy, Concurrency):
        return Standing(policy, "concurrency", bucket, (), use, None, slots.left() == 0, 1)
    blind = ""
    if not there and slots.spare == 0:
        blind = policy.on_store_error if seats(slots, policy) else "deny"
    return Standing(policy, "concurrency", bucket, (), use, slots.spare, not blind and slots.left() == 0, 1, blind)


def _quota_standing(gate: Gate, rule: QuotaRule, wall: int, now: int, there: bool | None) -> Standing:
    period = gate._turn(rule, wall, now)
    use = gate._quota_use(rule, period, wall)
    refuses = rule.block and period.used + rule.least > rule.limit
    retry_s = None if rule.least > rule.limit else max(1, use.reset_s)
    key = rule.key
    words = f"{'test ' if key.sandbox else ''}meter={key.meter} tenant={_text(key.tenant)} period={rule.quota.period}"
    if not isinstance(period, SharedPeriod):
        return Standing(rule.quota, "quota", words, (), use, None, refuses, retry_s)
    leased = max(0, period.room)
    blind = ""
    if rule.block and not there and leased < rule.least and not period.closed(now, rule.limit, rule.least):
        blind = rule.quota.on_store_error if lends(period, rule) else "deny"
    return Standing(rule.quota, "quota", words, (), use, leased, refuses and not blind, retry_s, blind)


def _met(gate: Gate, rule: Rule, bucket: Window | Slots, asker: Asker) -> Key:
    """The key under which the counter stands: its own, or that of the overflow."""
    key, spare = rule.keys(asker.ip or "", _headers(asker))
    return spare if spare is not None and gate._buckets.holds(spare, bucket) else key


def bucket_text(key: Key) -> str:
    """A counter's key for people, such as ``free/steady tenant="acme"``: plan and name, then what shares it."""
    _, plan, name, sandbox, scope = key[0]
    values = [f"{part}={_value(part, value)}" for part, value in zip(scope, key[1:], strict=True)]
    return " ".join([f"{plan}/{name}", *(["test"] if sandbox else []), *values])


def _value(part: str, value: Any) -> str:
    if value is OVERFLOW or (isinstance(value, tuple) and OVERFLOW in value):
        return "(shared by those for whom there was no counter)"
    if value is None:
        return "(none)"
    if part == "key":
        return _text(value[1])
    if isinstance(value, tuple):
        return f"(digest {value[1].hex()[:16]})"
    return _text(value.decode("latin-1") if isinstance(value, bytes) else str(value))


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _missing(scope: Sequence[str], asker: Asker) -> tuple[str, ...]:
    found = []
    for part in scope:
        if part.startswith("header:"):
            if part[7:] not in asker.headers:
                found.append(part)
        elif (part == "ip" and asker.ip is None) or (part == "key" and not asker.key):
            found.append(part)
    return tuple(found)


def _headers(asker: Asker) -> Any:
    def header(name: bytes) -> bytes | None:
        value = asker.headers.get(name.decode("latin-1"))
        return None if value is None else value.encode("latin-1", "replace")

    return header


def _blind(lease: Lease, policy: Limit, now: int, units: int) -> str:
    """As SharedGate.blind decides; nothing is taken from the share."""
    if policy.on_store_error == "local" and not _share(lease, policy, now).fits(now, units):
        return "deny"
    return policy.on_store_error


def _code(refused: Refused | None) -> str | None:
    return None if refused is None else refused.problem.code


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
