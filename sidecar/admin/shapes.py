"""How tenants, keys and usage look in JSON. Times are RFC 3339 in UTC, None is never."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sidecar.core.accounts import Account
from sidecar.core.clock import NS_PER_S
from sidecar.core.latency import quantile_us
from sidecar.core.ports import UsageReport, UsageRow
from sidecar.core.records import ANOMALY, SHADOW
from sidecar.core.units import parse_duration_ns
from sidecar.core.values import ApiKey, Tenant

_NS_PER_US = 1_000
_US_PER_S = 1_000_000
_US_PER_MS = 1_000
_LAST_S = 253_402_300_799  # 9999-12-31T23:59:59Z, the last second that datetime can write


def time_text(ns: int) -> str:
    """Unix nanoseconds as ``2026-11-23T19:00:00Z``; whole seconds, cut; after year 9999 the last second of it."""
    return datetime.fromtimestamp(min(ns // NS_PER_S, _LAST_S), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def instant_us(text: str, now_us: int) -> int:
    """A duration before now (``1d``) or an ISO 8601 time (UTC unless it says otherwise) as Unix microseconds."""
    try:
        return max(0, now_us - parse_duration_ns(text) // _NS_PER_US)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time; write a duration such as 1d, or 2026-11-23T19:00:00Z") from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    try:
        return max(0, round(at.timestamp() * _US_PER_S))
    except OverflowError:
        raise ValueError(f"{text!r} is out of range") from None


def tenant(value: Tenant, source: str) -> dict[str, Any]:
    """``source``: ``store``, or ``policies`` when it is declared there and cannot be changed from here."""
    return {
        "name": value.name,
        "plan": value.plan,
        "state": str(value.state),
        "stripe_customer": value.stripe_customer,
        "created": _time_or_none(value.created_ns or None),
        "source": source,
    }


def payment(value: Account) -> dict[str, Any]:
    """``plan``: what payment makes of it, None: the tenant's own; ``until``: when the access changes by itself."""
    second = 10**9
    return {
        "customer": value.customer,
        "subscription": value.subscription,
        "status": value.status or None,
        "access": str(value.access),
        "plan": value.plan,
        "since": _time_or_none(value.since_ns or None),
        "until": _time_or_none(value.until_ns),
        "trial_until": _time_or_none(None if value.trial_until_s is None else value.trial_until_s * second),
        "ends": _time_or_none(None if value.ends_s is None else value.ends_s * second),
    }


def key_status(value: ApiKey, now_ns: int) -> str:
    """``active``, ``revoked`` or ``expired``."""
    if value.revoked_ns is not None and value.revoked_ns <= now_ns:
        return "revoked"
    if value.expires_ns is not None and value.expires_ns <= now_ns:
        return "expired"
    return "active"


def key(value: ApiKey, now_ns: int) -> dict[str, Any]:
    """All but the digest. ``scopes`` None: not narrowed."""
    return {
        "id": value.id,
        "tenant": value.tenant,
        "name": value.name,
        "test": value.sandbox,
        "scopes": None if value.scopes is None else list(value.scopes),
        "status": key_status(value, now_ns),
        "created": _time_or_none(value.created_ns),
        "expires": _time_or_none(value.expires_ns),
        "revoked": _time_or_none(value.revoked_ns),
        "last_used": _time_or_none(value.last_used_ns),
    }


def usage(report: UsageReport, currency: str) -> dict[str, Any]:
    """Totals at the top, the same split by route and status class, and what test keys used apart from all of it."""
    return {
        "tenant": report.tenant,
        "since": time_text(report.since_us * _NS_PER_US),
        "until": time_text(report.until_us * _NS_PER_US),
        **asdict(report.totals),
        "cost_unit": "micros",
        "currency": currency,
        "indeterminate": report.indeterminate,
        **metered(report.meters),
        "latency": latency(report.latency),
        "routes": {name: asdict(totals) for name, totals in report.routes.items()},
        "statuses": {name: asdict(totals) for name, totals in report.statuses.items()},
        "sandbox": asdict(report.sandbox),
    }


def usage_row(row: UsageRow) -> dict[str, Any]:
    """One group's sums."""
    sums = asdict(row.totals) | {"indeterminate": row.indeterminate}
    return sums | metered(row.meters) | {"latency": latency(row.latency)}


def metered(values: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """``meters`` by name and, apart from them, ``anomalies``: replies from which a meter could not be read, and
    ``shadow_refused``: calls that a policy in shadow mode would have refused, by its name."""
    found: dict[str, dict[str, int]] = {"meters": {}, "anomalies": {}, "shadow_refused": {}}
    for name, value in values.items():
        plain = name.removesuffix(ANOMALY)
        if plain == name:
            found["meters"][name] = value
        elif plain.startswith(SHADOW):
            found["shadow_refused"][plain.removeprefix(SHADOW)] = value
        else:
            found["anomalies"][plain] = value
    return found


def latency(counts: Mapping[int, int]) -> dict[str, Any]:
    """Quantiles of the whole call in milliseconds, at most 12.5 % wrong (core.latency); None when nothing was
    counted."""
    found = {part: quantile_us(counts, part / 100) for part in (50, 90, 99)}
    return {f"p{part}_ms": None if us is None else us / _US_PER_MS for part, us in found.items()}


def _time_or_none(ns: int | None) -> str | None:
    return None if ns is None else time_text(ns)
