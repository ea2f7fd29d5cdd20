"""Calls whose records are given as text, and what stands in a journal's files."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from librt.strings import BytesWriter

from sidecar.core.ports import Position
from sidecar.core.records import encode_intent, records_of
from sidecar.ledger import Entry, Journal
from sidecar.ledger.segment import HEADER, read_frames


class Text(Entry):
    """A call with these records. ``lost``: its done record could not be written."""

    def __init__(self, intent: bytes, done: bytes = b"") -> None:
        self.intent = intent
        self.done = done
        self.lost = False

    def put_intent(self, writer: BytesWriter, said: bytes) -> bytes:
        writer.write(self.intent)
        return b""

    def put_done(self, writer: BytesWriter) -> None:
        writer.write(self.done)

    def unwritten(self) -> None:
        self.lost = True


def intent_of(head: tuple[bytes, int, bytes, bytes, bytes]) -> bytes:
    """The intent of the call whose done record begins with ``head``: event id, start, principal, route, method."""
    return encode_intent(head[0], *head[2:])


def begin(journal: Journal, intent: bytes) -> Text:
    """A call begins, and its intent is written."""
    call = Text(intent)
    journal.begin(call, len(intent))
    journal.flush()
    return call


def end(journal: Journal, call: Text, done: bytes) -> None:
    """It ends, and its done record is written."""
    call.done = done
    journal.end(call)
    journal.flush()


def serve(journal: Journal, make_call: Callable[[], tuple[bytes, bytes]], count: int) -> list[bytes]:
    """Calls one after the other; their done records."""
    done_records = []
    for _ in range(count):
        intent, done = make_call()
        end(journal, begin(journal, intent), done)
        done_records.append(done)
    return done_records


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The disk takes no file of more than ``size`` bytes: EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def payloads_on_disk(journal: Journal) -> list[bytes]:
    """Of every frame, in order."""
    return [
        payload
        for segment in journal._segments
        for payload, _ in read_frames(segment.map, segment.number, HEADER.size, segment.size, 1 << 30).payloads
    ]


def records_on_disk(journal: Journal) -> list[bytes]:
    """Every record, in order."""
    return [record for payload in payloads_on_disk(journal) for record in records_of(payload)]


def taken(journal: Journal) -> tuple[list[bytes], Position]:
    """The done records that a shipper would get now, and the position after them."""
    records, position = journal.tail.take()
    return list(records), position
