"""Usage as CloudEvents over HTTP (structured mode, JSON), for receivers that add up values by type and subject; and
as Lago's own API takes it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

import aiohttp

from sidecar.billing.replies import retry_after, server_time
from sidecar.core.billing import OutboxRow, Outcome
from sidecar.core.billing_settings import CloudEventsSink
from sidecar.core.clock import NS_PER_S

MOST_REPLY = 64 * 1024  # bytes of a reply that are read
MOST_TEXT = 500
_TYPES = {"cloudevents": "application/cloudevents+json; charset=UTF-8", "lago": "application/json"}
# What receivers say to an id that they have already, beside 409 (CloudEvents: source and id together are unique).
_KNOWN = ("already_exist", "already exists", "duplicate")


class CloudEvents:
    """A ``Sink`` of a CloudEvents receiver. It has to drop a second event of the same source and id."""

    def __init__(self, settings: CloudEventsSink) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"CloudEvents({self._settings.url!r})"

    async def send(self, row: OutboxRow) -> Outcome:
        if row.hourly:
            return Outcome(
                "rejected", code="hourly", message="the receiver adds events: an hour's newest total would count again"
            )
        try:
            async with self._open().post(self._settings.url, data=self._body(row), allow_redirects=False) as reply:
                body = b""
                async for chunk in reply.content.iter_any():
                    body += chunk
                    if len(body) > MOST_REPLY:
                        break
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return Outcome("retry", code="connect", message=f"cannot be reached: {type(error).__name__}")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Outcome("unknown", code="connection", message=f"no answer: {type(error).__name__}")
        return self._outcome(reply.status, reply.headers, body.decode("utf-8", "replace"))

    async def close(self) -> None:
        """Closes the connections; safe to call twice."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"Content-Type": _TYPES[self._settings.format]}
            if self._settings.token is not None:
                headers["Authorization"] = f"Bearer {self._settings.token}"
            timeout = aiohttp.ClientTimeout(total=self._settings.timeout_ns / NS_PER_S)
            self._session = aiohttp.ClientSession(headers=headers, timeout=timeout)
        return self._session

    def _body(self, row: OutboxRow) -> bytes:
        return lago_event(row) if self._settings.format == "lago" else event_of(row, self._settings.source)

    def _outcome(self, status: int, headers: Mapping[str, str], body: str) -> Outcome:
        return Outcome(
            _kind(status, body),
            http=status,
            message="" if 200 <= status < 300 else self._shown(status, body),
            request_id=headers.get("X-Request-Id", "")[:100],
            retry_after_ns=retry_after(headers),
            server_s=server_time(headers),
        )

    def _shown(self, status: int, body: str) -> str:
        """The reply in short, without the token, which a receiver may repeat."""
        text = body.replace(self._settings.token, "***") if self._settings.token else body
        shown = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
        return f"status {status}: {shown}"[:MOST_TEXT]


def event_of(row: OutboxRow, source: str) -> bytes:
    """The event as JSON. Its value is a text: a reader that takes numbers for floats would lose units."""
    event = {
        "specversion": "1.0",
        "id": row.identifier,
        "source": source,
        "type": row.event_name,
        "subject": row.customer,
        "time": datetime.fromtimestamp(row.timestamp_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "datacontenttype": "application/json",
        "data": {"value": str(row.value)},
    }
    return json.dumps(event, separators=(",", ":")).encode()


def lago_event(row: OutboxRow) -> bytes:
    """As POST /api/v1/events of Lago takes it: the tenant is the subscription's external id, the event's name the
    billable metric's code, its value the property ``value`` (getlago.com/docs, "Send usage event")."""
    event = {
        "transaction_id": row.identifier,
        "external_subscription_id": row.customer,
        "code": row.event_name,
        "timestamp": row.timestamp_s,
        "properties": {"value": str(row.value)},
    }
    return json.dumps({"event": event}, separators=(",", ":")).encode()


def _kind(status: int, body: str) -> str:
    if 200 <= status < 300 or status == 409:
        return "accepted"
    if status in (400, 422):
        return "accepted" if any(word in body.lower() for word in _KNOWN) else "rejected"
    if status == 413:
        return "rejected"
    if status == 429:
        return "retry"
    # One address for every event: where it refuses one for what is not in the event, it refuses all.
    return "stop" if 400 <= status < 500 and status not in (408, 425) else "unknown"
