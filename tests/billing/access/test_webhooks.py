"""Deliveries: only what a secret signed within five minutes passes; everything else is Malformed, whatever it is."""

import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.billing.access import Malformed, verified
from sidecar.billing.access.webhooks import MOST_BODY, hint

NOW_S = 1_800_000_000
OLD, NEW = "whsec_old_one", "whsec_new_one"
EVENT = {
    "id": "evt_1",
    "object": "event",
    "type": "invoice.paid",
    "livemode": False,
    "data": {"object": {"id": "in_1", "object": "invoice", "customer": "cus_1", "amount_due": 5, "name": "private"}},
}


def signed(body: bytes, secret: str = OLD, at_s: int = NOW_S) -> str:
    """As docs.stripe.com "Webhook signatures" says, without the package that checks it."""
    mac = hmac.new(secret.encode(), b"%d." % at_s + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={mac}"


def take(body: bytes, header: str, now_s: int = NOW_S) -> str:
    """The event's id, or the reason why it is refused."""
    try:
        return verified(body, header, (OLD, NEW), now_s * 10**9).id
    except Malformed as fault:
        return fault.reason


def test_both_secrets_work_while_they_are_rotated() -> None:
    body = json.dumps(EVENT).encode()
    assert take(body, signed(body, OLD)) == take(body, signed(body, NEW)) == "evt_1"
    assert take(body, signed(body, "whsec_foreign")) == "bad_signature"
    assert take(body + b" ", signed(body)) == "bad_signature"


@pytest.mark.parametrize(("shift_s", "result"), [(0, "evt_1"), (300, "evt_1"), (301, "too_old"), (-301, "too_old")])
def test_old_and_future_signatures_are_refused(shift_s: int, result: str) -> None:
    """The official package lets future ones pass."""
    body = json.dumps(EVENT).encode()
    assert take(body, signed(body), NOW_S + shift_s) == result


def test_only_what_it_is_about_is_kept() -> None:
    body = json.dumps(EVENT).encode()
    arrival = verified(body, signed(body), (OLD,), NOW_S * 10**9)
    assert (arrival.type, arrival.object_id, hint(arrival, "customer")) == ("invoice.paid", "in_1", "cus_1")
    assert "private" not in arrival.payload


def test_thin_events_are_taken_too() -> None:
    thin = {"id": "evt_2", "object": "v2.core.event", "type": "v1.billing.meter.error_report_triggered"}
    body = json.dumps({**thin, "related_object": {"id": "mtr_1", "type": "billing.meter", "url": "/v1"}}).encode()
    assert verified(body, signed(body), (OLD,), NOW_S * 10**9).object_id == "mtr_1"
    body = json.dumps(thin).encode()
    assert take(body, signed(body)) == "evt_2"


@pytest.mark.parametrize(
    "body",
    ["", "null", "[]", "1", '"evt"', "{", "{}", '{"object": "event"}', '{"object": "event", "id": 5, "type": "a"}',
     '{"object": "event", "id": "evt_\\ud800", "type": "a"}', '{"object": "list", "id": "evt_1", "type": "a"}',
     "[" * 100_000, "1" * 10_000, '{"object": "event", "id": "evt_1", "type": "A B"}'],
)  # fmt: skip
def test_signed_json_of_every_wrong_kind_is_malformed(body: str) -> None:
    assert take(body.encode(), signed(body.encode())) in ("not_json", "not_an_event")


def test_bodies_that_are_no_text_or_too_large() -> None:
    assert take(b"\xff\xfe", "t=1,v1=ab") == "not_utf8"
    assert take(b" " * (MOST_BODY + 1), "t=1,v1=ab") == "too_large"


@given(st.binary(max_size=200), st.text(max_size=100))
def test_noise_is_malformed(body: bytes, header: str) -> None:
    with pytest.raises(Malformed):
        verified(body, header, (OLD, NEW), NOW_S * 10**9)


@given(st.text(alphabet="t=,v10 \u00e4\u0661", max_size=40))
def test_headers_near_the_right_one_are_malformed(header: str) -> None:
    with pytest.raises(Malformed):
        verified(b"{}", header, (OLD,), NOW_S * 10**9)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["id", "object", "customer", "data", "x"]), inner, max_size=4)
        ),
    )
)
def test_any_object_in_a_signed_event_is_taken(inside: object) -> None:
    """What an event is about may have any shape: it is a hint at most."""
    body = json.dumps(
        {"id": "evt_1", "object": "event", "type": "a.b", "data": inside, "related_object": inside}
    ).encode()
    assert take(body, signed(body)) == "evt_1"
