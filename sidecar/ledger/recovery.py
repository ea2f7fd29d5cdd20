"""What an earlier process left in the journal: shipped to the ledger, and calls without an end told apart.

Every segment below the last one that holds data must end with its seal; the last one may end in a torn append, which is
cut. Anything else is damage: what stands before it is shipped, the file is kept as ``*.corrupt``, and reading goes on
with the next segment. Reading nothing but intact frames, it never guesses.
"""

import logging
import mmap
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.core.ports import JournalSink, Position
from sidecar.core.records import encode_record, event_id_of, indeterminate, is_done, records_of
from sidecar.ledger.segment import (
    CORRUPT,
    FRAME_BYTES,
    HEADER,
    MAGIC,
    READABLE,
    is_sealed,
    number_of,
    read_frames,
    remains,
    torn_extent,
)

_log = logging.getLogger("sidecar.ledger")
_ENOUGH = 4 * 1024**2  # bytes of frames read at a time; their records, some 10,000, are one transaction


@dataclass(slots=True)
class Recovered:
    """What was found; see ``ShipperReadings``. ``open_calls``: intents without a done record, by event id."""

    records: int = 0
    torn_bytes: int = 0
    corrupt: list[Path] = field(default_factory=list)
    open_calls: dict[bytes, bytes] = field(default_factory=dict)

    def unfinished(self) -> list[bytes]:
        """A done record with outcome ``indeterminate`` for every call that is still open. An intent that cannot be read
        is passed on as it is, so that the ledger sets it aside where people can see it."""
        return [_unfinished(intent) for intent in self.open_calls.values()]


async def ship_leftovers(paths: tuple[Path, ...], ledger: JournalSink) -> Recovered:
    """Ships every done record after the ledger's position, oldest first. StoreError when a file or the ledger fails."""
    found = Recovered()
    position = await ledger.position()
    written = [path for path in paths if _has_frames(path)]
    for path in written:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            await _ship_segment(path, data, position, ledger, found, last=path == written[-1])
    return found


async def _ship_segment(
    path: Path, data: mmap.mmap, position: Position, ledger: JournalSink, found: Recovered, *, last: bool
) -> None:
    number = number_of(path)
    offset = HEADER.size
    if data[: HEADER.size] not in [HEADER.pack(magic, number) for magic in READABLE]:
        _keep(path, "it does not start as a segment does", found)
        return
    while True:
        start = offset
        frames = read_frames(data, number, start, len(data), _ENOUGH)
        records = _pair(frames.payloads, number, start, position, found)
        offset = frames.offset
        if records:
            found.records += len(records)
            await ledger.append(records, Position(number, offset))
        if offset - start < _ENOUGH:
            break
    _judge_end(path, data, offset, found, last=last, bad=frames.bad)


def _pair(
    payloads: list[tuple[bytes, int]], number: int, offset: int, position: Position, found: Recovered
) -> list[bytes]:
    """Matches intents with done records; returns the done records that stand after ``position``."""
    open_calls = found.open_calls
    records = []
    partly = number == position.segment
    for payload, _ in payloads:
        for record in records_of(payload):
            if is_done(record):
                open_calls.pop(event_id_of(record), None)
                if not partly or offset >= position.offset:
                    records.append(record)
            else:
                open_calls[event_id_of(record)] = record
        offset += FRAME_BYTES + len(payload)
    return records if number >= position.segment else []


def _judge_end(path: Path, data: mmap.mmap, offset: int, found: Recovered, *, last: bool, bad: bool) -> None:
    if not bad and is_sealed(data, number_of(path), offset):
        return
    left = remains(data, offset)
    if not last:
        _keep(path, f"it is damaged at byte {offset}", found)
    elif left > torn_extent(data, offset):
        _keep(path, f"it is damaged at byte {offset}, and {left} bytes follow", found)
    elif left:
        found.torn_bytes += left
        _log.warning("%s ended in a torn record: %d bytes from byte %d on were cut", path, left, offset)


def _keep(path: Path, why: str, found: Recovered) -> None:
    found.corrupt.append(path)
    _log.error("%s: %s; what stands before that is shipped, the file is kept as *%s", path, why, CORRUPT)


def _has_frames(path: Path) -> bool:
    """Whether anything was ever written behind the header; a segment can be prepared and never used, or half made."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)).strip(b"\0") not in (b"", *READABLE):
            return True
        file.seek(HEADER.size)
        return any(chunk.strip(b"\0") for chunk in iter(lambda: file.read(1 << 20), b""))


def _unfinished(intent: bytes) -> bytes:
    try:
        return encode_record(indeterminate(intent))
    except (ValueError, TypeError, AttributeError, OverflowError):
        return intent
