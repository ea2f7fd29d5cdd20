"""Coded bodies, in any pieces, are read as the plain ones; bombs and corrupt ones are told and stay in the bound."""

import gzip
import json
import tracemalloc
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sidecar.metering import WATCH_BYTES
from tests.metering.replies import CODINGS, KINDS, at, head, run, split, tokens

CUTS = st.lists(st.integers(0, 2**20), max_size=12)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**50) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["n", "u", "m\\", "é"]), inner, max_size=3)
    ),
    max_leaves=8,
)
PATHS = st.lists(st.sampled_from(["n", "u", 0, -1, "é"]), max_size=3)


def body_of(kind: str, documents: list[object], *, ascii_only: bool) -> bytes:
    texts = [json.dumps(document, ensure_ascii=ascii_only) for document in documents]
    if kind == "json":
        return texts[0].encode() if texts else b""
    return "".join(f"data: {text}\n\n" if kind == "sse" else f"{text}\n" for text in texts).encode()


@given(
    st.sampled_from(sorted(KINDS)), st.lists(DOCUMENTS, max_size=5), PATHS, st.sampled_from(["last", "sum", "max"]),
    st.sampled_from(sorted(CODINGS)), CUTS, st.booleans(),
)  # fmt: skip
def test_any_split_and_coding_gives_the_same(
    kind: str, documents: list[object], path: list[str | int], take: str, coding: str, cuts: list[int], ascii_only: bool
) -> None:
    meters = tokens(at(*path, take=take))
    body = body_of(kind, documents, ascii_only=ascii_only)
    whole = run(meters, head(KINDS[kind]), [body])
    pieces = split(CODINGS[coding](body) if body else b"", cuts)
    assert run(meters, head(KINDS[kind], coding), pieces) == whole


@pytest.mark.parametrize("coding", ["gzip", "deflate", "Deflate", "br", "zstd"])
def test_a_body_larger_than_a_step_is_read_to_its_end(coding: str) -> None:
    body = json.dumps({"x": [str(n) for n in range(60_000)], "n": 8}).encode()
    assert 500_000 < len(body) < WATCH_BYTES
    assert run(tokens(at("n")), head("application/json", coding), [CODINGS[coding](body)]) == (8, [])
    stream = b"".join(b'data: {"n": %d}\n\n' % n for n in range(5_000))
    assert (
        run(tokens(at("n", take="sum")), head("text/event-stream", coding), [CODINGS[coding](stream)])[0] == 12_497_500
    )


@pytest.mark.parametrize("coding", ["gzip, br", "compress", "gzip, gzip", "aws-chunked", "*"])
def test_several_and_unknown_codings(coding: str) -> None:
    assert run(tokens(at("n"), default=1), head("application/json", coding), [b'{"n":1}']) == (None, ["encoding"])


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_corrupt_streams(coding: str, kind: str) -> None:
    body = body_of(kind, [{"n": 1, "pad": list(range(500))}], ascii_only=True)
    good = CODINGS[coding](body)
    for wrong in (b"no such coding", good[:20] + b"\xff\xff\xff\xff" + good[24:], good + b"garbage"):
        value, reasons = run(tokens(at("n")), head(KINDS[kind], coding), split(wrong, [5, 30]))
        assert reasons == ["encoding"]
        assert value in ({None, 1} if kind != "json" else {None})


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_a_coding_that_does_not_end(coding: str) -> None:
    good = CODINGS[coding](b'{"n":1}')
    assert run(tokens(at("n")), head("application/json", coding), [good[:-1]]) == (None, ["encoding"])


BOMBS = {
    "gzip": lambda: gzip.compress(bytes(64 << 20), 9),
    "deflate": lambda: zlib.compress(bytes(64 << 20), 9),
    "br": lambda: brotli.compress(bytes(64 << 20), quality=5),
    "zstd": lambda: zstandard.ZstdCompressor().compress(bytes(64 << 20)),
}


@pytest.mark.parametrize("coding", sorted(BOMBS))
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_bombs_stay_within_the_bound(coding: str, kind: str) -> None:
    bomb = BOMBS[coding]()
    meters, block = tokens(at("n")), head(KINDS[kind], coding)
    watch = meters.watch(200, block)
    assert watch is not None
    tracemalloc.start()
    try:
        for start in range(0, len(bomb), 16_384):
            watch.body(bomb[start : start + 16_384])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    watch.end(b"")
    assert meters.charge(200, 1, 0, 0, 0, watch)[0] == {}
    assert watch.anomalies == [("t", "too_large")]
    assert peak < 3 * WATCH_BYTES


def test_a_zstd_window_beyond_8_mib_is_refused() -> None:
    """RFC 9659: a frame may not ask a recipient for more."""
    parameters = zstandard.ZstdCompressionParameters(window_log=25)
    made = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = made.compress(b'{"n":1}') + made.flush()
    assert run(tokens(at("n")), head("application/json", "zstd"), [body]) == (None, ["encoding"])
