"""What stands in a journal's files."""

from sidecar.ledger import Journal
from sidecar.ledger.segment import HEADER, read_frames, records_in


def payloads_on_disk(journal: Journal) -> list[bytes]:
    """Of every frame, in order."""
    return [
        payload
        for segment in journal._segments
        for payload in read_frames(segment.map, segment.number, HEADER.size, segment.size, 1 << 30).payloads
    ]


def records_on_disk(journal: Journal) -> list[bytes]:
    """Every record, in order."""
    return [record for payload in payloads_on_disk(journal) for record in records_in(payload)]
