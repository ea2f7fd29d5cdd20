"""What differs between the policies in force and a new set, as ``sidecar plan`` shows it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sidecar.config import policies
from sidecar.config.display import escaped
from sidecar.core.policy import Snapshot
from sidecar.core.units import parse_duration_ns

_TOP: Final = {entry.key: entry.kind for entry in policies.TOP}
_IN_PLAN: Final = {"limits": "limit", "concurrency": "concurrency", "quotas": "quota"}
_SPAN: Final = {"hour": 1, "day": 24, "week": 168, "month": 672}  # hours, at least
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. ``action``: ``added``, ``removed`` or ``changed``; ``kind``: plan, limit, concurrency, quota,
    price, route, meter, tenant, costs; ``path``: where it stands in the YAML, such as ``plans.free.limits.burst``.

    ``fields``: of what changed, each with the value before and after. ``effect``: what follows, in words; may be empty.
    ``plan``: the plan that it is about, empty for others.
    """

    action: str
    kind: str
    path: str
    fields: Mapping[str, tuple[Any, Any]]
    effect: str = ""
    plan: str = ""


def policy_set(snapshot: Snapshot) -> dict[str, Any]:
    """Meters, routes, plans, tenants and costs as JSON can hold them: what ``policies/*.yaml`` would say."""
    values = {
        "meters": snapshot.meters,
        "routes": snapshot.routes,
        "plans": snapshot.plans,
        "tenants": snapshot.tenants,
        "costs": snapshot.costs,
    }
    shown: dict[str, Any] = {key: escaped(_TOP[key].show(value)) for key, value in values.items()}
    return shown


def compare(old: Values, new: Values) -> list[Change]:
    """All differences, plans first."""
    found: list[Change] = []
    before, after = old.get("plans", {}), new.get("plans", {})
    for name in sorted({*before, *after}):
        found += _plan(name, before.get(name), after.get(name))
    found += _named("route", "routes", _by_name(old.get("routes", [])), _by_name(new.get("routes", [])))
    found += _named("meter", "meters", old.get("meters", {}), new.get("meters", {}))
    found += _named("tenant", "tenants", old.get("tenants", {}), new.get("tenants", {}))
    costs = _fields(old.get("costs", {}), new.get("costs", {}))
    if costs:
        found.append(Change("changed", "costs", "costs", costs))
    return found


def _plan(name: str, old: Values | None, new: Values | None) -> Iterator[Change]:
    path = f"plans.{name}"
    if old is None or new is None:
        action = "added" if old is None else "removed"
        effect = "" if old is None else "its tenants get 403 plan_unknown"
        yield Change(action, "plan", path, {}, effect, name)
        return
    for key, kind in _IN_PLAN.items():
        yield from _named(kind, f"{path}.{key}", _by_name(old.get(key, [])), _by_name(new.get(key, [])), name)
    price = _fields(_flat(old.get("price") or {}), _flat(new.get("price") or {}))
    if price:
        yield Change("changed", "price", f"{path}.price", price, "", name)
    rest = _fields(
        *({key: value for key, value in one.items() if key not in (*_IN_PLAN, "price")} for one in (old, new))
    )
    if rest:
        yield Change("changed", "plan", path, rest, _lost(rest), name)


def _named(
    kind: str, path: str, old: Mapping[str, Values], new: Mapping[str, Values], plan: str = ""
) -> Iterator[Change]:
    for name in [*old, *(name for name in new if name not in old)]:
        at = f"{path}.{name}"
        if name not in new:
            yield Change("removed", kind, at, {}, "", plan)
        elif name not in old:
            effect = "counted, not enforced" if new[name].get("mode") == "shadow" else ""
            yield Change("added", kind, at, {}, effect, plan)
        else:
            fields = _fields(old[name], new[name])
            if fields:
                yield Change("changed", kind, at, fields, _effect(kind, old[name], new[name]), plan)


def _effect(kind: str, old: Values, new: Values) -> str:
    if kind not in _IN_PLAN.values():
        return ""
    said = []
    modes = old.get("mode"), new.get("mode")
    anew = old.get("scope") != new.get("scope") or (kind == "quota" and old.get("meter") != new.get("meter"))
    if modes == ("shadow", "enforce"):
        said.append("enforced from then on" if anew else "enforced from then on, with what it has counted")
    elif modes == ("enforce", "shadow"):
        said.append("no longer enforced")
    overage = new.get("overage")
    if overage != old.get("overage"):
        said.append("calls beyond it are refused" if overage == "block" else "calls beyond it pass")
    if anew:
        said.append("its counters start anew")
    else:
        said.append(_tighter(kind, old, new))
    return "; ".join(word for word in said if word)


def _tighter(kind: str, old: Values, new: Values) -> str:
    """``tighter`` where the new one lets less through in any time, ``looser`` where more, else empty."""
    more, longer = int(new["limit"]) - int(old["limit"]), _span(kind, new) - _span(kind, old)
    if more == longer == 0:
        return ""
    if more <= 0 <= longer:
        return "tighter"
    return "looser" if more >= 0 >= longer else ""


def _span(kind: str, values: Values) -> int:
    if kind == "limit":
        return parse_duration_ns(values["window"])
    return _SPAN.get(values.get("period", ""), 0)


def _lost(fields: Mapping[str, tuple[Any, Any]]) -> str:
    gone = sorted(set(fields["features"][0]) - set(fields["features"][1])) if "features" in fields else []
    return f"routes that need {', '.join(gone)} answer 403 feature_not_in_plan" if gone else ""


def _fields(old: Values, new: Values) -> dict[str, tuple[Any, Any]]:
    return {
        key: (old.get(key), new.get(key))
        for key in [*old, *(key for key in new if key not in old)]
        if old.get(key) != new.get(key)
    }


def _flat(price: Values) -> dict[str, Any]:
    """A price with each meter's as a field of its own."""
    flat = {key: value for key, value in price.items() if key != "meters"}
    return flat | {f"meters.{name}": value for name, value in (price.get("meters") or {}).items()}


def _by_name(records: Any) -> dict[str, Values]:
    return {record["name"]: record for record in records}
