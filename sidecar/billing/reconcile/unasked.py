"""Who is on a plan that costs money and is asked for none: no customer at the payee, or no subscription."""

from typing import Protocol

from sidecar.core.accounts import Account
from sidecar.core.policy import Snapshot
from sidecar.core.values import AccessState, Tenant

_PAGE = 500
_SERVED = frozenset({AccessState.ACTIVE, AccessState.GRACE, AccessState.READ_ONLY})


class TenantsAndAccounts(Protocol):
    """What is read."""

    async def tenants(self, *, after: str = "", limit: int = 100) -> list[Tenant]: ...

    async def accounts(self, *, after: str = "", limit: int = 100) -> list[Account]: ...


async def unasked_tenants(store: TenantsAndAccounts, snapshot: Snapshot) -> list[str]:
    """By name. Whoever had a subscription once is none of them: access follows that. StoreError."""
    asked = set()
    after = ""
    while accounts := await store.accounts(after=after, limit=_PAGE):
        asked |= {account.tenant for account in accounts if account.periods}
        after = accounts[-1].tenant
    found = [tenant.name for tenant in snapshot.tenants.values() if _owes(tenant, snapshot, asked)]
    after = ""
    while tenants := await store.tenants(after=after, limit=_PAGE):
        stored = [tenant for tenant in tenants if tenant.name not in snapshot.tenants]
        found += [tenant.name for tenant in stored if _owes(tenant, snapshot, asked)]
        after = tenants[-1].name
    return sorted(found)


def _owes(tenant: Tenant, snapshot: Snapshot, asked: set[str]) -> bool:
    plan = snapshot.plans.get(tenant.plan)
    costs = plan is not None and plan.price is not None
    return costs and tenant.state in _SERVED and tenant.name not in asked
