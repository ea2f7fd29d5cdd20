"""The admin API as the command line uses it: http.client, one request, no event loop."""

import http.client
import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from sidecar.core.errors import Conflict, NotFound, SidecarError

TIMEOUT_S = 30.0
_MAX_REPLY = 64 * 1024**2  # bytes; a page of 1,000 keys takes less than 1 MiB
# Operation: method, path with the arguments that stand in it. The others go into the query of a GET, else the body.
_CALLS = {
    "tenants_add": ("POST", "/api/v1/tenants"),
    "tenants_list": ("GET", "/api/v1/tenants"),
    "tenants_show": ("GET", "/api/v1/tenants/{name}"),
    "tenants_set": ("PATCH", "/api/v1/tenants/{name}"),
    "keys_create": ("POST", "/api/v1/tenants/{tenant}/keys"),
    "keys_list": ("GET", "/api/v1/tenants/{tenant}/keys"),
    "keys_revoke": ("POST", "/api/v1/keys/{key_id}/revoke"),
    "keys_rotate": ("POST", "/api/v1/keys/{key_id}/rotate"),
    "usage": ("GET", "/api/v1/usage/{tenant}"),
    "usage_by": ("GET", "/api/v1/usage"),
    "margin": ("GET", "/api/v1/margin"),
    "explainer.explain": ("GET", "/api/v1/explain"),
    "policies": ("GET", "/api/v1/policies"),
    "impact": ("POST", "/api/v1/impact"),
    "reload": ("POST", "/api/v1/reload"),
    "export": ("GET", "/api/v1/export"),
    "desk.reconcile": ("GET", "/api/v1/reconcile"),
    "desk.outbox_list": ("GET", "/api/v1/outbox"),
    "desk.outbox_retry": ("POST", "/api/v1/outbox/{row}/retry"),
    "desk.outbox_carry": ("POST", "/api/v1/outbox/{row}/carry"),
    "desk.outbox_drop": ("POST", "/api/v1/outbox/{row}/drop"),
    "terms.show": ("GET", "/api/v1/tenants/{tenant}/terms"),
    "terms.set": ("PUT", "/api/v1/tenants/{tenant}/terms"),
    "credits.grant": ("POST", "/api/v1/tenants/{tenant}/credits"),
    "credits.listing": ("GET", "/api/v1/tenants/{tenant}/credits"),
    "credits.revoke": ("POST", "/api/v1/tenants/{tenant}/credits/revoke"),
    "credits.balance": ("GET", "/api/v1/tenants/{tenant}/credits/balance"),
}
_SLOW = frozenset(
    {"usage_by", "margin", "export", "desk.reconcile", "impact"}
)  # they may read the sums of every tenant, there or at the payee
SLOW_TIMEOUT_S = 600.0
_PIECE = 64 * 1024  # bytes
_ANY_TO_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - an address to connect to, not to bind


class NotRunning(SidecarError):
    """Nothing listens at the address."""


class Remote:
    """A running sidecar. ``address``: ``host:port`` or an http(s) URL of its admin port."""

    def __init__(self, address: str, token: str, actor: str) -> None:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme not in ("http", "https") or not parts.hostname or port is None:
            raise SidecarError(f"{address!r} is not an admin address; write 127.0.0.1:9901 or http://127.0.0.1:9901")
        if not re.fullmatch(r"[\x21-\x7e]+", token):  # http.client would quote it in its error
            raise SidecarError(
                "the admin token is empty or holds a space, a line end or a character that is not ASCII; look at "
                "SIDECAR_ADMIN_TOKEN, or else at admin.token"
            )
        self._address = address
        self._secure = parts.scheme == "https"
        self._host = _ANY_TO_LOOPBACK.get(parts.hostname, parts.hostname)
        self._port = port
        self._headers = {"Authorization": f"Bearer {token}", "X-Actor": actor, "Accept": "application/json"}

    def call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The operation's result. NotRunning when nobody listens; SidecarError says what else went wrong."""
        with closing(self._connection(operation)) as connection:
            reply, read = self._ask(connection, operation, arguments)
            return self._result(reply.status, read(_MAX_REPLY))

    def fetch(self, operation: str, arguments: dict[str, Any], sink: Callable[[bytes], object]) -> None:
        """Hands the operation's file to ``sink``, piece by piece. SidecarError when it broke off."""
        with closing(self._connection(operation)) as connection:
            reply, read = self._ask(connection, operation, arguments)
            if reply.status != 200 or not reply.chunked or reply.getheader("Content-Disposition") is None:
                self._result(reply.status, read(_MAX_REPLY))
                raise SidecarError(f"what answers at {self._address} sends no file")
            while piece := read(_PIECE):
                sink(piece)

    def _connection(self, operation: str) -> http.client.HTTPConnection:
        make = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return make(self._host, self._port, timeout=SLOW_TIMEOUT_S if operation in _SLOW else TIMEOUT_S)

    def _ask(
        self, connection: http.client.HTTPConnection, operation: str, arguments: dict[str, Any]
    ) -> tuple[http.client.HTTPResponse, Callable[[int], bytes]]:
        method, path, body = _request(operation, arguments)
        headers = self._headers if body is None else self._headers | {"Content-Type": "application/json"}
        with self._explained():
            connection.request(method, path, body, headers)
            reply = connection.getresponse()

        def read(size: int) -> bytes:
            with self._explained():
                return reply.read(size)

        return reply, read

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ConnectionRefusedError:
            raise NotRunning(f"no sidecar listens at {self._address}") from None
        except TimeoutError:
            raise SidecarError(f"the sidecar at {self._address} did not answer in time") from None
        except http.client.IncompleteRead:
            raise SidecarError(f"the sidecar at {self._address} broke off in the middle; its log says why") from None
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise SidecarError(f"the sidecar at {self._address} could not be asked: {error}") from None

    def _result(self, status: int, raw: bytes) -> dict[str, Any]:
        try:
            document = json.loads(raw)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise SidecarError(f"what answers at {self._address} is no sidecar's admin port (status {status})")
        if status < 300:
            return document
        detail = str(document.get("detail", f"status {status}"))
        if status == 401:
            raise SidecarError(
                f"the admin token was not accepted. {detail} The variable SIDECAR_ADMIN_TOKEN overrides it."
            )
        raise {404: NotFound, 409: Conflict}.get(status, SidecarError)(detail)


def _request(operation: str, arguments: dict[str, Any]) -> tuple[str, str, bytes | None]:
    method, template = _CALLS[operation]
    in_path = {name for name in arguments if f"{{{name}}}" in template}
    path = template.format(**{name: quote(arguments[name], safe="") for name in in_path})
    rest = {name: value for name, value in arguments.items() if name not in in_path}
    if "/." in path or "//" in path or path.endswith("/"):
        raise NotFound(f"there is nothing named {', '.join(repr(arguments[name]) for name in in_path)}")
    if method == "GET":
        return method, f"{path}?{urlencode(rest, doseq=True)}" if rest else path, None
    return method, path, json.dumps(rest).encode()
