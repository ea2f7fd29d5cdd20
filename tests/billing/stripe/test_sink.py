"""Meter events, and what every kind of answer means for the row."""

import socket

import pytest

from sidecar.billing.stripe import MeterEvents, StripeClient
from sidecar.core.billing_settings import StripeSettings
from tests.billing.stripe.peer import DATE_S, KEY, RESET, SILENT, Answer, Peer, error, reply, row, taken

DUPLICATE = "An event already exists with identifier abcd2345:0a1b2c3d:cus_1:29000001."
RAK = "Having the 'rak_billing_meter_event_write' permission would allow this request to continue."


async def test_an_event_is_texts_of_integers_with_its_time_and_both_keys(peer: Peer, client: StripeClient) -> None:
    outcome = await MeterEvents(client).send(row(round=3))
    (asked,) = peer.asked
    assert (asked.method, asked.path) == ("POST", "/v1/billing/meter_events")
    assert asked.form == {
        "event_name": "api_tokens",
        "payload[stripe_customer_id]": "cus_1",
        "payload[value]": "1234",
        "identifier": "abcd2345:0a1b2c3d:cus_1:29000001",
        "timestamp": str(29_000_001 * 60 + 30),
    }
    assert asked.fields["idempotency-key"] == "abcd2345:0a1b2c3d:cus_1:29000001~3"
    assert (outcome.kind, outcome.http, outcome.request_id, outcome.server_s) == ("accepted", 200, "req_2", DATE_S)
    assert (outcome.used_key, outcome.retry_after_ns) == (False, 0)


@pytest.mark.parametrize("value", [-7, 999_999_999_999_999, -999_999_999_999_999])
async def test_values_go_out_as_they_are(peer: Peer, client: StripeClient, value: int) -> None:
    assert (await MeterEvents(client).send(row(value=value))).kind == "accepted"
    assert peer.asked[0].form["payload[value]"] == str(value)


@pytest.mark.parametrize("value", [10**15, -(10**15), 10**18])
async def test_a_value_that_a_float_cannot_hold_is_never_sent(peer: Peer, client: StripeClient, value: int) -> None:
    outcome = await MeterEvents(client).send(row(value=value))
    assert (outcome.kind, outcome.code, peer.asked) == ("rejected", "value_too_large", [])


@pytest.mark.parametrize(
    ("answer", "kind", "code", "used_key"),
    [
        (error(400, DUPLICATE, "Stripe-Should-Retry: false"), "accepted", "duplicate", False),
        (error(400, "taken", code="duplicate_meter_event"), "accepted", "duplicate", False),
        (error(429, "slow down", type="rate_limit_error"), "retry", "rate_limit_error", False),
        (error(400, "slow down", code="rate_limit"), "retry", "rate_limit", False),
        (
            error(409, "concurrently", code="too_many_concurrent_requests"),
            "retry",
            "too_many_concurrent_requests",
            False,
        ),
        (
            error(409, "in use", type="idempotency_error", code="idempotency_key_in_use"),
            "unknown",
            "idempotency_key_in_use",
            False,
        ),
        (error(400, "other body", type="idempotency_error"), "rejected", "idempotency_error", True),
        (error(400, "later", "Stripe-Should-Retry: true"), "retry", "invalid_request_error", False),
        (error(401, "Invalid API Key provided"), "stop", "invalid_request_error", False),
        (error(403, RAK), "stop", "invalid_request_error", False),
        (error(400, "No such customer", code="resource_missing"), "rejected", "resource_missing", True),
        (error(404, "No meter"), "rejected", "invalid_request_error", True),
        (
            error(400, "too far in the past", code="timestamp_too_far_in_past"),
            "rejected",
            "timestamp_too_far_in_past",
            True,
        ),
        (error(500, "no", type="api_error"), "unknown", "api_error", True),
        (error(503, "no", "Stripe-Should-Retry: true", type="api_error"), "unknown", "api_error", True),
        (reply(500, b"<html>oops</html>"), "unknown", "no_answer", True),
        (reply(502, b""), "unknown", "no_answer", True),
        # What stands between us and Stripe says nothing about the event, whatever its status.
        (reply(400, b"<html>Bad Request</html>"), "unknown", "no_answer", False),
        (reply(403, b"<html>firewall</html>"), "unknown", "no_answer", False),
        (reply(404, {"detail": "Not Found"}), "unknown", "no_answer", False),
        (reply(302, b"", "Location: /elsewhere"), "unknown", "no_answer", False),
        (reply(200, b"<html>welcome to this hotel</html>"), "unknown", "no_answer", False),
        (reply(200, b"\xff\xfe"), "unknown", "no_answer", False),
        (reply(200, b""), "unknown", "no_answer", False),
        (reply(200, []), "unknown", "no_answer", False),
        (reply(200, "yes"), "unknown", "no_answer", False),
        (reply(200, {}), "unknown", "other_answer", False),
        (reply(200, {"object": "billing.meter_event", "identifier": "another"}), "unknown", "other_answer", False),
        (reply(200, {"object": "billing.meter_event"}, length=4_000), "unknown", "connection", False),
        (reply(500, {"error": {}}, length=4_000), "unknown", "connection", False),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "unknown", "connection", False),
        (b"nonsense\r\n\r\n", "unknown", "connection", False),
        (b"", "unknown", "connection", False),
        (RESET, "unknown", "connection", False),
    ],
)
async def test_what_an_answer_means(
    peer: Peer, client: StripeClient, answer: Answer, kind: str, code: str, used_key: bool
) -> None:
    peer.script.append(answer)
    outcome = await MeterEvents(client).send(row())
    assert (outcome.kind, outcome.code, outcome.used_key) == (kind, code, used_key), outcome
    assert len(peer.asked) == 1
    assert KEY not in repr(outcome)
    assert len(outcome.message) <= 600
    # The same sender goes on as if nothing had been.
    assert (await MeterEvents(client).send(row())).kind == "accepted"


async def test_an_answer_that_does_not_come_is_unknown(peer: Peer) -> None:
    client = StripeClient(StripeSettings(KEY, api=peer.url, timeout_ns=50_000_000))
    for silent in (SILENT, SILENT):
        peer.script.append(silent)
        outcome = await MeterEvents(client).send(row())
        assert (outcome.kind, outcome.code, outcome.http) == ("unknown", "connection", 0)
    await client.close()


async def test_a_closed_port_took_nothing() -> None:
    with socket.socket() as taken_port:
        taken_port.bind(("127.0.0.1", 0))
        client = StripeClient(StripeSettings(KEY, api=f"http://127.0.0.1:{taken_port.getsockname()[1]}"))
        outcome = await MeterEvents(client).send(row())
        await client.close()
    assert (outcome.kind, outcome.code) == ("retry", "connect")


async def test_a_restricted_key_is_told_which_permission_it_lacks(peer: Peer, client: StripeClient) -> None:
    peer.script += [error(403, RAK), error(403, "No."), error(401, f"Invalid API Key provided: {KEY}")]
    sink = MeterEvents(client)
    told = [(await sink.send(row())).message for _ in range(3)]
    assert told == [
        "the API key lacks a permission: Meter events: Write (rak_billing_meter_event_write); grant it at Stripe",
        "the API key lacks a permission: Meter events: Write; grant it at Stripe",
        "Stripe does not take the API key; write a valid one where billing.stripe.api_key points to",
    ]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("99999999999999999999", 3600),
        ("Tue, 24 Nov 2026 03:00:20 GMT", 20),
        ("Tue, 24 Nov 2026 02:00:00 GMT", 0),
        ("Wed, 25 Nov 2026 03:00:00 GMT", 3600),
        ("soon", 0),
        ("-5", 0),
        ("\N{SUPERSCRIPT TWO}", 0),
    ],
)
async def test_retry_after(peer: Peer, client: StripeClient, written: str, seconds: int) -> None:
    for answer in (
        error(429, "slow down", f"Retry-After: {written}", type="rate_limit_error"),
        reply(503, b"<html>", f"Retry-After: {written}"),
    ):
        peer.script.append(answer)
        outcome = await MeterEvents(client).send(row())
        assert (outcome.retry_after_ns, outcome.server_s) == (seconds * 10**9, DATE_S)


async def test_an_answer_without_end_is_given_up(peer: Peer, client: StripeClient) -> None:
    peer.script.append(reply(200, b"x" * (16 * 1024**2 + 1)))
    assert (await MeterEvents(client).send(row())).code == "connection"
    assert peer.otherwise is taken
