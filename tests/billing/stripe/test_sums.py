"""Stripe's sums: whole lists, integers, no faster than agreed."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.billing.stripe import MeterSums, Pace, StripeClient, StripeFault
from sidecar.core.clock import NS_PER_S, ManualClock
from tests.billing.stripe.peer import Asked, Peer, error, reply

HOUR = 482_000
METER = {
    "object": "billing.meter",
    "id": "mtr_1",
    "event_name": "api_tokens",
    "status": "active",
    "default_aggregation": {"formula": "sum"},
    "event_time_window": None,
    "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
    "value_settings": {"event_payload_key": "value"},
}


def page(items: list[Any], more: bool = False) -> bytes:
    return reply(200, {"object": "list", "data": items, "has_more": more, "url": "/v1/x"})


def summary(hour: int, value: Any, number: int = 0) -> dict[str, Any]:
    return {
        "object": "billing.meter_event_summary",
        "id": f"sum_{hour}_{number}",
        "aggregated_value": value,
        "start_time": hour * 3600,
        "end_time": hour * 3600 + 3600,
        "meter": "mtr_1",
    }


def answers(summaries: list[Any], meters: list[Any] | None = None, most: int = 100) -> Callable[[Asked], bytes]:
    """Meters and summaries, in pages of at most ``most``."""

    def answer(asked: Asked) -> bytes:
        items = summaries if asked.path.endswith("/event_summaries") else ([METER] if meters is None else meters)
        ids = [item.get("id") for item in items]
        begin = ids.index(asked.query["starting_after"]) + 1 if "starting_after" in asked.query else 0
        return page(items[begin : begin + most], begin + most < len(items))

    return answer


class Waiting:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)


def sums(client: StripeClient, waiting: Waiting | None = None) -> MeterSums:
    waiting = waiting or Waiting()
    return MeterSums(client, waiting.clock, sleep=waiting.sleep)


async def test_a_total_is_one_question_over_whole_minutes(peer: Peer, client: StripeClient) -> None:
    peer.otherwise = answers([summary(HOUR, 42.0)])
    assert await sums(client).total("api_tokens", "cus_1", HOUR * 60 + 7, HOUR * 60 + 8) == 42
    asked = peer.asked[-1]
    assert asked.path == "/v1/billing/meters/mtr_1/event_summaries"
    assert asked.query == {
        "customer": "cus_1",
        "start_time": str(HOUR * 3600 + 420),
        "end_time": str(HOUR * 3600 + 480),
        "limit": "100",
    }


async def test_nothing_was_taken(peer: Peer, client: StripeClient) -> None:
    peer.otherwise = answers([])
    assert await sums(client).total("api_tokens", "cus_1", 60, 61) == 0
    assert await sums(client).hours("api_tokens", "cus_1", 1, 2) == {}


async def test_hours_are_read_to_the_end_of_the_list(peer: Peer, client: StripeClient) -> None:
    """Stripe gives ten by default: that has been 1.3 % of somebody's month."""
    peer.otherwise = answers([summary(HOUR + n, float(n)) for n in range(720)])
    found = await sums(client).hours("api_tokens", "cus_1", HOUR, HOUR + 720)
    assert found == {HOUR + n: n for n in range(1, 720)}
    asked = [one.query for one in peer.asked if one.path.endswith("summaries")]
    assert len(asked) == 8
    assert all((query["limit"], query["value_grouping_window"]) == ("100", "hour") for query in asked)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.5, "no integer"),
        (1e300, "2\\^53"),
        (2.0**53 + 2, "2\\^53"),
        (-(2.0**53) - 2, "2\\^53"),
        (float("nan"), "2\\^53"),
        (float("inf"), "2\\^53"),
        ("12", "no number"),
        (None, "no number"),
        (True, "no number"),
    ],
)
async def test_what_is_no_integer_is_no_sum(peer: Peer, client: StripeClient, value: Any, told: str) -> None:
    peer.otherwise = answers([summary(HOUR, value)])
    with pytest.raises(StripeFault, match=told):
        await sums(client).total("api_tokens", "cus_1", HOUR * 60, HOUR * 60 + 60)
    with pytest.raises(StripeFault, match=told):
        await sums(client).hours("api_tokens", "cus_1", HOUR, HOUR + 1)


@pytest.mark.parametrize("value", [0, 2**53, -(2**53), -3.0, 7])
async def test_exact_sums(peer: Peer, client: StripeClient, value: float) -> None:
    peer.otherwise = answers([summary(HOUR, value)])
    assert await sums(client).total("api_tokens", "cus_1", HOUR * 60, HOUR * 60 + 60) == value


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([summary(HOUR, 1), summary(HOUR, 2, 1)], "two sums of one hour"),
        ([summary(HOUR - 1, 1)], "not those of the hours"),
        ([summary(HOUR + 2, 1)], "not those of the hours"),
        ([summary(HOUR, 1) | {"end_time": HOUR * 3600 + 86_400}], "not those of the hours"),
        ([summary(HOUR, 1) | {"start_time": HOUR * 3600 + 60, "end_time": HOUR * 3600 + 3660}], "not those of the"),
        ([summary(HOUR, 1) | {"start_time": "x"}], "not those of the hours"),
        (["x"], "no object"),
    ],
)
async def test_sums_of_other_hours_are_no_answer(peer: Peer, client: StripeClient, items: list[Any], told: str) -> None:
    def answer(asked: Asked) -> bytes:
        return page(items if asked.path.endswith("summaries") else [METER])

    peer.otherwise = answer
    with pytest.raises(StripeFault, match=told):
        await sums(client).hours("api_tokens", "cus_1", HOUR, HOUR + 2)


async def test_two_sums_where_one_was_asked_for(peer: Peer, client: StripeClient) -> None:
    peer.otherwise = answers([summary(HOUR, 1), summary(HOUR + 1, 2)])
    with pytest.raises(StripeFault, match="2 sums"):
        await sums(client).total("api_tokens", "cus_1", HOUR * 60, HOUR * 60 + 120)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (page([], more=True), "more than"),
        (page([METER | {"id": None}], more=True), "does not go on"),
        (page([{"id": "mtr_1"}]), "cannot be read"),
        (reply(200, {"object": "list"}), "no list"),
        (error(500, "no", type="api_error"), "Stripe says 500"),
        (reply(200, json.dumps({"object": "list", "data": [], "has_more": False}).encode(), length=999), "reached"),
    ],
)
async def test_a_list_that_is_none(peer: Peer, client: StripeClient, answer: bytes, told: str) -> None:
    peer.otherwise = answer
    with pytest.raises(StripeFault, match=told):
        await sums(client).total("api_tokens", "cus_1", 0, 1)


async def test_a_list_without_end_is_given_up(peer: Peer, client: StripeClient) -> None:
    peer.otherwise = page([METER], more=True)
    with pytest.raises(StripeFault, match="does not go on"):
        await sums(client).total("api_tokens", "cus_1", 0, 1)
    assert len(peer.asked) == 2


async def test_the_meter_must_be_active(peer: Peer, client: StripeClient) -> None:
    peer.otherwise = answers([], [METER | {"status": "inactive"}])
    with pytest.raises(StripeFault, match='no active meter with the event name "api_tokens"'):
        await sums(client).total("api_tokens", "cus_1", 0, 1)


async def test_a_meter_that_was_made_anew_is_found(peer: Peer, client: StripeClient) -> None:
    waiting = Waiting()
    asked = sums(client, waiting)
    peer.otherwise = answers([])
    await asked.total("api_tokens", "cus_1", 0, 1)
    await asked.total("api_tokens", "cus_1", 0, 1)
    assert [one.path for one in peer.asked].count("/v1/billing/meters") == 1
    peer.otherwise = answers([], [METER | {"status": "inactive"}, METER | {"id": "mtr_2"}])
    waiting.clock.advance(601)
    await asked.total("api_tokens", "cus_1", 0, 1)
    assert peer.asked[-1].path == "/v1/billing/meters/mtr_2/event_summaries"


async def test_ranges(peer: Peer, client: StripeClient) -> None:
    assert await sums(client).total("api_tokens", "cus_1", 5, 5) == 0
    assert peer.asked == []
    with pytest.raises(ValueError, match="ends before"):
        await sums(client).total("api_tokens", "cus_1", 6, 5)


async def test_reads_are_five_a_second_at_most(peer: Peer, client: StripeClient) -> None:
    waiting = Waiting()
    begun = waiting.clock.monotonic_ns()
    asked = sums(client, waiting)
    peer.otherwise = answers([])
    for _ in range(10):
        await asked.total("api_tokens", "cus_1", 0, 1)
    assert len(peer.asked) == 11
    assert waiting.clock.monotonic_ns() - begun == 2 * NS_PER_S


@given(st.integers(1, 1_000), st.lists(st.floats(0, 3), max_size=30))
async def test_calls_are_never_closer_than_the_rate(rate: int, pauses: list[float]) -> None:
    waiting = Waiting()
    pace = Pace(rate, waiting.clock, sleep=waiting.sleep)
    before: int | None = None
    for pause in pauses:
        waiting.clock.advance(pause)
        await pace.wait()
        now = waiting.clock.monotonic_ns()
        assert before is None or now - before >= NS_PER_S // rate - 1
        before = now


def test_a_rate_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Pace(0, ManualClock())
