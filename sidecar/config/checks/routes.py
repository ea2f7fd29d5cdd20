"""Routes: names, references, and routes that no request can reach."""

from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.config.reading import Reading, nearest, quoted
from sidecar.config.templates import shape
from sidecar.core.policy import Plan, Route, Settings, Snapshot
from sidecar.core.upstreams import Upstream


def check(snapshot: Snapshot, reading: Reading) -> None:
    for upstream in snapshot.upstreams.values():
        _check_fields(upstream, snapshot.settings, reading)
    upstreams = {*snapshot.upstreams, *reading.names("upstream")}
    offer = _offer(snapshot, reading)
    names: dict[str, Route] = {}
    taken: dict[tuple[str | None, str], dict[str | None, Route]] = {}
    for route in snapshot.routes:
        if route.name in names:
            message = (
                f"the route {quoted(route.name)} is defined twice; it stands at {reading.where(names[route.name])} too"
            )
            reading.blame(route, "name", message)
        names.setdefault(route.name, route)
        _check_reach(route, taken.setdefault((route.host, shape(route.path)), {}), reading)
        _check_upstream(route, upstreams, reading)
        _check_caller(route, offer, reading)
        _check_edges(route, snapshot.settings, reading)


def _check_reach(route: Route, taken: dict[str | None, Route], reading: Reading) -> None:
    """``taken`` holds which route takes which method (None: those nobody names) of this host and this shape of path.

    A route that names the method goes before one that takes all, the first of equals wins, and GET brings HEAD
    (gateway.routes): what is taken already can never match.
    """
    methods: tuple[str | None, ...] = (None,) if route.methods is None else tuple(sorted(route.methods))
    lost = [method for method in methods if method in taken]
    if lost:
        what = "" if len(lost) == len(methods) else f"{', '.join(str(method) for method in lost)} of "
        winner = taken[lost[0]]
        message = (
            f"{what}the route {quoted(route.name)} can never match: {quoted(winner.name)} at {reading.where(winner)}"
        )
        implied = lost == ["HEAD"] and winner.methods is not None and "HEAD" not in winner.methods
        cure = "answers HEAD with GET; write this route before it" if implied else "takes the same; remove one"
        reading.blame(route, "path", f"{message} {cure}")
    for method in (*methods, *(("HEAD",) if "GET" in methods else ())):
        taken.setdefault(method, route)


def _check_upstream(route: Route, upstreams: set[str], reading: Reading) -> None:
    if route.upstream in upstreams:
        return
    if route.upstream:
        message = f"nobody defined the upstream {quoted(route.upstream)}{nearest(route.upstream, upstreams)}"
        reading.blame(route, "upstream", message)
    elif len(upstreams) > 1:
        several = ", ".join(sorted(upstreams)[:8])
        if not route.origin.line:
            reading.blame(
                None, "", f"there are several upstreams ({several}) and no routes; write routes that name them"
            )
            return
        message = f"the route {quoted(route.name)} names no upstream and there are several; write one of {several}"
        reading.blame(route, "", message)


def _check_edges(route: Route, settings: Settings, reading: Reading) -> None:
    strip = route.strip_prefix
    if strip and not f"{route.path}/".startswith(f"{strip}/"):
        message = (
            f"the paths of {quoted(route.name)} do not begin with {strip}; write a beginning of {quoted(route.path)}"
        )
        reading.blame(route, "strip_prefix", message)
    _check_fields(route, settings, reading)
    if route.max_header_bytes is not None and route.max_header_bytes > settings.bounds.max_header_bytes:
        message = "is more than bounds.max_header_bytes, which holds for every route; write less, or raise the bound"
        reading.blame(route, "max_header_bytes", message)


def _check_fields(owner: Route | Upstream, settings: Settings, reading: Reading) -> None:
    rules, identity = owner.request_headers, settings.identity
    own = {identity.api_key.header.lower(): "carries the API key"}
    if identity.upstream_jwt is not None:
        own[identity.upstream_jwt.header.lower()] = "carries the signed identity"
    for name in () if rules is None else (*(name for name, _ in rules.set), *rules.remove):
        if name.lower() in own:
            message = f"{name} {own[name.lower()]}, which the sidecar alone decides; remove it"
            reading.blame(owner, "request_headers", message)


@dataclass(frozen=True, slots=True)
class _Offer:
    """What callers can bring: plans by name, names of broken plans too, and the features of all plans."""

    plans: Mapping[str, Plan]
    names: set[str]
    features: frozenset[str]


def _offer(snapshot: Snapshot, reading: Reading) -> _Offer:
    features = frozenset().union(*(plan.features for plan in snapshot.plans.values()))
    return _Offer(snapshot.plans, {*snapshot.plans, *reading.names("plan")}, features)


def _check_caller(route: Route, offer: _Offer, reading: Reading) -> None:
    """Whether somebody can be allowed through: plans, features and scopes against ``auth``."""
    if route.plan and route.auth == "required":
        reading.blame(route, "plan", "plan goes with auth: none only; other callers bring their own plan, remove it")
    elif route.plan and route.plan not in offer.names:
        message = f"nobody defined the plan {quoted(route.plan)}{nearest(route.plan, offer.names)}"
        reading.blame(route, "plan", message)
    if route.feature and route.feature not in offer.features and len(offer.names) == len(offer.plans):
        message = f"no plan has the feature {quoted(route.feature)}, so nobody could call it"
        reading.blame(route, "feature", message + nearest(route.feature, offer.features))
    elif route.feature and route.auth == "none":
        plan = offer.plans.get(route.plan or "")
        if plan is None or route.feature not in plan.features:
            message = f"callers without a key have no feature {quoted(route.feature)}; write auth: required"
            reading.blame(route, "feature", message)
    if route.scopes and route.auth == "none":
        reading.blame(route, "scopes", "callers without a key have no scopes; remove them or write auth: required")
