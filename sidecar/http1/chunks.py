"""A chunked body, read strictly (RFC 9112, 7.1): where it ends is exact, so nothing behind it is lost or taken for it.

Pure: bytes in, body out. Extensions are checked for their form and dropped (RFC 9112, 7.1.1).
"""

import re
from typing import Final

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
# Sixteen digits cannot be confused with fewer by a reader that overflows. Space is allowed around what extends a
# size, never behind a bare size.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED))
_TRAILER = re.compile(rb"(%b):[\t ]*([\t\x20-\x7e\x80-\xff]*)" % _TOKEN)
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_MOST_TRAILERS: Final = 64  # the others are dropped
# What framing each byte of a body may bring with it: chunks of one byte have five.
_SHARE: Final = 16
_IN_SIZE: Final = 0
_IN_DATA: Final = 1
_AFTER_DATA: Final = 2
_IN_TRAILERS: Final = 3
_OVER: Final = 4


class BadChunks(ValueError):
    """The framing is broken; whatever follows it cannot be trusted. ``large``: it is more than the bound."""

    def __init__(self, detail: str, *, large: bool = False) -> None:
        self.large = large
        super().__init__(detail)


class ChunkReader:
    """Reads one body, however its bytes are split.

    ``bound``: bytes of sizes, extensions and trailers beyond 16 for each byte of the body; more is refused, because
    they cost and are not counted as the body. Held: at most ``bound`` bytes of a line and of ``trailers``.
    """

    __slots__ = ("_bound", "_excess", "_left", "_line", "_state", "body", "done", "trailers")

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._excess = 0
        self._left = 0
        self._line = bytearray()
        self._state = _IN_SIZE
        self.body: list[bytes] = []
        self.trailers: list[tuple[bytes, bytes]] = []
        self.done = False

    def feed(self, data: bytes, at: int) -> int:
        """Reads on from ``at``; returns how far the message went. ``body`` holds what came of it; BadChunks."""
        self.body = []
        end = len(data)
        while at < end and not self.done:
            if self._state == _IN_DATA:
                step = min(self._left, end - at)
                self.body.append(data[at : at + step])
                at += step
                self._left -= step
                self._excess = max(0, self._excess - _SHARE * step)
                if not self._left:
                    self._state = _AFTER_DATA
            else:
                at = self._framing(data, at)
        return at

    def _framing(self, data: bytes, at: int) -> int:
        found = data.find(b"\n", at)
        end = len(data) if found < 0 else found + 1
        self._excess += end - at
        if self._excess > self._bound:
            raise BadChunks("the body has too much besides its bytes: extensions or trailers", large=True)
        if self._state == _AFTER_DATA and len(self._line) + end - at > 2:
            raise BadChunks("a chunk is not followed by CRLF")
        if found < 0:
            self._line += data[at:end]
            return end
        line = data[at:end]
        if self._line:
            line = bytes(self._line) + line
            self._line = bytearray()
        if line[-2:] != b"\r\n":
            raise BadChunks("a line of the body's framing ends without CRLF")
        self._take(line[:-2])
        return end

    def _take(self, line: bytes) -> None:
        if self._state == _AFTER_DATA:
            if line:
                raise BadChunks("a chunk is not followed by CRLF")
            self._state = _IN_SIZE
        elif self._state == _IN_SIZE:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise BadChunks("a chunk's size is not a hexadecimal number")
            self._left = int(match[1], 16)
            self._state = _IN_DATA if self._left else _IN_TRAILERS
        elif not line:
            self._state = _OVER
            self.done = True
        else:
            self._take_trailer(line)

    def _take_trailer(self, line: bytes) -> None:
        match = _TRAILER.fullmatch(line)
        if match is None:
            raise BadChunks("a trailer is not a field line")
        name, value = match.groups()
        if name.lower() in _FRAMING:
            raise BadChunks("a trailer says how the body is framed (RFC 9110, 6.5.1)")
        if len(self.trailers) < _MOST_TRAILERS:
            self.trailers.append((name, value.rstrip(b" \t")))
