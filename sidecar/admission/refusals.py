"""Refusals: what a caller reads who may not pass, built only when it happens.

A 429 is the draft's quota-exceeded problem (draft-ietf-httpapi-ratelimit-headers-11): ``violated-policies`` lists the
names; our own member ``policies`` has one object per violated policy with ``name, kind, scope, limit, window or period,
used, remaining, reset`` (whole seconds), ``plan`` and ``units`` say whose policies they are and what the request
weighs. ``upgrade`` is the plan's way out, if it has one. What is the operator's business stays out: files and lines,
the counter's key, the store, policies that did not refuse.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.core.clock import NS_PER_S
from sidecar.core.money import format_micros
from sidecar.core.periods import period_bounds
from sidecar.core.policy import SpendCap
from sidecar.core.problems import Problem, passing_problem, problem
from sidecar.core.spend import CAPPED, Spend
from sidecar.core.values import AccessState, Principal

_CODES = {"limit": "limit_exceeded", "concurrency": "concurrency_exceeded", "quota": "quota_exceeded"}


@dataclass(frozen=True, slots=True)
class Refused:
    """The request may not pass, and nothing was consumed. ``problem.headers`` are complete."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class PolicyUse:
    """How one policy stands. ``kind``: limit, concurrency or quota. ``span``: ``1m``, ``month``, or empty.

    ``reset_s``: whole seconds until some of it comes back; 0 when nothing is used or no time can be named.
    ``origin``: ``file:line`` of the policy; ``mode``: ``enforce`` or ``shadow``.
    """

    name: str
    kind: str
    plan: str
    sandbox: bool
    scope: tuple[str, ...]
    limit: int
    span: str
    used: int
    remaining: int
    reset_s: int
    origin: str
    mode: str = "enforce"


@dataclass(frozen=True, slots=True)
class Violation:
    """A policy that refuses. ``retry_s`` None: this request can never pass."""

    use: PolicyUse
    retry_s: int | None


def seconds(ns: int) -> int:
    """Nanoseconds as whole seconds, rounded up, never below 0."""
    return max(0, -(-ns // NS_PER_S))


UNREADABLE = Refused(passing_problem("store_unavailable", "What the account has left could not be read; try again."))


def exceeded(
    violations: Sequence[Violation], units: int, upgrade: str | None, announced: tuple[tuple[str, str], ...]
) -> Refused:
    """The 429 for these violations, at least one; the longest wait gives the code, the text and ``Retry-After``."""
    worst = max(violations, key=lambda v: float("inf") if v.retry_s is None else v.retry_s)
    extra: dict[str, Any] = {
        "violated-policies": [v.use.name for v in violations],
        "policies": [_member(v) for v in violations],
        "plan": worst.use.plan,
        "units": units,
    }
    if upgrade is not None:
        extra["upgrade"] = upgrade
    headers = announced
    if worst.retry_s is not None:
        headers = (*announced, ("Retry-After", str(worst.retry_s)))
    return Refused(
        problem(_CODES[worst.use.kind], _with_way_out(_detail(worst, units), upgrade), headers=headers, extra=extra)
    )


def barred(code: str, detail: str, *, upgrade: str | None = None) -> Refused:
    """A refusal that no waiting changes."""
    return Refused(problem(code, _with_way_out(detail, upgrade), extra={"upgrade": upgrade} if upgrade else None))


def state_refusals(principal: Principal, pay_url: str | None) -> tuple[Refused | None, Refused | None]:
    """What the tenant's access state refuses: any method, and methods that are not safe. ``pay_url`` is the way to pay,
    the member ``pay`` of a 402."""
    state, tenant = principal.state, principal.tenant
    if state is AccessState.CLOSED:
        return barred("tenant_closed", f"The account {tenant!r} is closed."), None
    if state is AccessState.SUSPENDED:
        return _unpaid(f"The account {tenant!r} is suspended until what is due is paid.", pay_url), None
    if state is AccessState.READ_ONLY:
        detail = f"The account {tenant!r} is read-only until what is due is paid: GET, HEAD and OPTIONS pass."
        return None, _unpaid(detail, pay_url)
    return None, None


def unpaid_for(
    spend: Spend, verdict: int, cap: SpendCap | None, wall_ns: int, pay_url: str | None, upgrade: str | None
) -> Refused:
    """The 402 of a budget in money, CAPPED or SPENT (core.spend)."""
    standing, currency = spend.standing(wall_ns), spend.terms.tariff.currency
    code = "spend_cap_reached" if verdict == CAPPED else "credits_exhausted"
    headers: tuple[tuple[str, str], ...] = ()
    if verdict == CAPPED and cap is not None:
        retry_s = max(1, seconds(period_bounds(spend.terms.cap_period, wall_ns)[1] - wall_ns))
        headers = (("Retry-After", str(retry_s)),)
        span = "billing period" if cap.period == "billing" else cap.period
        spent = format_micros(standing.spent, currency)
        detail = f"The spend cap allows {cap.limit} per {span}; {spent} are spent, calls under way with them."
        detail = f"{detail} It starts anew in {retry_s} s. Calls that cost nothing pass."
        extra = {"limit": str(cap.limit), "spent": spent}
    else:
        left = format_micros(standing.left or 0, currency)
        detail = f"The credits do not pay for this call: {left} are left. Calls that cost nothing pass."
        extra = {"left": left}
    if pay_url is not None:
        detail, extra = f"{detail} Pay at {pay_url}", extra | {"pay": pay_url}
    return Refused(problem(code, detail, headers=headers, extra=extra | ({"upgrade": upgrade} if upgrade else {})))


def _unpaid(detail: str, pay_url: str | None) -> Refused:
    if pay_url is None:
        return barred("payment_required", detail)
    return Refused(problem("payment_required", f"{detail} Pay at {pay_url}", extra={"pay": pay_url}))


def _detail(violation: Violation, units: int) -> str:
    use = violation.use
    if use.kind == "concurrency":
        return f'"{use.name}" of the plan "{use.plan}" allows {use.limit} requests at once; {use.used} are in flight.'
    if use.kind == "quota":
        span = "billing period" if use.span == "billing" else use.span
        what = f'The quota "{use.name}" of the plan "{use.plan}" allows {use.limit} per {span}'
        if violation.retry_s is None:
            return f"{what}; this request alone needs more."
        return f"{what}; {use.used} are used. It starts anew in {violation.retry_s} s."
    what = f'The limit "{use.name}" of the plan "{use.plan}" allows {use.limit} units in any {use.span}'
    if violation.retry_s is None:
        return f"{what}; this request weighs {units} and can never pass."
    return f"{what}; {use.used} are used and this request weighs {units}. It can pass in {violation.retry_s} s."


def _with_way_out(detail: str, upgrade: str | None) -> str:
    if not upgrade:
        return detail
    return f"{detail} For more, see {upgrade}" if upgrade.startswith(("http://", "https://")) else f"{detail} {upgrade}"


def _member(violation: Violation) -> dict[str, Any]:
    use = violation.use
    member: dict[str, Any] = {
        "name": use.name,
        "kind": use.kind,
        "scope": list(use.scope),
        "limit": use.limit,
        "used": use.used,
        "remaining": use.remaining,
    }
    if use.kind == "limit":
        member["window"] = use.span
    if use.kind == "quota":
        member["period"] = use.span
    if violation.retry_s is not None and use.kind != "concurrency":
        member["reset"] = violation.retry_s
    return member
