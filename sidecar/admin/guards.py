"""Who may speak to the admin listener: the host names it answers to, the token, the name in the audit log."""

import hmac
import re
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Middleware

from sidecar.admin.replies import Handler, Refused

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ACTOR = re.compile(r"[\x21-\x7e]{1,64}")
_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::\d{1,5})?")


def host_guard(names: Iterable[str]) -> Middleware:
    """Refuses other Host values than loopback names, the address that was connected to, and ``names`` (no ports).

    A page in an operator's browser can make its own host name point to this machine (DNS rebinding) and then read what
    it likes; it cannot change the Host header.
    """
    allowed = _LOOPBACK | {name.lower() for name in names}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = _bare_host(request.headers.get("Host", ""))
        if host not in allowed and host != _own_address(request):
            raise Refused(
                "host_not_allowed",
                f"The admin port does not answer to the host {ascii(host)[:80]}; add it to admin.hosts if it should.",
            )
        return await handler(request)

    return check


def token_guard(token: str) -> Middleware:
    """Asks for ``Authorization: Bearer <token>`` under ``/api/``. Probes and metrics are open to whoever connects."""
    expected = token.encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/api/"):
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), expected)
            if not right or scheme.lower() != "bearer":
                raise Refused(
                    "unauthorized",
                    "Send the admin token as Authorization: Bearer; it is admin.token of the configuration, or the "
                    "file admin.token in the data folder.",
                    (("WWW-Authenticate", 'Bearer realm="sidecar admin"'),),
                )
        return await handler(request)

    return check


def actor_of(request: web.Request) -> str:
    """Who the audit log names: the X-Actor header (1 to 64 printable ASCII characters), or ``admin-api``."""
    actor = request.headers.get("X-Actor")
    if actor is None:
        return "admin-api"
    if _ACTOR.fullmatch(actor) is None:
        raise ValueError("X-Actor must be 1 to 64 printable ASCII characters without spaces")
    return actor


def _bare_host(host: str) -> str:
    match = _HOST.fullmatch(host)
    return (match["six"] or match["name"]).lower().removesuffix(".") if match else host


def _own_address(request: web.Request) -> str | None:
    transport = request.transport
    name = transport.get_extra_info("sockname") if transport is not None else None
    return name[0] if isinstance(name, tuple) else None
