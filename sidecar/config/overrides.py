"""The table ``overrides:`` of a tenant: what it has instead of its plan's numbers, by the policies' names."""

from typing import Any

from sidecar.config.kinds import MONEY, choice, integer, name
from sidecar.config.prices import MOST
from sidecar.config.tables import Field, MapOf, Record, Table
from sidecar.core.values import Override, Overrides, SpendCapOverride


def _make_quota_override(**known: Any) -> Override:
    override = Override(**known)
    if override.limit is None and override.overage is None:
        raise ValueError("changes nothing; write limit or overage")
    return override


LIMIT_OVERRIDE = Table(
    "limit_override",
    "Another number for a limit of the plan, for one tenant.",
    Override,
    (Field("limit", integer(1, MOST), "Units, or calls.", required=True),),
)
QUOTA_OVERRIDE = Table(
    "quota_override",
    "Another number for a quota of the plan, for one tenant.",
    _make_quota_override,
    (
        Field("limit", integer(0, MOST), "How much.", absent="the plan's"),
        Field("overage", choice("block", "allow", "bill"), "What happens beyond it.", absent="the plan's"),
    ),
    of=Override,
)


def _make_cap_override(**known: Any) -> SpendCapOverride:
    override = SpendCapOverride(**known)
    if override.limit is None and override.overage is None:
        raise ValueError("changes nothing; write limit or overage")
    return override


CAP_OVERRIDE = Table(
    "spend_cap_override",
    "Another spend cap than the plan's, for one tenant.",
    _make_cap_override,
    (
        Field("limit", MONEY, "How much money.", absent="the plan's"),
        Field("overage", choice("block", "allow"), "What happens beyond it.", absent="the plan's"),
    ),
    of=SpendCapOverride,
)


def _by_name(table: Table, what: str, example: str) -> MapOf:
    return MapOf(table, name(f"a {what}'s name"), f"{what}s of the plan by name, each {example}", most=32)


OVERRIDES = Table(
    "overrides",
    "What a tenant has instead of its plan's numbers, by the policies' names.",
    Overrides,
    (
        Field("limits", _by_name(LIMIT_OVERRIDE, "limit", "{limit: 12_000}"), "Sliding-window limits."),
        Field("concurrency", _by_name(LIMIT_OVERRIDE, "limit", "{limit: 50}"), "Limits of calls in flight."),
        Field("quotas", _by_name(QUOTA_OVERRIDE, "quota", "{limit: 500_000}"), "Quotas per period."),
        Field("spend_cap", Record(CAP_OVERRIDE), "The spend cap.", absent="the plan's"),
    ),
)
TABLES = (OVERRIDES, LIMIT_OVERRIDE, QUOTA_OVERRIDE, CAP_OVERRIDE)
