"""Streams cut into events, against parsers that see everything at once."""

import re

from hypothesis import given
from hypothesis import strategies as st

from sidecar.metering.events import MAX_EVENT, Events, LinesOfJson, ServerSentEvents
from tests.metering.replies import split

CUTS = st.lists(st.integers(0, 10_000), max_size=20)
TEXTS = st.lists(
    st.sampled_from(
        [
            "data",
            ":",
            " ",
            "\r",
            "\n",
            "\r\n",
            "\n\n",
            "id: 1",
            "datax: 2",
            "event",
            "x",
            "[DONE]",
            "data: a\n\n",
            "é",
            "\0",
        ]
    )
    | st.text(max_size=3),
    max_size=30,
).map("".join)


def sse(text: str) -> list[bytes]:
    """WHATWG HTML, 9.2.6, as it is written there."""
    found, data = [], ""
    lines = re.split("\r\n|\r|\n", text.removeprefix("\ufeff"))
    for line in lines[:-1]:
        name, _, value = line.partition(":")
        if not line:
            if data:
                found.append(data.removesuffix("\n").encode())
            data = ""
        elif name == "data":
            data += value.removeprefix(" ") + "\n"
    return found


def fed(events: Events, pieces: list[bytes]) -> list[bytes | None]:
    return [event for piece in pieces for event in events.feed(piece)] + events.finish()


@given(TEXTS, CUTS, st.booleans())
def test_server_sent_events(text: str, cuts: list[int], mark: bool) -> None:
    text = text.encode("utf-8", "replace").decode()
    body = (b"\xef\xbb\xbf" if mark else b"") + text.encode()
    assert fed(ServerSentEvents(), split(body, cuts)) == sse(("\ufeff" if mark else "") + text)


@given(TEXTS, CUTS)
def test_lines_of_json(text: str, cuts: list[int]) -> None:
    body = text.encode("utf-8", "replace")
    assert fed(LinesOfJson(), split(body, cuts)) == [line for line in body.split(b"\n") if line]


def test_json_text_sequences() -> None:
    assert fed(LinesOfJson(), [b"\x1e{}\n\x1e", b"[]\n"]) == [b"{}", b"[]"]


@given(st.integers(-3, 3), CUTS)
def test_the_bound_does_not_depend_on_the_pieces(beyond: int, cuts: list[int]) -> None:
    """The event after one that is too long is whole again."""
    size = MAX_EVENT + beyond
    scaled = [cut * 400 for cut in cuts]
    line = b"x" * size + b"\ny\n"
    expected = [b"x" * size if beyond <= 0 else None, b"y"]
    assert fed(LinesOfJson(), split(line, scaled)) == expected
    event = b"data: " + b"x" * (size - 6) + b"\n\ndata:y\n\n"
    expected = [b"x" * (size - 6) if beyond <= 0 else None, b"y"]
    assert fed(ServerSentEvents(), split(event, scaled)) == expected


def test_many_short_lines_of_data_are_bounded_together() -> None:
    events = ServerSentEvents()
    for _ in range(20):
        assert events.feed(b"data: " + b"x" * 100_000 + b"\n") == []
    assert events.feed(b"\ndata: 1\n\n") == [None, b"1"]


def test_a_long_comment_is_nothing() -> None:
    body = b":" + b"x" * (2 * MAX_EVENT) + b"\ndata: 1\n\n"
    assert fed(ServerSentEvents(), split(body, [1000, MAX_EVENT + 5000])) == [b"1"]
    assert fed(ServerSentEvents(), [body]) == [b"1"]
