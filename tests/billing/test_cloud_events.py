"""Usage as CloudEvents, and what the receiver's answers mean."""

import json
import socket
from collections.abc import AsyncIterator

import pytest

from sidecar.billing.cloud_events import CloudEvents
from sidecar.core.billing_settings import CloudEventsSink
from tests.billing.stripe.peer import DATE_S, RESET, SILENT, Answer, Peer, reply, row

TOKEN = "token-0123456789-SECRET"


@pytest.fixture
async def receiver() -> AsyncIterator[Peer]:
    peer = Peer()
    peer.otherwise = reply(204)
    await peer.start()
    yield peer
    await peer.stop()


@pytest.fixture
async def sink(receiver: Peer) -> AsyncIterator[CloudEvents]:
    sink = CloudEvents(CloudEventsSink(f"{receiver.url}/api/v1/events", TOKEN, "sidecar/eu"))
    yield sink
    await sink.close()
    await sink.close()


async def test_an_event_in_structured_mode(receiver: Peer, sink: CloudEvents) -> None:
    outcome = await sink.send(row(value=10**17 + 1))
    assert (outcome.kind, outcome.http, outcome.server_s, outcome.message) == ("accepted", 204, DATE_S, "")
    (asked,) = receiver.asked
    assert (asked.method, asked.path) == ("POST", "/api/v1/events")
    assert asked.fields["content-type"] == "application/cloudevents+json; charset=UTF-8"
    assert asked.fields["authorization"] == f"Bearer {TOKEN}"
    assert json.loads(asked.body) == {
        "specversion": "1.0",
        "id": "abcd2345:0a1b2c3d:cus_1:29000001",
        "source": "sidecar/eu",
        "type": "api_tokens",
        "subject": "cus_1",
        "time": "2025-02-19T21:21:30Z",
        "datacontenttype": "application/json",
        "data": {"value": "100000000000000001"},
    }


async def test_an_event_as_lago_takes_it(receiver: Peer) -> None:
    """getlago.com/docs, "Send usage event"; the answer to one that it has is "value_already_exist"."""
    sink = CloudEvents(CloudEventsSink(f"{receiver.url}/api/v1/events", TOKEN, format="lago"))
    assert (await sink.send(row(value=10**17 + 1))).kind == "accepted"
    await sink.close()
    (asked,) = receiver.asked
    assert asked.fields["content-type"] == "application/json"
    assert json.loads(asked.body) == {
        "event": {
            "transaction_id": "abcd2345:0a1b2c3d:cus_1:29000001",
            "external_subscription_id": "cus_1",
            "code": "api_tokens",
            "timestamp": 29_000_001 * 60 + 30,
            "properties": {"value": "100000000000000001"},
        }
    }


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (reply(200, {}), "accepted", ""),
        (reply(202), "accepted", ""),
        (reply(409, b"known"), "accepted", ""),
        (reply(422, {"error_details": {"transaction_id": ["value_already_exist"]}}), "accepted", ""),
        (reply(400, {"detail": "duplicate event"}), "accepted", ""),
        (reply(400, {"detail": "bad"}), "rejected", ""),
        (reply(422, {"detail": "no such subject"}), "rejected", ""),
        (reply(413), "rejected", ""),
        (reply(429), "retry", ""),
        (reply(401), "stop", ""),
        (reply(403), "stop", ""),
        (reply(404), "stop", ""),
        (reply(405), "stop", ""),
        (reply(408), "unknown", ""),
        (reply(302, b"", "Location: /login"), "unknown", ""),
        (reply(500), "unknown", ""),
        (reply(503), "unknown", ""),
        (reply(200, b"ok", length=100), "unknown", "connection"),
        (b"HTTP/1.1 20", "unknown", "connection"),
        (b"", "unknown", "connection"),
        (RESET, "unknown", "connection"),
    ],
)
async def test_what_an_answer_means(receiver: Peer, sink: CloudEvents, answer: Answer, kind: str, code: str) -> None:
    receiver.script.append(answer)
    outcome = await sink.send(row())
    assert (outcome.kind, outcome.code) == (kind, code), outcome
    assert len(receiver.asked) == 1
    assert (await sink.send(row())).kind == "accepted"


async def test_an_hourly_total_is_never_added_up(receiver: Peer, sink: CloudEvents) -> None:
    outcome = await sink.send(row(version=2))
    assert (outcome.kind, outcome.code, receiver.asked) == ("rejected", "hourly", [])


async def test_the_token_is_never_shown(receiver: Peer, sink: CloudEvents) -> None:
    receiver.script.append(reply(401, f"the token {TOKEN} is\nno token".encode()))
    outcome = await sink.send(row())
    assert outcome.message == "status 401: the token *** is no token"
    assert "SECRET" not in repr(sink) + repr(outcome)


async def test_retry_after(receiver: Peer, sink: CloudEvents) -> None:
    receiver.script.append(reply(429, b"", "Retry-After: 9"))
    assert (await sink.send(row())).retry_after_ns == 9 * 10**9


async def test_silence_and_a_closed_port(receiver: Peer) -> None:
    receiver.otherwise = SILENT
    impatient = CloudEvents(CloudEventsSink(receiver.url, None, timeout_ns=50_000_000))
    assert (await impatient.send(row())).code == "connection"
    assert "authorization" not in receiver.asked[0].fields
    await impatient.close()
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        nobody = CloudEvents(CloudEventsSink(f"http://127.0.0.1:{port.getsockname()[1]}"))
        assert (await nobody.send(row())).kind == "retry"
        await nobody.close()
