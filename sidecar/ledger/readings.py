"""What the journal and the shipper say about themselves: immutable, taken in constant time, off the hot path."""

from collections.abc import Iterable
from dataclasses import dataclass

from sidecar.core.ports import Position
from sidecar.ledger.segment import HEADER, Segment


@dataclass(frozen=True, slots=True)
class JournalReadings:
    """``bytes_used`` counts whole segment files and never passes ``max_bytes`` but for what open calls are owed.

    ``unshipped_bytes`` counts frames of both kinds, ``unshipped_records`` calls that ended. ``oldest_unshipped_ns`` is
    an upper bound of the age of the oldest of them, 0 when there is none. The counts since start: ``fsync_failures``,
    ``refused`` (calls that found the journal full), ``carried`` (intents of long calls copied forward).
    """

    bytes_used: int
    max_bytes: int
    segments: int
    open_calls: int
    unshipped_bytes: int
    unshipped_records: int
    oldest_unshipped_ns: int
    fsync_failures: int
    refused: int
    carried: int


@dataclass(frozen=True, slots=True)
class ShipperReadings:
    """``shipped``: done records given to the ledger since start; ``new``: those it did not know; ``rejected``: those
    it set aside as malformed, ever. Of the recovery: ``recovered`` done records, ``indeterminate`` calls,
    ``torn_bytes`` cut off the journal's end, ``corrupt_segments`` kept aside as ``*.corrupt``.
    ``failing_since_ns``: monotonic time of the first of the present row of store failures, None when the store works.
    """

    position: Position
    shipped: int
    new: int
    rejected: int
    failures: int
    failing_since_ns: int | None
    recovered: int
    indeterminate: int
    torn_bytes: int
    corrupt_segments: int
    forgotten: int


def unshipped_bytes(segments: Iterable[Segment], shipped: Position) -> int:
    """Bytes of frames behind ``shipped``; ``segments`` in order."""
    ends = ((HEADER.size if s.number > shipped.segment else shipped.offset, s) for s in segments)
    return sum(max(0, s.written - start) for start, s in ends if s.number >= shipped.segment)
