"""WebSocket messages are counted right however frames are cut, masked, fragmented and mixed with control frames."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.http1 import MessageCounter


def frame(opcode: int, payload: bytes, *, last: bool = True, mask: bool = False) -> bytes:
    """RFC 6455, 5.2, with the shortest length."""
    head = bytes([opcode | (0x80 if last else 0)])
    bit, size = 0x80 if mask else 0, len(payload)
    if size < 126:
        head += bytes([bit | size])
    elif size < 1 << 16:
        head += bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + size.to_bytes(8, "big")
    return head + (b"\xff\x81\x00\x7f" if mask else b"") + payload


PAYLOAD = st.one_of(
    st.binary(max_size=5), st.integers(120, 130).map(bytes), st.just(bytes(70_000)), st.just(b"\x81" * 300)
)


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, int]:
    """A stream of frames and how many messages it is."""
    stream, count = b"", draw(st.integers(0, 5))
    for _ in range(count):
        parts = draw(st.lists(PAYLOAD, min_size=1, max_size=3))
        for at, payload in enumerate(parts):
            for opcode in draw(st.lists(st.sampled_from([0x8, 0x9, 0xA]), max_size=2)):
                stream += frame(opcode, draw(st.binary(max_size=125)), mask=draw(st.booleans()))
            opcode = draw(st.sampled_from([1, 2])) if at == 0 else 0
            stream += frame(opcode, payload, last=at == len(parts) - 1, mask=draw(st.booleans()))
    return stream, count


@given(messages(), st.lists(st.integers(1, 40), max_size=30))
def test_every_message_counts_once_however_it_is_split(case: tuple[bytes, int], cuts: list[int]) -> None:
    stream, count = case
    counter, found, at = MessageCounter(), 0, 0
    for size in cuts:
        found += counter.feed(stream[at : at + size])
        at += size
    assert found + counter.feed(stream[at:]) == count


def test_byte_by_byte() -> None:
    stream = frame(1, b"he", last=False, mask=True) + frame(9, b"ping") + frame(0, b"llo", mask=True) + frame(2, b"")
    counter = MessageCounter()
    assert [at for at in range(len(stream)) if counter.feed(stream[at : at + 1])] == [len(stream) - 3, len(stream) - 1]


def test_what_is_no_message_does_not_count() -> None:
    """A continuation of nothing, a reserved opcode, a message without its last byte."""
    counter = MessageCounter()
    assert counter.feed(frame(0, b"x") + frame(3, b"x") + frame(0, b"x") + frame(1, b"xy")[:-1]) == 0
    assert counter.feed(b"y") == 1


@given(st.lists(st.binary(max_size=300)))
def test_any_bytes_do_no_harm(pieces: list[bytes]) -> None:
    counter = MessageCounter()
    for piece in pieces:
        assert 0 <= counter.feed(piece) <= len(piece)
        assert len(counter._head) < 14
