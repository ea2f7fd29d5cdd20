"""What the admin listener answers: JSON, problem documents, and the headers on all of them."""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from sidecar.core.errors import ConfigError, Conflict, NotFound, StoreError
from sidecar.core.problems import Problem

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# Nothing here is for a cache, a frame or a script; keys and usage pass through.
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# The problem codes of the admin listener; docs/admin-api.md lists them.
ADMIN_TITLES: dict[str, tuple[int, str]] = {
    "invalid": (400, "The request cannot be understood"),
    "unauthorized": (401, "The admin token is missing or wrong"),
    "not_found": (404, "There is no such thing"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "conflict": (409, "The present state does not allow this"),
    "body_too_large": (413, "The body is too large"),
    "not_json": (415, "The body must be JSON"),
    "configuration_refused": (422, "The configuration has faults"),
    "host_not_allowed": (421, "This host name is not served here"),
    "internal_error": (500, "The sidecar failed"),
    "store_unavailable": (503, "The store is not available"),
    "busy": (503, "Too much is being exported"),
}
_BY_STATUS = {status: code for code, (status, _) in reversed(ADMIN_TITLES.items())}


class Refused(Exception):
    """A request that is answered with a problem document."""

    def __init__(self, code: str, detail: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        status, title = ADMIN_TITLES[code]
        self.problem = Problem(status, code, title, detail, f"urn:sidecar:admin-problem:{code}", headers)


def json_reply(document: dict[str, Any], status: int = 200) -> web.Response:
    """A JSON document."""
    return web.Response(text=json.dumps(document, ensure_ascii=False), status=status, content_type="application/json")


def problem_reply(problem: Problem) -> web.Response:
    """RFC 9457, as application/problem+json."""
    return web.Response(
        body=problem.body(),
        status=problem.status,
        headers=list(problem.headers),
        content_type="application/problem+json",
    )


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns every failure into a problem document and puts the security headers on every reply."""
    try:
        reply = await handler(request)
    except Refused as refused:
        reply = problem_reply(refused.problem)
    except NotFound as error:
        reply = problem_reply(Refused("not_found", str(error)).problem)
    except Conflict as error:
        reply = problem_reply(Refused("conflict", str(error)).problem)
    except ConfigError as error:
        reply = problem_reply(Refused("configuration_refused", str(error)).problem)
    except StoreError as error:
        log.error("admin request failed: %s", error)
        reply = problem_reply(Refused("store_unavailable", str(error)).problem)
    except ValueError as error:
        reply = problem_reply(Refused("invalid", str(error)).problem)
    except web.HTTPException as error:
        reply = _from_aiohttp(error)
    except Exception:
        log.exception("admin request failed: %s %s", request.method, request.rel_url.path)
        reply = problem_reply(Refused("internal_error", "The sidecar's log says why.").problem)
    reply.headers.update(SECURITY_HEADERS)
    return reply


def _from_aiohttp(error: web.HTTPException) -> web.Response:
    code = _BY_STATUS.get(error.status, "invalid" if error.status < 500 else "internal_error")
    allow = error.headers.get("Allow")
    refused = Refused(code, error.reason or "", (("Allow", allow),) if allow else ())
    return problem_reply(refused.problem)
