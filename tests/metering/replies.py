"""Replies of the kinds that meters read, and a run of one through a watch."""

import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Sequence

import brotli
import zstandard

from sidecar.core.policy import Extract, Meter, Multiply, Route
from sidecar.metering import RouteMeters

ROUTE = Route("chat", "/v1/chat", "api")
KINDS = {"json": "application/json", "sse": "text/event-stream; charset=utf-8", "ndjson": "application/x-ndjson"}


def _raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return made.compress(data) + made.flush()


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "x-gzip": lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:]),  # two members
    "deflate": zlib.compress,
    "Deflate": _raw_deflate,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def head(content_type: str, coding: str = "", *more: str) -> bytes:
    """A reply's field lines."""
    lines = [
        "Server: test",
        f"Content-Type: {content_type}",
        *([f"Content-Encoding: {coding}"] if coding else []),
        *more,
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def at(*path: str | int, places: tuple[str, ...] = ("json", "sse", "ndjson"), take: str = "last") -> Extract:
    return Extract(places, path=path, take=take)


def tokens(extract: Extract, multiply: Multiply | None = None, default: int | None = None) -> RouteMeters:
    """One meter, ``t``."""
    return RouteMeters(ROUTE, [Meter("t", "reply", extract, multiply, default)])


def run(
    meters: RouteMeters, block: bytes, pieces: Iterable[bytes], *, ended: bool = True, trailers: bytes = b""
) -> tuple[int | None, list[str]]:
    """The value of ``t`` and the reasons of its anomalies."""
    watch = meters.watch(200, block)
    assert watch is not None
    for piece in pieces:
        watch.body(piece)
    if ended:
        watch.end(trailers)
    values, fragment = meters.charge(200, 1, 0, 0, 0, watch)
    reasons = [reason for _, reason in watch.anomalies]
    told = {f"{name}?": 1 for name, _ in watch.anomalies}
    assert json.loads(fragment) == values | told
    assert meters.charge(200, 1, 0, 0, 0, watch) == (values, fragment)
    assert [reason for _, reason in watch.anomalies] == reasons
    return values.get("t"), reasons


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """``data`` cut at the given places, which may be anywhere and in any order."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in itertools.pairwise(places)]
