"""Frames: what was written is read, whatever happens to the bytes behind it nothing is invented."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from sidecar.ledger.segment import (
    FRAME,
    FRAME_BYTES,
    HEADER,
    Segment,
    frame_head,
    is_sealed,
    read_frames,
    remains,
    torn_extent,
)

Payload = tuple[bytes, int]  # and how many done records it is said to have

SIZE = 4096
payloads = st.lists(st.tuples(st.binary(min_size=1, max_size=120), st.integers(0, 32_767)), min_size=1, max_size=12)


def filled(folder: Path, written: list[Payload]) -> Segment:
    segment = Segment.create(folder, 1, SIZE)
    fill(segment, written)
    return segment


def fill(segment: Segment, written: list[Payload]) -> None:
    for payload, done in written:
        frame = frame_head(payload, done, segment.mark) + payload
        segment.map[segment.written : segment.written + len(frame)] = frame
        segment.written += len(frame)


def test_a_frame_without_done_records_is_what_it_was_before_it_said_so() -> None:
    assert frame_head(b"intent", 0, 7) == FRAME.pack(xxh3_64_digest(b"intent"), 6, 7)


@given(payloads)
def test_what_was_written_is_read_in_slices_of_any_size(records: list[Payload]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        segment = filled(Path(folder), records)
        for enough in (1, 100, SIZE):
            offset, found = HEADER.size, []
            while True:
                start = offset
                frames = read_frames(segment.map, segment.number, start, SIZE, enough)
                found += frames.payloads
                offset = frames.offset
                if offset - start < enough:
                    break
                assert sum(FRAME_BYTES + len(payload) for payload, _ in frames.payloads[:-1]) < enough
            assert (found, offset, frames.bad) == (records, segment.written, False)
        segment.close()


@settings(deadline=None, max_examples=25)
@given(payloads)
def test_torn_at_every_byte_everything_before_is_read(records: list[Payload]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        segment = filled(Path(folder), records)
        last = segment.written - FRAME_BYTES - len(records[-1][0])
        whole = segment.map[last : segment.written]
        for cut in range(last, segment.written):
            segment.map[last : segment.written] = whole[: cut - last].ljust(len(whole), b"\0")
            frames = read_frames(segment.map, segment.number, HEADER.size, SIZE, SIZE)
            if frames.payloads != records:  # a record that ends in zeros is whole without them
                assert frames.payloads == records[:-1]
                assert frames.offset == last
                assert remains(segment.map, last) <= torn_extent(segment.map, last)
        segment.close()


@settings(deadline=None)
@given(payloads, st.data())
def test_a_flipped_bit_hides_what_follows_and_invents_nothing(records: list[Payload], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        segment = filled(Path(folder), records)
        at = data.draw(st.integers(HEADER.size, segment.written - 1))
        segment.map[at] ^= 1 << data.draw(st.integers(0, 7))
        frames = read_frames(segment.map, segment.number, HEADER.size, SIZE, SIZE)
        intact = frames.payloads
        assert intact == records[: len(intact)]
        assert frames.offset <= at
        assert frames.bad or remains(segment.map, frames.offset) > 0
        segment.close()


def test_a_frame_is_as_long_as_is_said() -> None:
    assert FRAME.size == FRAME_BYTES


def test_a_seal_is_told_from_the_end(tmp_path: Path) -> None:
    segment = filled(tmp_path, [(b"a", 0)])
    assert not is_sealed(segment.map, segment.number, segment.written)
    segment.seal()
    assert is_sealed(segment.map, segment.number, segment.written)
    assert not read_frames(segment.map, segment.number, HEADER.size, SIZE, SIZE).bad
    segment.close()


def test_a_failed_creation_leaves_nothing_behind(tmp_path: Path) -> None:
    try:
        Segment.create(tmp_path, 1, 1 << 62)
    except OSError:
        assert list(tmp_path.iterdir()) == []
    else:
        raise AssertionError("no filesystem holds that")


@given(
    old=payloads,
    new=payloads,
    number=st.integers(2, 1 << 32),
    keep=st.booleans(),
)
def test_nothing_of_its_earlier_life_is_read_from_a_segment_that_is_used_again(
    old: list[Payload], new: list[Payload], number: int, keep: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first = filled(Path(folder), old)
        first.seal()
        before = bytes(first.map)
        second = first.again(number)
        if keep:  # as after a power cut: the emptying never reached the disk
            second.map[HEADER.size :] = before[HEADER.size :]
        else:
            assert not remains(second.map, HEADER.size)
        fill(second, new)
        assert read_frames(second.map, number, HEADER.size, SIZE, SIZE).payloads == new
        assert [path.name for path in Path(folder).iterdir()] == [f"{number:016d}.segment"]
        second.delete()
