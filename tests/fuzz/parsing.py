"""The two readers alone, without a lane: however the bytes are cut, the same is read; and h11 reads it alike."""

from collections.abc import Sequence
from random import Random
from typing import Any

import httptools

from sidecar.core.policy import ClientBounds
from sidecar.gateway.intake import Intake
from sidecar.http1 import Malformed, RequestHead, RequestReader
from sidecar.upstream.replies import ReplyReader
from tests.fuzz import reading
from tests.fuzz.checking import Wrong
from tests.fuzz.generating import cut

_BOUNDS = ClientBounds()


class _Heard:
    """Who gets what an intake read; ``asked`` are the whole requests."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes, bytes, bytes]] = []
        self._head: RequestHead | None = None
        self._body = b""

    def head_read(self, head: RequestHead) -> None:
        self._head = head
        self._body = b""

    def body_read(self, data: bytes) -> None:
        self._body += data

    def request_read(self) -> None:
        head = self._head
        assert head is not None
        self.asked.append((head.method, head.target, head.forward, self._body))


def _requests(reader: RequestReader, pieces: Sequence[bytes]) -> tuple[list[Any], bool]:
    heard = _Heard()
    intake = Intake(heard, reader, _BOUNDS)
    for piece in pieces:
        at = 0
        while at < len(piece):
            try:
                at = intake.take(piece, at)
            except Malformed:
                return heard.asked, True
    return heard.asked, False


def parse_requests(rng: Random, data: bytes) -> None:
    """Whole, in pieces, and over what is remembered of the first time."""
    reader = RequestReader("X-API-Key")
    whole = _requests(reader, [data])
    pieces = cut(rng, data)
    for other in (_requests(reader, pieces), _requests(RequestReader("X-API-Key"), pieces)):
        if other != whole:
            raise Wrong(f"in one piece {whole}, in {[len(p) for p in pieces]}: {other}")
    if not whole[0]:
        return
    found, _, _ = reading.requests(data)
    theirs = [(one.method, one.body) for one in found][: len(whole[0])]
    if theirs != [(method, body) for method, _, _, body in whole[0]][: len(theirs)]:
        raise Wrong(f"read {whole[0]}, h11 {found}")
    if len(theirs) < len(whole[0]) and not _closes(data):
        raise Wrong(f"read {len(whole[0])} requests, h11 {len(theirs)}: {whole[0]}")


def _closes(data: bytes) -> bool:
    """Whether h11 may have stopped because of a Connection: close, behind which the lane answers nothing either."""
    return b"close" in data.lower() or b"HTTP/1.0" in data


def parse_replies(rng: Random, data: bytes) -> None:
    head_request, upgrading = rng.random() < 0.2, rng.random() < 0.1
    whole = _reply([data], head_request=head_request, upgrading=upgrading)
    pieces = cut(rng, data)
    apart = _reply(pieces, head_request=head_request, upgrading=upgrading)
    if whole != apart:
        raise Wrong(f"in one piece {whole}, in {[len(p) for p in pieces]}: {apart}")


def _reply(pieces: Sequence[bytes], *, head_request: bool, upgrading: bool) -> tuple[Any, ...]:
    early: list[tuple[int, bytes]] = []
    reader = ReplyReader(
        lambda status, lines: early.append((status, lines)), max_head_bytes=65_536, max_headers=100, private=frozenset()
    )
    reader.begin(head_request=head_request, upgrading=upgrading)
    rest = b""
    for piece in pieces:
        if reader.complete or (reader.head is not None and reader.head.status == 101):
            rest += piece
            continue
        try:
            reader.feed(piece)
        except (ValueError, httptools.HttpParserError):
            return (early, "refused")
        rest += reader.rest
        reader.rest = b""
    head = reader.head
    if head is None:
        return (early, "no head")
    extra = reader.extra or (bool(rest) and head.status != 101)
    tunnel = rest if head.status == 101 else b""
    return early, head.status, head.block, b"".join(reader.body), reader.complete, extra, tunnel, reader.trailers
