"""The tables of ``policies/*.yaml``: meters, routes, plans, tenants and costs."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import Any
from zoneinfo import available_timezones

from sidecar.config.costs import COSTS
from sidecar.config.kinds import (
    BOOLEAN,
    MONEY,
    NAME,
    ScalarKind,
    choice,
    duration,
    integer,
    name,
    text,
    text_of,
)
from sidecar.config.meters import METER, MULTIPLY
from sidecar.config.network import TOKEN
from sidecar.config.overrides import OVERRIDES
from sidecar.config.overrides import TABLES as OVERRIDE_TABLES
from sidecar.config.prices import MOST, PRICE, PRICE_TABLES
from sidecar.config.reading import Scalar, quoted
from sidecar.config.routes import ROUTE, WORD
from sidecar.config.routes import TABLES as ROUTE_TABLES
from sidecar.config.tables import Field, ListOf, MapOf, Record, Table
from sidecar.core.names import check_tenant_name
from sidecar.core.periods import PERIODS
from sidecar.core.policy import LOCAL_SHARE, Concurrency, Limit, Plan, Quota, SpendCap
from sidecar.core.values import AccessState, Anchor, Tenant

SCOPES = ("tenant", "key", "route", "ip")
DAY = 86_400 * 10**9


def _parse_scope(scalar: Scalar) -> str:
    part = text_of(scalar)
    header = part.removeprefix("header:")
    if header != part:
        if re.fullmatch(TOKEN, header) is None:
            raise ValueError(f'{quoted(part)} names no header; write one such as "header:X-Org"')
        return f"header:{header.lower()}"
    if part not in SCOPES:
        raise ValueError(f"{quoted(part)} is no scope; write one of {', '.join(SCOPES)} or header:NAME")
    return part


def _parse_zone(scalar: Scalar) -> str:
    zone = text_of(scalar)
    if zone not in _zones():
        raise ValueError(f"{quoted(zone)} is no time zone; {_near_zone(zone)}")
    return zone


@lru_cache(256)  # one wrong name in 10,000 tenants is compared with 600 zones once, not 10,000 times
def _near_zone(zone: str) -> str:
    close = get_close_matches(zone[:80], sorted(_zones()), 1)
    return f"did you mean {quoted(close[0])}?" if close else "write one such as Europe/Berlin"


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _parse_time(scalar: Scalar) -> int:
    """Minutes since midnight."""
    found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)", text_of(scalar))
    if found is None:
        raise ValueError(f'{quoted(scalar.text)} is no time of day; write one such as "09:30", 00:00 to 23:59')
    return int(found[1]) * 60 + int(found[2])


def _parse_state(scalar: Scalar) -> AccessState:
    return AccessState(_STATE_WORDS.parse(scalar))


_STATE_WORDS = choice(*(str(state) for state in AccessState))
_SCOPE = ScalarKind(
    "tenant, key, route, ip or header:NAME",
    _parse_scope,
    {"type": "string", "pattern": rf"^(tenant|key|route|ip|header:{TOKEN})$"},
)
_STATE = ScalarKind(_STATE_WORDS.words, _parse_state, _STATE_WORDS.json, str)
ZONE = ScalarKind("a time zone such as Europe/Berlin", _parse_zone)
_TIME = ScalarKind(
    'a time of day such as "09:30"',
    _parse_time,
    {"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d$"},
    lambda minute: f"{minute // 60:02}:{minute % 60:02}",
)
_NAME = name("a name")
_PLAN = name("a plan's name")
_METER = name("a meter's name")
_SCOPE_LIST = ListOf(_SCOPE, "parts such as [tenant] or [key, route]", least=1, most=8)
TENANT_NAME = ScalarKind(
    "a tenant's name",
    lambda scalar: check_tenant_name(text_of(scalar)),
    {"type": "string", "pattern": f"^{NAME}$"},
)


def _ascending(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(values))


def _make_quota(**known: Any) -> Quota:
    quota = Quota(**known)
    if quota.time_zone != "UTC" and quota.period == "billing":
        raise ValueError("period: billing goes by the tenant's time_zone; write it there and remove it here")
    if quota.mode == "shadow" and quota.overage != "block":
        raise ValueError(
            f"overage: {quota.overage} refuses nothing, so there is nothing to try with mode: shadow; remove one"
        )
    told = "estimate" if quota.estimate is not None else "on_store_error" if quota.on_store_error != "deny" else None
    if quota.overage != "block" and told is not None:
        raise ValueError(f"{told} says nothing: overage: {quota.overage} lets every call pass; remove one")
    if quota.local_share != LOCAL_SHARE and quota.on_store_error != "local":
        raise ValueError("local_share is the share of on_store_error: local; write that too, or remove it")
    if quota.limit == 0 and quota.overage == "block":
        raise ValueError("a quota of 0 with overage: block refuses every call; write a larger limit or another overage")
    return quota


_MODE = Field(
    "mode",
    choice("enforce", "shadow"),
    "`shadow`: counted and reported, never enforced: for trying it first.",
    default="enforce",
)
_ON_STORE_ERROR = Field(
    "on_store_error",
    choice("allow", "deny", "local"),
    "While Redis does not answer: let pass, answer 503, or let this node's share pass. Write `deny` for what guards "
    "money.",
)
_LOCAL_SHARE = Field("local_share", integer(1, 100), "That share, in percent of the limit, per node (per worker).")
LIMIT = Table(
    "limit",
    "At most so many units in every interval of the window's length.",
    Limit,
    (
        Field("name", _NAME, "Stands in headers and refusals; unique in its plan.", required=True),
        Field("limit", integer(1, MOST), "Units.", required=True),
        Field(
            "window", duration(10**8, 90 * DAY), "The length of the interval, which slides.", "window_ns", required=True
        ),
        Field("scope", _SCOPE_LIST, "What shares one count: each combination has its own."),
        Field("exact", BOOLEAN, "With `limits: redis://...`: ask Redis at every call instead of leasing units ahead."),
        _ON_STORE_ERROR,
        _LOCAL_SHARE,
        _MODE,
    ),
)
CONCURRENCY = Table(
    "concurrency",
    "At most so many calls in flight.",
    Concurrency,
    (
        Field("name", _NAME, "Stands in refusals; unique in its plan.", required=True),
        Field("limit", integer(1, 1_000_000), "Calls.", required=True),
        Field("scope", _SCOPE_LIST, "What shares one count."),
        _ON_STORE_ERROR,
        _LOCAL_SHARE,
        _MODE,
    ),
)
_PERIOD = Field(
    "period",
    choice(*PERIODS, "billing"),
    "When it starts anew; `billing`: with the tenant's billing period.",
    required=True,
)
QUOTA = Table(
    "quota",
    "At most so much of a meter per period and tenant.",
    _make_quota,
    (
        Field("name", _NAME, "Stands in headers and refusals; unique in its plan.", required=True),
        Field("meter", _METER, "What is counted.", required=True),
        Field("limit", integer(0, MOST), "How much.", required=True),
        _PERIOD,
        Field("time_zone", ZONE, "Whose clock and calendar say so; weeks start on Monday.", default="UTC"),
        Field(
            "overage",
            choice("block", "allow", "bill"),
            "Beyond the limit: refuse, let pass, or let pass and charge.",
            default="block",
        ),
        Field(
            "estimate",
            integer(1, MOST),
            "What a call holds until its end of a meter that is known only then; less when less is left.",
            absent="nothing is held",
        ),
        Field(
            "on_store_error",
            choice("allow", "deny", "local"),
            "Where nodes share limits, with `overage: block`: while their store does not answer, let pass, answer 503, "
            "or let this node's share pass.",
        ),
        Field("local_share", integer(1, 100), "That share, in percent of the limit, per node (per worker) and period."),
        _MODE,
        Field(
            "thresholds",
            ListOf(integer(1, 10_000), "shares in percent such as [80, 100]", make=_ascending, most=16),
            "The shares of the limit, in percent, that are told once when a tenant reaches them: a notice, a line in "
            "the log, a metric. `[]`: none.",
        ),
    ),
    of=Quota,
)
SPEND_CAP = Table(
    "spend_cap",
    "At most so much money for metered use, per period and tenant. See [credits](credits.md).",
    SpendCap,
    (
        Field("limit", MONEY, "How much, beyond the base fee.", required=True),
        _PERIOD,
        Field("time_zone", ZONE, "Whose clock and calendar say so; weeks start on Monday.", default="UTC"),
        Field("overage", choice("block", "allow"), "Beyond it: answer 402, or let pass."),
        Field(
            "on_store_error",
            choice("deny", "allow"),
            "While nodes share it and their store does not answer: 503, or let pass within what is known to be spent.",
        ),
    ),
)
PLAN = Table(
    "plan",
    "What a tenant has bought.",
    Plan,
    (
        Field("limits", ListOf(Record(LIMIT), "limits, each {name, limit, window}", most=32), "Sliding-window limits."),
        Field(
            "concurrency",
            ListOf(Record(CONCURRENCY), "limits, each {name, limit}", most=8),
            "Limits of calls in flight.",
        ),
        Field(
            "quotas", ListOf(Record(QUOTA), "quotas, each {name, meter, limit, period}", most=32), "Quotas per period."
        ),
        Field(
            "features",
            ListOf(WORD, "features such as [export]", make=frozenset, most=256, order=False),
            "What routes may demand with `feature`.",
        ),
        Field("price", Record(PRICE), "What it costs.", absent="nothing"),
        Field(
            "test_keys",
            _PLAN,
            "The plan whose limits test keys get.",
            absent="`sandbox` where such a plan exists, else none",
        ),
        Field(
            "upgrade", text("a URL or a sentence", most=300), "The way out that a refusal shows.", absent="none shown"
        ),
        Field("spend_cap", Record(SPEND_CAP), "The most money that its metered use may cost.", absent="none"),
        Field(
            "prepaid",
            BOOLEAN,
            "Calls that cost something are paid from credits, and need some. See [credits](credits.md).",
        ),
    ),
)
ANCHOR = Table(
    "anchor",
    "When a billing period begins: each month on this day, by the clock in the tenant's time zone.",
    Anchor,
    (
        Field("day", integer(1, 31), "The day of the month; in a shorter month its last.", required=True),
        Field("time", _TIME, "The time of the day.", "minute"),
    ),
)
_CERTIFICATE = text(
    "a name of a certificate", r"(?:uri|dns|email|cn):\S.*", hint="uri:, dns:, email: or cn: and the name", most=300
)
TENANT = Table(
    "tenant",
    "The paying party.",
    Tenant,
    (
        Field("plan", _PLAN, "What it has bought.", required=True),
        Field("state", _STATE, "What it may do."),
        Field(
            "stripe_customer",
            text("a Stripe customer", r"cus_[A-Za-z0-9]+", hint="its id, which starts with cus_", most=100),
            "Its id at Stripe.",
            absent="none",
        ),
        Field(
            "anchor",
            Record(ANCHOR),
            "When its billing periods begin.",
            absent="as its subscription at Stripe has them; without one on the 1st",
        ),
        Field("time_zone", ZONE, "Of its billing periods.", absent="UTC"),
        Field(
            "certificates",
            ListOf(_CERTIFICATE, "names such as [uri:spiffe://example/acme, cn:acme]", least=1, most=100),
            "The names of client certificates that are its own, each as a whole: `uri:`, `dns:` or `email:` of the "
            "subject's alternative names, or `cn:`.",
            absent="none",
        ),
        Field("overrides", Record(OVERRIDES), "What it has instead of its plan's numbers.", absent="none"),
    ),
)
TOP = (
    Field(
        "meters",
        MapOf(METER, _METER, "meters by name, each {count: requests}", least=1, most=64),
        "What is counted, by name.",
        absent="the built-in ones",
    ),
    Field(
        "routes",
        ListOf(Record(ROUTE), "routes, each {name, match: {path}}", least=1, most=100_000),
        "Which requests go where.",
        absent="one that sends everything to the only upstream",
    ),
    Field(
        "plans",
        MapOf(PLAN, _PLAN, "plans by name, each {limits: [...]}", least=1, most=10_000),
        "What callers may do, by name.",
        absent="the built-in ones",
    ),
    Field(
        "tenants",
        MapOf(TENANT, TENANT_NAME, "tenants by name, each {plan: ...}"),
        "Tenants that are declared here and not with `sidecar tenants add`.",
    ),
    Field(
        "costs",
        Record(COSTS),
        "What serving costs you.",
        absent="the built-in ones with the built-in plans, else nothing",
    ),
)
TABLES = (
    *(
        METER,
        MULTIPLY,
        *ROUTE_TABLES,
        PLAN,
        LIMIT,
        CONCURRENCY,
        QUOTA,
        SPEND_CAP,
        *PRICE_TABLES,
        TENANT,
        ANCHOR,
    ),
    *(*OVERRIDE_TABLES, COSTS),
)
