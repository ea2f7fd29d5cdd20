"""What a line of the access log says, and what it never says."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gateway.access.lines import Lines
from sidecar.gateway.access.log import Note, unread

LINES = Lines("sc", "apitoken")
KEY = b"sc_live_4fQ2Zk8d1AbCdEfGhIjKlMnOpQrStUvWxYz012345"


def note(target: bytes = b"/", agent: bytes = b"curl") -> Note:
    return Note(
        1_700_000_000_123_456,
        b"018bcfe5-6800-7000-8000-000000000000",
        "192.0.2.7",
        b"1.1",
        b"GET",
        b"api.example",
        target,
        200,
        b"ok",
        "",
        "search",
        ("acme", "k1", "pro"),
        "http://127.0.0.1:9000",
        3,
        44,
        2500,
        2000,
        1500,
        [(b"User-Agent", agent), (b"Authorization", b"Bearer " + KEY)],
    )


def test_a_line_is_json_with_units_in_its_names() -> None:
    line = LINES.line(note(b"/v1/search?q=a%20b&page=2"))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.123Z",
        "id": "018bcfe5-6800-7000-8000-000000000000",
        "ip": "192.0.2.7",
        "protocol": "HTTP/1.1",
        "method": "GET",
        "host": "api.example",
        "target": "/v1/search?q=a%20b&page=2",
        "status": 200,
        "outcome": "ok",
        "bytes_in": 3,
        "bytes_out": 44,
        "total_ms": 2.5,
        "user_agent": "curl",
        "route": "search",
        "tenant": "acme",
        "key": "k1",
        "plan": "pro",
        "upstream": "http://127.0.0.1:9000",
        "upstream_ms": 2.0,
        "first_byte_ms": 1.5,
    }


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (b"/a?key=x", b"/a?key=***"),
        (b"/a?API_KEY=x&b=1", b"/a?API_KEY=***&b=1"),
        (b"/a?x-api-key=x", b"/a?x-api-key=***"),
        (b"/a?accessToken=x&clientSecret=y&apiKey=z", b"/a?accessToken=***&clientSecret=***&apiKey=***"),
        (b"/a?ACCESSTOKEN=x&userId=7&barcode=1&decode=2", b"/a?ACCESSTOKEN=***&userId=7&barcode=1&decode=2"),
        (b"/a?apitoken=x", b"/a?apitoken=***"),
        (b"/a?api%54oken=x", b"/a?api%54oken=***"),
        (b"/a?access_token=x&access_token=y", b"/a?access_token=***&access_token=***"),
        (b"/a?client_secret=x;y=z", b"/a?client_secret=***"),
        (b"/a?monkey=1&keyword=2&code=3", b"/a?monkey=1&keyword=2&code=***"),
        (b"/a?key=&b", b"/a?key=&b"),
        (b"/" + KEY + b"/x", b"/***/x"),
        (b"/a?q=" + KEY, b"/a?q=***"),
        (b"/a?q=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", b"/a?q=***"),
        (b"*", b"*"),
    ],
)
def test_secrets_are_left_out_of_the_target(target: bytes, shown: bytes) -> None:
    assert LINES.target(target) == shown


@given(st.binary(max_size=3000), st.binary(max_size=300))
def test_no_byte_breaks_a_line(target: bytes, agent: bytes) -> None:
    line = LINES.line(note(target, agent))
    assert line.count(b"\n") == 1
    assert json.loads(line)["status"] == 200


@given(st.text(alphabet="abcxyz=&?%/._-", max_size=40), st.text(alphabet="abcxyz=&?%/._-", max_size=40))
def test_a_key_is_never_shown(before: str, after: str) -> None:
    target = b"/" + before.encode() + KEY + b"/" + after.encode()
    assert KEY not in LINES.line(note(target, agent=KEY))


def test_a_head_that_could_not_be_read_has_a_line_too() -> None:
    entry = json.loads(LINES.line(unread(0, b"id", "192.0.2.7", 400, "bad_request")))
    assert (entry["status"], entry["code"], entry["outcome"]) == (400, "bad_request", "refused")
