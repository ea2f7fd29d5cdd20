"""The admin API as the command line uses it: http.client, one request, no event loop."""

import http.client
import json
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
}
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
        self._address = address
        self._secure = parts.scheme == "https"
        self._host = _ANY_TO_LOOPBACK.get(parts.hostname, parts.hostname)
        self._port = port
        self._headers = {"Authorization": f"Bearer {token}", "X-Actor": actor, "Accept": "application/json"}

    def call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The operation's result. NotRunning when nobody listens; SidecarError says what else went wrong."""
        method, template = _CALLS[operation]
        in_path = {name for name in arguments if f"{{{name}}}" in template}
        path = template.format(**{name: quote(arguments[name], safe="") for name in in_path})
        rest = {name: value for name, value in arguments.items() if name not in in_path}
        if "/." in path or "//" in path:
            raise NotFound(f"there is nothing named {', '.join(repr(arguments[name]) for name in in_path)}")
        body = None
        if method == "GET":
            path = f"{path}?{urlencode(rest)}" if rest else path
        else:
            body = json.dumps(rest).encode()
        return self._result(*self._exchange(method, path, body))

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        make = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = make(self._host, self._port, timeout=TIMEOUT_S)
        headers = self._headers if body is None else self._headers | {"Content-Type": "application/json"}
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read(_MAX_REPLY)
        except ConnectionRefusedError:
            raise NotRunning(f"no sidecar listens at {self._address}") from None
        except TimeoutError:
            raise SidecarError(f"the sidecar at {self._address} did not answer within {TIMEOUT_S:g} s") from None
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise SidecarError(f"the sidecar at {self._address} could not be asked: {error}") from None
        finally:
            connection.close()

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
