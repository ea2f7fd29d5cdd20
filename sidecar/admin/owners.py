"""Tenants by name, whoever knows them."""

from sidecar.core.errors import NotFound
from sidecar.core.policy import Snapshot
from sidecar.core.ports import Lookups
from sidecar.core.values import Tenant


async def tenant_named(snapshot: Snapshot, store: Lookups, name: str) -> tuple[Tenant, str]:
    """The tenant of that name, and who says so: ``policies`` before ``store``. NotFound, StoreError."""
    declared = snapshot.tenants.get(name)
    if declared is not None:
        return declared, "policies"
    stored = await store.tenant(name)
    if stored is None:
        raise NotFound(f"there is no tenant {name!r}")
    return stored, "store"
