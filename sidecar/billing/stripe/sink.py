"""Meter events to Stripe, one at a time, and what became of each.

A reply is a claim of receipt, not of acceptance: Stripe validates later. What is certain here is only what was surely
**not** taken (``retry``, ``rejected``, ``stop``); whatever happened after the first byte went out and did not end in a
reply of Stripe's own is ``unknown``.
"""

import re

import aiohttp
import stripe

from sidecar.billing.replies import retry_after, server_time
from sidecar.billing.stripe.client import StripeClient
from sidecar.billing.stripe.faults import body_of, headers_of, message_of, sentence
from sidecar.core.billing import OutboxRow, Outcome

CUSTOMER_KEY = "stripe_customer_id"
VALUE_KEY = "value"
WRITE_EVENTS = "Meter events: Write"
MOST_VALUE = 10**15 - 1  # Stripe counts in floats, and refuses values of more than 15 digits
# A duplicate has no code in v1, only this sentence; taking it for a failure has stopped whole meters elsewhere.
_DUPLICATE = re.compile(r"an event already exists with identifier", re.IGNORECASE)


class MeterEvents:
    """A ``Sink`` of Stripe's billing meters. The sender keeps to one event at a time per event name and customer."""

    def __init__(self, client: StripeClient) -> None:
        self._client = client

    async def send(self, row: OutboxRow) -> Outcome:
        """The row's identifier is the event's, and with the round behind it the idempotency key."""
        if abs(row.value) > MOST_VALUE:
            return Outcome("rejected", code="value_too_large", message="Stripe takes values of at most 15 digits")
        try:
            event = await self._client.v1.billing.meter_events.create_async(
                {
                    "event_name": row.event_name,
                    "payload": {CUSTOMER_KEY: row.customer, VALUE_KEY: str(row.value)},
                    "identifier": row.identifier,
                    "timestamp": row.timestamp_s,
                },
                {"idempotency_key": f"{row.identifier}~{row.round}"},
            )
            reply = event.last_response
            echoed = event.to_dict().get("identifier")
        except stripe.StripeError as error:
            return _outcome(self._client, error)
        except Exception as error:  # the package trips over JSON that is no object, in several ways
            return Outcome("unknown", code="no_answer", message=f"the answer cannot be read ({type(error).__name__})")
        headers = reply.headers if reply else {}
        known = echoed == row.identifier
        return Outcome(
            "accepted" if known else "unknown",
            http=reply.code if reply else 0,
            code="" if known else "other_answer",
            message="" if known else "the answer is to another event",
            request_id=headers.get("request-id", ""),
            server_s=server_time(headers),
        )


def _outcome(client: StripeClient, error: stripe.StripeError) -> Outcome:
    kind, code = _classified(error)
    headers = headers_of(error)
    http = error.http_status or 0
    return Outcome(
        kind,
        http=http,
        code=code,
        message=sentence(client, error, WRITE_EVENTS),
        request_id=headers.get("request-id", ""),
        retry_after_ns=retry_after(headers),
        # Stripe stores what an endpoint answered, a 5xx too, and would repeat it for a day, whatever was put right.
        used_key=http >= 500 or kind == "rejected",
        server_s=server_time(headers),
    )


def _classified(error: stripe.StripeError) -> tuple[str, str]:
    """The kind of the outcome, and a code for people and counters."""
    if isinstance(error, stripe.APIConnectionError):
        early = isinstance(error.__cause__, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        return ("retry", "connect") if early else ("unknown", "connection")
    http, body = error.http_status or 0, body_of(error)
    code = str(body.get("code") or body.get("type") or "")
    if not body or http < 400 or http >= 500 or http in (408, 425):
        return "unknown", code or "no_answer"
    if http in (401, 403):
        return "stop", code
    if code == "duplicate_meter_event" or (http == 400 and _DUPLICATE.search(message_of(error))):
        return "accepted", "duplicate"
    if code == "idempotency_key_in_use":  # the first attempt is still at work
        return "unknown", code
    again = headers_of(error).get("stripe-should-retry") == "true"
    return ("retry" if again or http in (409, 429) or code == "rate_limit" else "rejected"), code
