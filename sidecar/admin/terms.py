"""What tenants of the store have of their own: anchor, time zone and overrides, as the policies would say it."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from aiohttp import web

from sidecar.admin.bodies import body_fields, query_fields
from sidecar.admin.guards import actor_of
from sidecar.admin.operations import Changed
from sidecar.admin.owners import tenant_named
from sidecar.admin.replies import json_reply
from sidecar.core.clock import Clock
from sidecar.core.errors import Conflict, NotFound
from sidecar.core.policy import Plan, Snapshot
from sidecar.core.ports import TenantStore
from sidecar.core.values import Tenant, Terms


class TermsReader(Protocol):
    """Terms from and to the mapping that the policies would hold: config.read_terms and config.show_terms."""

    def read(self, given: Mapping[str, Any], plan: Plan | None) -> Terms: ...

    def show(self, terms: Terms) -> dict[str, Any]: ...


class TermsDesk:
    """As in Operations: dicts that JSON can hold, and the same errors."""

    def __init__(
        self,
        store: TenantStore,
        snapshot: Callable[[], Snapshot],
        reader: TermsReader,
        clock: Clock,
        changed: Changed,
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._reader = reader
        self._clock = clock
        self._changed = changed

    async def show(self, tenant: str) -> dict[str, Any]:
        """NotFound when there is no such tenant."""
        return self._shape(*await tenant_named(self._snapshot(), self._store, tenant))

    async def set(self, tenant: str, terms: dict[str, Any], *, actor: str) -> dict[str, Any]:
        """Replaces them as a whole; ``{}`` takes all away. ValueError names every fault; Conflict when the tenant is
        declared in the policies: change it there."""
        if tenant in self._snapshot().tenants:
            raise Conflict(f"tenant {tenant} is declared in the policies; change it there")
        found = await self._store.tenant(tenant)
        if found is None:
            raise NotFound(f"there is no tenant {tenant}")
        read = self._reader.read(terms, self._snapshot().plans.get(found.plan))
        changed = await self._store.set_tenant(tenant, terms=read, actor=actor, at_ns=self._clock.wall_ns())
        await self._changed(tenant, None)
        return self._shape(changed, "store")

    def _shape(self, tenant: Tenant, source: str) -> dict[str, Any]:
        return {"tenant": tenant.name, "plan": tenant.plan, "source": source, "terms": self._reader.show(tenant.terms)}


def terms_routes(desk: Callable[[], TermsDesk]) -> list[web.RouteDef]:
    async def show(request: web.Request) -> web.Response:
        query_fields(request)
        return json_reply(await desk().show(request.match_info["tenant"]))

    async def change(request: web.Request) -> web.Response:
        fields = await body_fields(request, required={"terms": dict}, optional={})
        return json_reply(await desk().set(request.match_info["tenant"], **fields, actor=actor_of(request)))

    return [web.get("/api/v1/tenants/{tenant}/terms", show), web.put("/api/v1/tenants/{tenant}/terms", change)]
