"""A payee on a loopback socket that answers as it is scripted, byte by byte, and does what no honest one does."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sidecar.core.billing import OutboxRow, Period

KEY = "rk_test_0123456789abcdefSECRET"
DATE = "Tue, 24 Nov 2026 03:00:00 GMT"
DATE_S = 1_795_489_200
RESET = b"\0reset"  # hangs up with a reset instead of a reply
SILENT = b"\0silent"  # never answers


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    target: str
    fields: dict[str, str]
    body: str

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body))


Answer = bytes | Callable[[Asked], bytes]


def reply(status: int, body: Any = b"", *fields: str, length: int | None = None) -> bytes:
    """The bytes of a reply; ``length``: what it says its body is, where that is a lie."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "text/html" if isinstance(body, bytes) else "application/json"
    head = [f"HTTP/1.1 {status} X", f"Date: {DATE}", f"Content-Type: {kind}", "Connection: close", *fields]
    head.append(f"Content-Length: {len(data) if length is None else length}")
    return "\r\n".join([*head, "", ""]).encode() + data


def error(status: int, message: str, *fields: str, type: str = "invalid_request_error", **more: str) -> bytes:
    """Stripe's own refusal."""
    return reply(status, {"error": {"type": type, "message": message, **more}}, "Request-Id: req_1", *fields)


def taken(asked: Asked) -> bytes:
    """Stripe's answer to an event that it took."""
    event = {"object": "billing.meter_event", "identifier": asked.form.get("identifier"), "livemode": False}
    return reply(200, event, "Request-Id: req_2")


class Peer:
    """Answers with the script, one answer per request, and with ``otherwise`` after it."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.script: deque[Answer] = deque()
        self.otherwise: Answer = taken
        self._server: asyncio.Server | None = None
        self._over = asyncio.Event()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._over.set()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            start, *lines = head.strip().split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = (await reader.readexactly(int(fields.get("content-length", "0")))).decode()
            method, target, _ = start.split()
            self.asked.append(Asked(method, target, fields, body))
            answer = self.script.popleft() if self.script else self.otherwise
            data = answer if isinstance(answer, bytes) else answer(self.asked[-1])
            if data == SILENT:
                await self._over.wait()
            elif data == RESET:
                writer.transport.abort()
            else:
                writer.write(data)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def row(**changes: Any) -> OutboxRow:
    made: dict[str, Any] = {
        "id": 1,
        "tenant": "acme",
        "customer": "cus_1",
        "meter": "tokens",
        "event_name": "api_tokens",
        "begin": 29_000_000,
        "end": 29_000_005,
        "period": Period(29_000_000 * 60, 29_100_000 * 60),
        "minute": 29_000_001,
        "version": 0,
        "value": 1_234,
        "identifier": "abcd2345:0a1b2c3d:cus_1:29000001",
        "state": "sent",
        "created_ns": 0,
    }
    return OutboxRow(**made | changes)
