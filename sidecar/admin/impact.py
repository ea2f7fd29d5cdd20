"""What new policies would mean for tenants, before they are loaded: from the ledger's usage, by pages of tenants.

The question names only plans that change::

    {"free": {"gone": false,
              "quotas": [{"name", "meter", "limit", "period", "time_zone"}],   # new, or changed; they block
              "limits": [{"name", "limit", "window_s"}],                       # the same, of the tenant's units
              "trials": ["tighter"]}}                                          # in shadow mode so far, enforced then
"""

from collections.abc import Callable, Mapping
from heapq import merge
from typing import Any, Final

from sidecar.admin import shapes
from sidecar.admin.usage import check_page
from sidecar.core.accounts import Account, AccountSource, billing_cycle, standing
from sidecar.core.clock import NS_PER_S, NS_PER_US, Clock
from sidecar.core.periods import Cycle, period_bounds
from sidecar.core.policy import Snapshot
from sidecar.core.ports import Ledger, TenantStore, UsageQuery
from sidecar.core.records import ANOMALY, SHADOW
from sidecar.core.values import Tenant

_MINUTE_US: Final = 60_000_000
_MINUTES: Final = 24 * 60  # looked back at for limits and trials
_MOST: Final = 32  # policies of one kind in the question, as in a plan
_FORM: Final[dict[str, dict[str, type]]] = {
    "quotas": {"name": str, "meter": str, "limit": int, "period": str, "time_zone": str},
    "limits": {"name": str, "limit": int, "window_s": int},
}


class Impact:
    """``snapshot``: the policies in force."""

    def __init__(
        self,
        store: TenantStore,
        ledger: Ledger,
        accounts: AccountSource | None,
        snapshot: Callable[[], Snapshot],
        clock: Clock,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._accounts = accounts
        self._snapshot = snapshot
        self._clock = clock

    async def tenants(self, plans: Mapping[str, Any], *, after: str = "", limit: int = 100) -> dict[str, Any]:
        """Of the next ``limit`` tenants by name those on one of ``plans``, and what becomes of them; ``next`` as in
        ``tenants_list``. ValueError: the question is none."""
        check_page(limit)
        _check(plans)
        page = await self._page(after, limit)
        found = []
        for tenant in page[:limit]:
            account = None if self._accounts is None else await self._accounts.account(tenant.name)
            plan = standing(tenant, account).plan
            if plan in plans:
                told = await self._told(tenant, account, plans[plan])
                found.append({"tenant": tenant.name, "plan": plan} | told)
        return {
            "tenants": found,
            "seen": len(page[:limit]),
            "next": page[limit - 1].name if len(page) > limit else None,
        }

    async def _page(self, after: str, limit: int) -> list[Tenant]:
        declared = self._snapshot().tenants
        stored = await self._store.tenants(after=after, limit=limit + 1)
        ours = (declared[name] for name in sorted(declared) if name > after)
        theirs = (tenant for tenant in stored if tenant.name not in declared)
        return list(merge(ours, theirs, key=lambda tenant: tenant.name))[: limit + 1]

    async def _told(self, tenant: Tenant, account: Account | None, asked: Mapping[str, Any]) -> dict[str, Any]:
        over = [one for quota in asked.get("quotas", ()) if (one := await self._over(tenant, account, quota))]
        busy = await self._busy(tenant, asked["limits"]) if asked.get("limits") else []
        trials = [one for name in asked.get("trials", ()) if (one := await self._trial(tenant, name))]
        return {"gone": bool(asked.get("gone")), "over": over, "busy": busy, "trials": trials}

    async def _over(self, tenant: Tenant, account: Account | None, quota: Mapping[str, Any]) -> dict[str, Any] | None:
        """The quota, where more is used of it in the running period than it would allow."""
        own = tenant.overrides.quotas.get(quota["name"]) if tenant.overrides is not None else None
        most = own.limit if own is not None and own.limit is not None else quota["limit"]
        now = self._clock.wall_ns()
        if quota["period"] == "billing":
            cycle = billing_cycle(tenant, account, now // NS_PER_S)
        else:
            cycle = Cycle(quota["period"], quota["time_zone"]).text
        since, until = period_bounds(cycle, now)
        used = await self._ledger.meter_total(
            tenant.name, quota["meter"], since_us=since // NS_PER_US, until_us=until // NS_PER_US, sandbox=False
        )
        if used < most:
            return None
        return {"quota": quota["name"], "used": used, "limit": most, "until": shapes.time_text(until)}

    async def _busy(self, tenant: Tenant, limits: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Limits below what was let through in whole minutes of one window within the last day."""
        until_us = self._clock.wall_ns() // NS_PER_US // _MINUTE_US * _MINUTE_US
        query = UsageQuery(
            ("minute",), until_us - _MINUTES * _MINUTE_US, until_us, tenant=tenant.name, limit=_MINUTES + 1
        )
        units = {int(row.group[0]): row.totals.units for row in await self._ledger.usage_rows(query)}
        found = []
        for limit in limits:
            own = tenant.overrides.limits.get(limit["name"]) if tenant.overrides is not None else None
            most = own.limit if own is not None and own.limit is not None else limit["limit"]
            minutes = limit["window_s"] // 60
            peak = max((sum(units.get(at + each, 0) for each in range(minutes)) for at in units), default=0)
            if minutes and peak > most:
                found.append({"limit": limit["name"], "units": peak, "allowed": most})
        return found

    async def _trial(self, tenant: Tenant, name: str) -> dict[str, Any] | None:
        """What a policy in shadow mode would have refused within the last day."""
        until_us = self._clock.wall_ns() // NS_PER_US + _MINUTE_US
        since_us = until_us - _MINUTES * _MINUTE_US
        mark = f"{SHADOW}{name}{ANOMALY}"
        count = await self._ledger.meter_total(tenant.name, mark, since_us=since_us, until_us=until_us, sandbox=False)
        return {"policy": name, "requests": count} if count else None


def _check(plans: Mapping[str, Any]) -> None:
    for name, asked in plans.items():
        whole = isinstance(asked, dict) and asked.keys() <= {"gone", "quotas", "limits", "trials"}
        parts = [asked.get(part, []) for part in ("quotas", "limits", "trials")] if whole else []
        if not whole or not all(isinstance(part, list) and len(part) <= _MOST for part in parts):
            raise ValueError(f"plans.{name[:64]} must be an object with gone, quotas, limits, trials")
        for part, form in _FORM.items():
            for one in asked.get(part, []):
                right = isinstance(one, dict) and one.keys() == form.keys()
                if not right or not all(type(one[key]) is kind for key, kind in form.items()):
                    raise ValueError(f"each of {part} must be an object with {', '.join(form)}")
        if not all(isinstance(one, str) for one in asked.get("trials", [])):
            raise ValueError("trials must be a list of texts")
