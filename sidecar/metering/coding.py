"""Content codings undone as the bytes pass: gzip, deflate, br and zstd (RFC 9110, 8.4.1; RFC 7932; RFC 8878).

Bounds: what comes out is handed on in pieces of at most 128 KiB, and in all it is at most 1 MiB plus 128 times what
went in: text rarely shrinks more than twentyfold, a bomb a thousandfold and more. The decoders themselves keep a
window, as the upstream chooses: 32 KiB (gzip, deflate), up to 16 MiB (br), up to 8 MiB (zstd: RFC 9659; frames that
want more are refused).
"""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

import brotli
import zstandard

STEP: Final = 64 * 1024  # brotli hands out up to half as much again
SLACK: Final = 1024 * 1024
RATIO: Final = 128
_ZSTD_WINDOW: Final = 8 * 1024 * 1024
_GZIP: Final = 31  # wbits: a gzip wrapper, a window of up to 32 KiB
_ZLIB: Final = 15
_RAW: Final = -15


class CodingError(Exception):
    """The body cannot be decoded further; the text is the anomaly's reason: ``encoding`` or ``too_large``."""


class Decoder(ABC):
    """Undoes one coding. ``feed`` hands what came out to ``take``; after a CodingError it must not be called again."""

    __slots__ = ("_given", "_left")

    def __init__(self) -> None:
        self._left = SLACK
        self._given = False

    def feed(self, piece: bytes, take: Callable[[bytes], None]) -> None:
        """Decodes ``piece``. What ``take`` raises passes through."""
        if not piece:
            return
        self._given = True
        self._left += RATIO * len(piece)
        try:
            self._decode(piece, take)
        except (zlib.error, brotli.error, zstandard.ZstdError):
            raise CodingError("encoding") from None

    def finish(self) -> None:
        """The body is whole. CodingError when the coding is not; an empty body is."""
        if self._given and not self._whole():
            raise CodingError("encoding")

    @abstractmethod
    def _decode(self, piece: bytes, take: Callable[[bytes], None]) -> None: ...

    @abstractmethod
    def _whole(self) -> bool: ...

    def _hand(self, data: bytes, take: Callable[[bytes], None]) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise CodingError("too_large")
        take(data)


class _Deflate(Decoder):
    """gzip, with several members too, and deflate, with and without the zlib wrapper that servers forget."""

    __slots__ = ("_gzip", "_inner")

    def __init__(self, *, gzip: bool) -> None:
        super().__init__()
        self._gzip = gzip
        self._inner: Any = None  # zlib does not name its type

    def _decode(self, piece: bytes, take: Callable[[bytes], None]) -> None:
        while piece:
            if self._inner is None or self._inner.eof:
                self._inner = zlib.decompressobj(self._bits(piece[0]))
            data = self._inner.decompress(piece, STEP)
            if data:
                self._hand(data, take)
            while not self._inner.eof and (self._inner.unconsumed_tail or len(data) == STEP):
                data = self._inner.decompress(self._inner.unconsumed_tail, STEP)
                if not data:
                    break
                self._hand(data, take)
            piece = self._inner.unused_data

    def _bits(self, first: int) -> int:
        if self._gzip:
            return _GZIP
        if self._inner is not None:
            raise CodingError("encoding")  # something behind the end
        # RFC 1950: method 8, a window of at most 32 KiB. Raw deflate would begin so only with padding that is not zero.
        return _ZLIB if first & 15 == 8 and first >> 4 <= 7 else _RAW

    def _whole(self) -> bool:
        return bool(self._inner.eof)


class _Brotli(Decoder):
    __slots__ = ("_inner",)

    def __init__(self) -> None:
        super().__init__()
        self._inner: Any = brotli.Decompressor()

    def _decode(self, piece: bytes, take: Callable[[bytes], None]) -> None:
        data = self._inner.process(piece, output_buffer_limit=STEP)
        while data or not self._inner.can_accept_more_data():
            if data:
                self._hand(data, take)
            data = self._inner.process(b"", output_buffer_limit=STEP)

    def _whole(self) -> bool:
        return bool(self._inner.is_finished())


class _Pieces:
    """What zstandard writes into. It holds ``take`` only during a call: no cycle is left for the garbage collector."""

    __slots__ = ("decoder", "take")

    def __init__(self) -> None:
        self.decoder: Decoder | None = None
        self.take: Callable[[bytes], None] | None = None

    def write(self, data: bytes) -> int:
        assert self.decoder is not None
        assert self.take is not None
        self.decoder._hand(data, self.take)
        return len(data)


class _Zstandard(Decoder):
    """Its library does not tell whether the last frame is whole; a text that was cut is no JSON either."""

    __slots__ = ("_inner", "_pieces")

    def __init__(self) -> None:
        super().__init__()
        self._pieces = _Pieces()
        made = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._inner: Any = made.stream_writer(self._pieces, write_size=STEP)  # type: ignore[arg-type] # only writes

    def _decode(self, piece: bytes, take: Callable[[bytes], None]) -> None:
        self._pieces.decoder, self._pieces.take = self, take
        try:
            self._inner.write(piece)
        finally:
            self._pieces.decoder = self._pieces.take = None

    def _whole(self) -> bool:
        return True


def decoder_for(content_encoding: str) -> Decoder | None:
    """What undoes the Content-Encoding, None when there is nothing to undo. CodingError for one that is unknown, and
    for several."""
    coding = content_encoding.strip().lower()
    if coding in ("", "identity"):
        return None
    if coding in ("gzip", "x-gzip"):
        return _Deflate(gzip=True)
    if coding == "deflate":
        return _Deflate(gzip=False)
    if coding == "br":
        return _Brotli()
    if coding == "zstd":
        return _Zstandard()
    raise CodingError("encoding")
