"""What is refused at the start because it could not be billed right."""

from typing import Any

import pytest

from sidecar.billing.stripe import StripeClient, StripeFault, check
from sidecar.core.policy import Meter, Snapshot
from tests.billing.stripe.peer import RESET, Asked, Peer, error, reply
from tests.billing.stripe.test_sums import METER, page

ADDS = Snapshot(meters={"tokens": Meter("tokens", "requests", stripe_event="api_tokens"), "own": Meter("own", "units")})
SETS = Snapshot(meters={"tokens": Meter("tokens", "requests", stripe_event="api_tokens", stripe_window="hour")})


def with_meters(*meters: dict[str, Any]) -> Any:
    def answer(asked: Asked) -> bytes:
        if asked.method == "POST":
            return error(400, "Missing required param: payload.", code="parameter_missing")
        return page(list(meters)) if asked.path == "/v1/billing/meters" else page([])

    return answer


@pytest.mark.parametrize(
    ("snapshot", "meter"),
    [(ADDS, METER), (SETS, METER | {"event_time_window": "hour"}), (Snapshot(), METER | {"status": "inactive"})],
)
async def test_what_fits_is_not_told(peer: Peer, client: StripeClient, snapshot: Snapshot, meter: Any) -> None:
    peer.otherwise = with_meters(METER | {"id": "mtr_0", "event_name": "other", "status": "inactive"}, meter)
    assert await check(client, snapshot) == []
    for asked in peer.asked:
        assert asked.method == "GET" or (asked.path, asked.form) == (
            "/v1/billing/meter_events",
            {"event_name": "api_tokens"},
        ), "a probe must never be taken"


@pytest.mark.parametrize(
    ("snapshot", "changes", "told"),
    [
        (ADDS, {"event_name": "other"}, 'Stripe has no meter with the event name "api_tokens"; make it'),
        (ADDS, {"status": "inactive"}, 'the meter "api_tokens" at Stripe is inactive: its events are dropped'),
        (ADDS, {"default_aggregation": {"formula": "count"}}, "takes the count of its events; usage needs one with"),
        (ADDS, {"default_aggregation": {"formula": "last"}}, "takes the last of its events"),
        (
            ADDS,
            {"event_time_window": "hour"},
            "keeps the newest event of each hour, but stripe_window of tokens is none; write stripe_window: hour",
        ),
        (
            ADDS,
            {"event_time_window": "day"},
            "keeps the newest event of each day, but stripe_window of tokens is none; use a meter without that window",
        ),
        (SETS, {}, "adds every event, but stripe_window of tokens is hour; write stripe_window: none"),
        (ADDS, {"customer_mapping": {"type": "by_id", "event_payload_key": "who"}}, 'reads its customer from "who"'),
        (ADDS, {"value_settings": {"event_payload_key": "n"}}, 'reads its value from "n", but it is sent as "value"'),
    ],
)
async def test_what_cannot_be_billed_right(
    peer: Peer, client: StripeClient, snapshot: Snapshot, changes: dict[str, Any], told: str
) -> None:
    peer.otherwise = with_meters(METER | changes)
    (sentence,) = await check(client, snapshot)
    assert told in sentence


async def test_everything_is_told_at_once(peer: Peer, client: StripeClient) -> None:
    peer.otherwise = with_meters(
        METER
        | {
            "event_time_window": "day",
            "default_aggregation": {"formula": "last"},
            "value_settings": {"event_payload_key": "n"},
        }
    )
    assert len(await check(client, ADDS)) == 3


async def test_the_active_one_of_two_meters_counts(peer: Peer, client: StripeClient) -> None:
    old = METER | {"id": "mtr_0", "status": "inactive"}
    for meters in ((old, METER), (METER, old)):
        peer.otherwise = with_meters(*meters)
        assert await check(client, ADDS) == []


@pytest.mark.parametrize(
    ("path", "permission"),
    [
        ("/v1/billing/meters", "Meters: Read"),
        ("/v1/billing/meter_events", "Meter events: Write"),
        ("/v1/billing/meters/mtr_1/event_summaries", "Meters: Read"),
        ("/v1/prices", "Prices: Read"),
        ("/v1/subscriptions", "Subscriptions: Read"),
        ("/v1/invoices", "Invoices: Read"),
    ],
)
async def test_a_key_is_told_which_permission_it_lacks(
    peer: Peer, client: StripeClient, path: str, permission: str
) -> None:
    def answer(asked: Asked) -> bytes:
        if asked.path == path:
            return error(403, "Having the 'rak_this_one' permission would allow this request to continue.")
        return with_meters(METER)(asked)

    peer.otherwise = answer
    told = f"the API key lacks a permission: {permission} (rak_this_one); grant it at Stripe"
    assert await check(client, ADDS) == [told]


async def test_a_wrong_key_is_told_once(peer: Peer, client: StripeClient) -> None:
    peer.otherwise = error(401, "Invalid API Key provided")
    told = "Stripe does not take the API key; write a valid one where billing.stripe.api_key points to"
    assert await check(client, ADDS) == [told]


@pytest.mark.parametrize("answer", [RESET, reply(502, b"<html>"), error(500, "no", type="api_error")])
async def test_stripe_that_cannot_be_asked_says_nothing_about_the_meters(
    peer: Peer, client: StripeClient, answer: bytes
) -> None:
    peer.otherwise = answer
    with pytest.raises(StripeFault):
        await check(client, ADDS)
    peer.otherwise = lambda asked: RESET if asked.path == "/v1/prices" else with_meters(METER)(asked)
    with pytest.raises(StripeFault):
        await check(client, ADDS)
