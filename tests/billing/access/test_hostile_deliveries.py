"""What is no delivery of Stripe's, at the real handler over HTTP: 400 and a count, whatever it is, and never a 500."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.billing.access import Payments
from sidecar.billing.access.endpoint import WEBHOOK
from tests.billing.access.conftest import House
from tests.billing.access.test_service import payments, signature

Node = tuple[Payments, TestClient[web.Request, web.Application]]
# Every label that the metric may have.
REASONS = {"too_large", "not_utf8", "bad_header", "bad_signature", "too_old", "not_json", "not_an_event", "cut"}
hostile = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
ID, KIND = st.from_regex(r"\A[A-Za-z0-9_]{3,20}\Z"), st.from_regex(r"\A[a-z0-9_.]{1,20}\Z")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | ID | KIND,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
async def node(house: House) -> AsyncIterator[Node]:
    made = payments(house)
    app = web.Application()
    app.add_routes(made.routes())
    async with TestClient(TestServer(app)) as client:
        yield made, client
    await made.close()


async def post(node: Node, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    """The status, and what the metric counted it as: one more of one kind."""
    made, client = node
    before = dict(made.counts.webhooks)
    reply = await client.post(WEBHOOK, data=body, headers=headers)
    text = await reply.text()
    counted = {name: n - before.get(name, 0) for name, n in made.counts.webhooks.items() if n != before.get(name, 0)}
    ((reason, times),) = counted.items()
    assert times == 1
    if reply.status != 200:
        assert (reply.content_type, json.loads(text)["code"]) == ("application/problem+json", "webhook_malformed")
    return reply.status, reason


@hostile
@given(
    body=st.binary(max_size=300) | values.map(lambda value: json.dumps(value).encode()),
    header=st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=200)
    | st.text("t=,v10159af ", max_size=60),
)
async def test_unsigned_noise_is_400(node: Node, body: bytes, header: str) -> None:
    status, reason = await post(node, body, {"Stripe-Signature": header.strip()})
    assert status == 400
    assert reason in REASONS


@hostile
@given(body=st.binary(max_size=300) | values.map(lambda value: json.dumps(value).encode()))
async def test_signed_noise_is_400(node: Node, body: bytes) -> None:
    """As of somebody who has the secret and no idea what an event is."""
    assert (await post(node, body, signature(body)))[0] == 400


@hostile
@given(
    kind=st.sampled_from(["event", "v2.core.event", "list", None]) | values,
    id=ID | values,
    type=KIND | values,
    more=st.dictionaries(st.sampled_from(["data", "related_object", "livemode", "created", "account"]), values),
)
async def test_an_event_is_taken_or_400_by_its_id_and_type_alone(
    house: House, node: Node, kind: Any, id: Any, type: Any, more: dict[str, Any]
) -> None:
    body = json.dumps({"object": kind, "id": id, "type": type, **more}).encode()
    status, reason = await post(node, body, signature(body))
    if status == 200:
        assert kind in ("event", "v2.core.event")
        assert reason in ("stored", "known")
        assert id in {one.id for one in await house.store.arrivals(at_ns=2**62, limit=1_000)}
    else:
        assert (status, reason) == (400, "not_an_event")


@hostile
@given(
    at=st.integers(0, 400),
    byte=st.integers(1, 255),
    where=st.sampled_from(["body", "signature", "stamp", "cut", "late"]),
)
async def test_a_delivery_with_one_byte_of_it_changed_is_400(node: Node, at: int, byte: int, where: str) -> None:
    body = json.dumps({"id": "evt_1", "object": "event", "type": "invoice.paid", "data": {"object": {}}}).encode()
    header = signature(body)["Stripe-Signature"]
    stamp, _, mac = header.partition(",v1=")
    if where == "body":
        place = at % len(body)
        body = body[:place] + bytes([body[place] ^ byte]) + body[place + 1 :]
    elif where == "signature":
        place = at % len(mac)
        header = f"{stamp},v1={mac[:place]}{(int(mac[place], 16) + byte % 15 + 1) % 16:x}{mac[place + 1 :]}"
    elif where == "stamp":
        header = f"t={int(stamp[2:]) + byte},v1={mac}"
    elif where == "cut":
        body = body[: at % len(body)]
    else:
        header = f"{stamp[:2]}{int(stamp[2:]) - 301 - byte},v1={mac}"
    status, reason = await post(node, body, {"Stripe-Signature": header})
    assert (status, reason in {"bad_signature", "not_utf8"}) == (400, True)
