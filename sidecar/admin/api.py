"""The admin listener: probes, metrics and the operators' API (docs/admin-api.md). No cookies, no CORS."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from sidecar.admin.bodies import MAX_BODY, body_fields, query_fields
from sidecar.admin.credit_routes import credit_routes
from sidecar.admin.downloads import send_export
from sidecar.admin.guards import actor_of, host_guard, token_guard
from sidecar.admin.metrics import Exposition
from sidecar.admin.operations import Operations
from sidecar.admin.replies import Refused, guarded, json_reply
from sidecar.admin.sources import Sources
from sidecar.admin.terms import terms_routes
from sidecar.core.policy import Admin

MAX_EXPORTS = 4  # at a time; each holds a page and a piece of its file, up to 20 MiB for Parquet
_NARROWED = ("tenant", "plan", "key", "route", "sandbox")
# Why the sidecar is not ready, in words for people; empty when it is. Warnings are the same of what does not make it
# unready: calls are served and written down, but somebody should look.
Readiness = Callable[[], Sequence[str]]
Warnings = Callable[[], Sequence[str]]
Policies = Callable[[], Awaitable[dict[str, Any]]]  # those in force, as JSON can hold them
Reload = Callable[[], Awaitable[str]]  # reads the configuration again; a digest of the policies then in force


def make_admin_app(
    operations: Operations,
    sources: Sources,
    readiness: Readiness,
    token: str,
    settings: Admin,
    warnings: Warnings = tuple,
    reload: Reload | None = None,
    policies: Policies | None = None,
) -> web.Application:
    """The application behind the admin port. ``/api/`` asks for ``token``; ``/livez``, ``/readyz`` and ``/metrics`` ask
    for nothing, because the port is on loopback unless the operator opened it."""
    hosts = (settings.host, *settings.hosts)
    app = web.Application(client_max_size=MAX_BODY, middlewares=[guarded, host_guard(hosts), token_guard(token)])
    app.add_routes(_probe_routes(sources, readiness, warnings))
    app.add_routes(_tenant_routes(operations))
    app.add_routes(_key_routes(operations))
    app.add_routes(_report_routes(operations))
    app.add_routes(_billing_routes(operations))
    app.add_routes([_explain_route(operations), _impact_route(operations)])
    app.add_routes(credit_routes(lambda: operations.credits))
    app.add_routes(terms_routes(lambda: operations.terms))
    if reload is not None:
        app.add_routes([_reload_route(reload)])
    if policies is not None:
        app.add_routes([_policies_route(policies)])
    return app


def _probe_routes(sources: Sources, readiness: Readiness, warnings: Warnings) -> list[web.RouteDef]:
    exposition = Exposition(sources)

    async def livez(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        reasons = list(readiness())
        document = {"ready": not reasons, "reasons": reasons, "warnings": list(warnings())}
        return json_reply(document, 503 if reasons else 200)

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = await exposition.scrape(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    return [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)]


def _reload_route(reload: Reload) -> web.RouteDef:
    async def run(request: web.Request) -> web.Response:
        await body_fields(request, required={}, optional={})
        return json_reply({"reloaded": True, "policy": await reload()})

    return web.post("/api/v1/reload", run)


def _tenant_routes(operations: Operations) -> list[web.RouteDef]:
    async def add(request: web.Request) -> web.Response:
        fields = await body_fields(request, required={"name": str, "plan": str}, optional={})
        return json_reply(await operations.tenants_add(**fields, actor=actor_of(request)), 201)

    async def listing(request: web.Request) -> web.Response:
        return json_reply(await operations.tenants_list(**query_fields(request, "after", "limit")))

    async def show(request: web.Request) -> web.Response:
        query_fields(request)
        return json_reply(await operations.tenants_show(request.match_info["tenant"]))

    async def change(request: web.Request) -> web.Response:
        fields = await body_fields(request, required={}, optional={"plan": str, "state": str})
        tenant = request.match_info["tenant"]
        return json_reply(await operations.tenants_set(tenant, **fields, actor=actor_of(request)))

    return [
        web.post("/api/v1/tenants", add),
        web.get("/api/v1/tenants", listing),
        web.get("/api/v1/tenants/{tenant}", show),
        web.patch("/api/v1/tenants/{tenant}", change),
    ]


def _key_routes(operations: Operations) -> list[web.RouteDef]:
    async def create(request: web.Request) -> web.Response:
        fields = await body_fields(
            request, required={"name": str}, optional={"test": bool, "scopes": list, "expires": str}
        )
        tenant = request.match_info["tenant"]
        return json_reply(await operations.keys_create(tenant, **fields, actor=actor_of(request)), 201)

    async def listing(request: web.Request) -> web.Response:
        fields = query_fields(request, "after", "limit")
        return json_reply(await operations.keys_list(request.match_info["tenant"], **fields))

    async def revoke(request: web.Request) -> web.Response:
        await body_fields(request, required={}, optional={})
        return json_reply(await operations.keys_revoke(request.match_info["key"], actor=actor_of(request)))

    async def rotate(request: web.Request) -> web.Response:
        fields = await body_fields(request, required={}, optional={"overlap": str})
        key = request.match_info["key"]
        return json_reply(await operations.keys_rotate(key, **fields, actor=actor_of(request)), 201)

    return [
        web.post("/api/v1/tenants/{tenant}/keys", create),
        web.get("/api/v1/tenants/{tenant}/keys", listing),
        web.post("/api/v1/keys/{key}/revoke", revoke),
        web.post("/api/v1/keys/{key}/rotate", rotate),
    ]


def _report_routes(operations: Operations) -> list[web.RouteDef]:
    slots = asyncio.Semaphore(MAX_EXPORTS)

    async def usage(request: web.Request) -> web.Response:
        fields = query_fields(request, "since", "until", "period")
        if "period" in fields and fields.keys() != {"period"}:
            raise ValueError("period and since or until exclude each other")
        return json_reply(await operations.usage(request.match_info["tenant"], **fields))

    async def usage_by(request: web.Request) -> web.Response:
        fields = query_fields(request, "by", "since", "until", "after", "limit", *_NARROWED)
        if "by" not in fields:
            raise ValueError("by is missing; write what to group by, such as route,day")
        return json_reply(await operations.usage_by(**fields))

    async def margin(request: web.Request) -> web.Response:
        names = ("by", "tenant", "since", "until", "month", "period", "buffer", "after", "limit")
        return json_reply(await operations.margin(**query_fields(request, *names)))

    async def export(request: web.Request) -> web.StreamResponse:
        fields = query_fields(request, "what", "format", "since", "until", "by", *_NARROWED)
        for name in ("what", "format"):
            if name not in fields:
                raise ValueError(f"the parameter {name!r} is missing; what and format are needed")
        if slots.locked():
            raise Refused("busy", f"{MAX_EXPORTS} exports are under way; try again when one has ended.")
        async with slots:
            return await send_export(request, await operations.export(**fields))

    return [
        web.get("/api/v1/usage", usage_by),
        web.get("/api/v1/usage/{tenant}", usage),
        web.get("/api/v1/margin", margin),
        web.get("/api/v1/export", export),
    ]


def _policies_route(policies: Policies) -> web.RouteDef:
    async def run(request: web.Request) -> web.Response:
        query_fields(request)
        return json_reply({"policies": await policies()})

    return web.get("/api/v1/policies", run)


def _impact_route(operations: Operations) -> web.RouteDef:
    async def run(request: web.Request) -> web.Response:
        fields = await body_fields(request, required={"plans": dict}, optional={"after": str, "limit": int})
        return json_reply(await operations.impact(**fields))

    return web.post("/api/v1/impact", run)


def _explain_route(operations: Operations) -> web.RouteDef:
    async def run(request: web.Request) -> web.Response:
        fields = query_fields(request, "route", "tenant", "method", "key", "test", "ip", several="header")
        if "route" not in fields:
            raise ValueError("route is missing; write the name of one")
        return json_reply(await operations.explainer.explain(**fields))

    return web.get("/api/v1/explain", run)


def _billing_routes(operations: Operations) -> list[web.RouteDef]:
    async def reconcile(request: web.Request) -> web.Response:
        return json_reply(
            await operations.desk.reconcile(**query_fields(request, "period", "tenant", "after", "limit"))
        )

    async def rows(request: web.Request) -> web.Response:
        fields = query_fields(request, "state", "tenant", "after", "limit")
        return json_reply(await operations.desk.outbox_list(**fields))

    async def retry(request: web.Request) -> web.Response:
        await body_fields(request, required={}, optional={})
        return json_reply(await operations.desk.outbox_retry(request.match_info["row"], actor=actor_of(request)))

    async def carry(request: web.Request) -> web.Response:
        await body_fields(request, required={}, optional={})
        return json_reply(await operations.desk.outbox_carry(request.match_info["row"], actor=actor_of(request)))

    async def drop(request: web.Request) -> web.Response:
        fields = await body_fields(request, required={"reason": str}, optional={})
        row = request.match_info["row"]
        return json_reply(await operations.desk.outbox_drop(row, **fields, actor=actor_of(request)))

    return [
        web.get("/api/v1/reconcile", reconcile),
        web.get("/api/v1/outbox", rows),
        web.post("/api/v1/outbox/{row}/retry", retry),
        web.post("/api/v1/outbox/{row}/carry", carry),
        web.post("/api/v1/outbox/{row}/drop", drop),
    ]
