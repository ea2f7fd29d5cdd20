"""A segment: one preallocated, memory-mapped file of the journal, and how its frames are read back.

::

    file     "sidecar7" | u64 number | frame | frame | ... | seal | zeros
    frame    sum     | u32 size + 2^17 * done | u32 number | payload    sum = XXH3-64(payload, seed done), 8 bytes
    seal     sum     | u32 0xFFFFFFFF         | u32 number    written when the journal goes on in the next segment
    payload  a record, or several that were written at once, the done ones last, joined by a comma and a line feed
    size     of the payload, at least 1; done: how many done records it has, so that nobody needs to count them
    end      16 zero bytes, or fewer than 16 bytes left

Numbers are little-endian, sums in their canonical, big-endian form. A file that is wholly in the ledger may be used
again under a new number, since its pages are there already (a fresh one costs 3.5 us per 4 KiB to fault in); it is
emptied first, and as the number (its low 32 bits) stands in every frame, one of its earlier life that came back after a
power cut is none.
``posix_fallocate`` reserves the blocks, so that a full disk shows as an error here and not as SIGBUS in the middle of a
store; filesystems that copy on write may still not keep that promise.
A page of a shared mapping belongs to the kernel as soon as it is stored to: it survives kill -9 of the process.
"""

import ctypes
import logging
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from librt.strings import read_i64_le
from mypy_extensions import i64
from xxhash import xxh3_64_digest

_log = logging.getLogger("sidecar.ledger")
MAGIC = b"sidecar7"
# 6 has intents with their time, 5 whole ones, what 4 and 3 left says that no record is done; each is else the same as
# the one after it.
READABLE = (MAGIC, b"sidecar6", b"sidecar5", b"sidecar4", b"sidecar3")
HEADER = struct.Struct("<8sQ")
FRAME = struct.Struct("<8sII")
FRAME_BYTES: Final = 16  # as a number, which compiled code has in place
_SIZE_BITS: Final = 17  # and 15 for the number of records, of which none is shorter than five bytes
_SIZE_MASK: Final = (1 << _SIZE_BITS) - 1
MAX_PAYLOAD = 64 * 1024  # bytes; a request line is at most 16 KiB, and the method is the only text a client chooses
SUFFIX = ".segment"
CORRUPT = ".corrupt"
EMPTYING = ".emptying"  # a segment between two lives: in the ledger, so never read
_SEAL_SIZE: Final = 0xFFFF_FFFF
_END = bytes(FRAME_BYTES)
_MARK: Final = 0xFFFF_FFFF


def frame_head(payload: bytes, done: int, mark: object) -> bytes:
    """What stands before a payload that has so many ``done`` records, in a frame of a segment with this ``mark``."""
    return FRAME.pack(xxh3_64_digest(payload, done), len(payload) + (done << _SIZE_BITS), mark)


def seal_of(number: int) -> bytes:
    """The seal of segment ``number``."""
    return FRAME.pack(xxh3_64_digest(b"seal"), _SEAL_SIZE, number & _MARK)


class Segment:
    """One mapped file. ``written`` and ``durable`` are offsets: the end of the last frame, and of the last fsync."""

    __slots__ = ("durable", "fd", "map", "mark", "number", "path", "size", "written")

    def __init__(self, path: Path, number: int, fd: int, size: int, mapped: mmap.mmap | None = None) -> None:
        self.path = path
        self.number = number
        self.mark: object = number & _MARK  # an object, so that compiled code does not make one for each frame
        self.fd = fd
        self.size = size
        self.map = mapped or mmap.mmap(fd, size)
        self.written = self.durable = HEADER.size

    @classmethod
    def create(cls, folder: Path, number: int, size: int, *, named: bool = False) -> "Segment":
        """Makes the file with all its blocks; OSError (ENOSPC, EDQUOT, EACCES...) leaves nothing behind.

        ``named`` also fsyncs the folder, so that the name survives a power cut.
        """
        path = folder / f"{number:016d}{SUFFIX}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
            if named:
                _fsync_folder(folder)
            segment = cls(path, number, fd, size)
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        segment.map[: HEADER.size] = HEADER.pack(MAGIC, number)
        return segment

    def again(self, number: int) -> "Segment":
        """The same file and mapping as segment ``number``, empty; this one is not to be used any more. OSError: neither
        is. All of it must be in the ledger. Killed in between, it is found as ``*.emptying`` and has nothing to say."""
        end = min(self.written + FRAME_BYTES, self.size)
        self.path = self.path.replace(self.path.with_suffix(EMPTYING))
        blank(self.map, HEADER.size, end)
        self.map[: HEADER.size] = HEADER.pack(MAGIC, number)
        path = self.path.replace(self.path.with_name(f"{number:016d}{SUFFIX}"))
        return Segment(path, number, self.fd, self.size, self.map)

    def take_over(self, failed: "Segment") -> int:
        """The frames of ``failed`` that are not known to be durable, once more here, where there is room for them; how
        many done records that are."""
        start, end = failed.durable, failed.written
        frames = read_frames(failed.map, failed.number, start, end, end - start)
        self.map[self.written : self.written + end - start] = b"".join(
            frame_head(payload, done, self.mark) + payload for payload, done in frames.payloads
        )
        self.written += end - start
        failed.durable = end
        return sum(done for _, done in frames.payloads)

    def seal(self) -> None:
        """Marks that the journal goes on elsewhere, so that a lost page cannot pass for the end."""
        if self.size - self.written >= FRAME_BYTES:
            self.map[self.written : self.written + FRAME_BYTES] = seal_of(self.number)

    def close(self) -> None:
        """Unmaps and closes; the file stays."""
        self.map.close()
        os.close(self.fd)

    def keep_aside(self) -> None:
        """Gives the file a second name, ``*.corrupt``, which outlives its deletion, and says so, or why not."""
        aside = self.path.with_suffix(CORRUPT)
        try:
            if not aside.exists():
                aside.hardlink_to(self.path)
            _log.error("%s is kept aside as %s", self.path, aside.name)
        except OSError as error:  # what is intact is shipped all the same
            _log.error("%s cannot be kept aside: %s", self.path, error.strerror)

    def delete(self) -> None:
        """Closes and removes the file."""
        self.close()
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:  # the next start finds it, and the ledger knows what is in it
            _log.error("%s cannot be removed: %s", self.path, error.strerror)


@dataclass(frozen=True, slots=True)
class Frames:
    """The payloads of some frames in order, with their numbers of done records: where reading stopped, and whether that
    was because the next one is not intact."""

    payloads: list[tuple[bytes, int]]
    offset: int
    bad: bool = False


def frame_at(data: mmap.mmap, number: int, offset: i64, end: i64) -> tuple[bytes, i64]:
    """Payload of the frame of segment ``number`` at ``offset`` and its number of done records; an empty payload where
    no intact frame stands before ``end``."""
    head: bytes = data[offset : offset + FRAME_BYTES]
    if len(head) < FRAME_BYTES:
        return b"", 0
    rest = read_i64_le(head, 8)  # the word and above it the number
    word = rest & _MARK
    size, done = word & _SIZE_MASK, word >> _SIZE_BITS
    stop = offset + FRAME_BYTES + size
    if size == 0 or word == _SEAL_SIZE or stop > end or (rest >> 32) & _MARK != number & _MARK:
        return b"", 0
    payload: bytes = data[offset + FRAME_BYTES : stop]
    if read_i64_le(xxh3_64_digest(payload, done), 0) != read_i64_le(head, 0):
        return b"", 0
    return payload, done


def read_frames(data: mmap.mmap, number: int, offset: int, end: int, enough: int) -> Frames:
    """The frames of segment ``number`` from ``offset`` on, until they have ``enough`` bytes; fewer when the data ends,
    is sealed, or the next frame is bad."""
    payloads: list[tuple[bytes, int]] = []
    until = min(end - FRAME_BYTES, offset + enough - 1)
    while offset <= until:
        payload, done = frame_at(data, number, offset, end)
        if not payload:
            return Frames(payloads, offset, bad=data[offset : offset + FRAME_BYTES] not in (_END, seal_of(number)))
        payloads.append((payload, done))
        offset += FRAME_BYTES + len(payload)
    return Frames(payloads, offset)


def is_sealed(data: mmap.mmap, number: int, offset: int) -> bool:
    """Whether the journal went on in another segment after the frame of segment ``number`` that ends at ``offset``."""
    return len(data) - offset < FRAME_BYTES or data[offset : offset + FRAME_BYTES] == seal_of(number)


def remains(data: mmap.mmap, offset: int) -> int:
    """Bytes from ``offset`` to the last one that is not zero: what a torn append or damage left behind."""
    return len(data[offset:].rstrip(b"\0"))


def torn_extent(data: mmap.mmap, offset: int) -> int:
    """How many bytes a single interrupted append at ``offset`` can have touched, by its header if that is sane."""
    if len(data) - offset < FRAME_BYTES:
        return len(data) - offset
    size = FRAME.unpack_from(data, offset)[1] & _SIZE_MASK
    return FRAME_BYTES + (size if 0 < size <= MAX_PAYLOAD else MAX_PAYLOAD)


def number_of(path: Path) -> int:
    """The number in a segment's file name; ValueError when it has none."""
    return int(path.name.removesuffix(SUFFIX))


def blank(data: mmap.mmap, start: int, end: int) -> None:
    """Zeros in [start, end), stored without holding back the interpreter; a write to the file would take the kernel's
    care for each of its pages."""
    ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(data)) + start, 0, end - start)


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
