"""The reader of chunked bodies on bytes alone, and beside h11's."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http1 import BadChunks, ChunkReader


def read(data: bytes, *, step: int = 0, bound: int = 65_536) -> tuple[bytes, int, bool]:
    """The body, how many bytes belong to the message, and whether it is whole."""
    reader, at, body = ChunkReader(bound), 0, b""
    pieces = [data] if not step else [data[n : n + step] for n in range(0, len(data), step)]
    for piece in pieces:
        used = reader.feed(piece, 0)
        body += b"".join(reader.body)
        at += used
        if reader.done:
            break
    return body, at, reader.done


def test_it_ends_where_the_message_ends() -> None:
    data = b"3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nX-A: b\r\n\r\n"
    assert read(data + b"GET / HTTP/1.1") == (b"abcd", len(data), True)
    for step in (1, 2, 3, 7):
        assert read(data, step=step) == (b"abcd", len(data), True)


def test_it_begins_where_it_is_told() -> None:
    reader = ChunkReader(100)
    assert reader.feed(b"xxx1\r\na\r\n0\r\n\r\nyyy", 3) == 14
    assert (reader.body, reader.done) == ([b"a"], True)


@pytest.mark.parametrize("data", [b"3;" + b"a" * 500, b"0\r\nX: " + b"a" * 500, b"0\r\n" + b"X: y\r\n" * 100])
@pytest.mark.parametrize("step", [0, 1])
def test_what_comes_besides_the_body_is_bounded(data: bytes, step: int) -> None:
    """Whole or byte by byte; more of a body allows more of it, and a body before does not pay for ever."""
    with pytest.raises(BadChunks) as caught:
        read(data, step=step, bound=200)
    assert caught.value.large
    with pytest.raises(BadChunks):
        read(b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n" + data, step=step, bound=200)


def test_chunks_of_one_byte_are_not_too_much() -> None:
    body, _, done = read(b"1;a=bcdef\r\nx\r\n" * 10_000 + b"0\r\n\r\n", bound=64)
    assert (body, done) == (b"x" * 10_000, True)


_PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"1\r\na\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\n", b"\r\n", b"\r", b"\n", b";a", b'="b"', b" ",
                b"0", b"a\r\n", b"X-A: b\r\n", b"5\r\n0\r\n\r\n\r\n", b"0x1\r\n", b"+1\r\n", b"-", b"\x00",
            ]
        ),
        st.binary(max_size=4),
    ),
    max_size=8,
).map(b"".join)  # fmt: skip


def _h11(data: bytes) -> tuple[bytes, bool] | None:
    """What h11, which is a little laxer, makes of it: the body and whether it is whole; None: refused."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    assert isinstance(connection.next_event(), h11.Request)
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                return body, isinstance(event, h11.EndOfMessage)
    except h11.RemoteProtocolError:
        return None


@given(_PIECES)
def test_what_is_taken_another_parser_takes_alike(data: bytes) -> None:
    """Whatever is whole here is whole there, with the same body, from the bytes up to the same end."""
    try:
        body, end, done = read(data)
    except BadChunks:
        with pytest.raises(BadChunks):
            read(data, step=1)
        return
    assert read(data, step=1) == (body, end, done)
    if done:
        assert _h11(data[:end]) == (body, True)
        assert _h11(data[: end - 1]) == (body, False)
