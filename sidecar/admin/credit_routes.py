"""The admin API of credits and of a tenant's own terms."""

from collections.abc import Callable

from aiohttp import web

from sidecar.admin.bodies import body_fields, query_fields
from sidecar.admin.credits import CreditDesk
from sidecar.admin.guards import actor_of
from sidecar.admin.replies import json_reply


def credit_routes(desk: Callable[[], CreditDesk]) -> list[web.RouteDef]:
    """Grants are below their tenant; their sources stand in the path."""

    async def grant(request: web.Request) -> web.Response:
        optional: dict[str, type] = {"source": str, "priority": str, "expires": str, "note": str, "paid": str}
        fields = await body_fields(request, required={"amount": str}, optional=optional)
        made = await desk().grant(request.match_info["tenant"], **fields, actor=actor_of(request))
        return json_reply(made, 201 if made["new"] else 200)

    async def listing(request: web.Request) -> web.Response:
        fields = query_fields(request, "after", "limit")
        return json_reply(await desk().listing(request.match_info["tenant"], **fields))

    async def revoke(request: web.Request) -> web.Response:
        fields = await body_fields(request, required={"source": str}, optional={})
        return json_reply(await desk().revoke(request.match_info["tenant"], **fields, actor=actor_of(request)))

    async def balance(request: web.Request) -> web.Response:
        query_fields(request)
        return json_reply(await desk().balance(request.match_info["tenant"]))

    return [
        web.post("/api/v1/tenants/{tenant}/credits", grant),
        web.get("/api/v1/tenants/{tenant}/credits", listing),
        web.post("/api/v1/tenants/{tenant}/credits/revoke", revoke),
        web.get("/api/v1/tenants/{tenant}/credits/balance", balance),
    ]
