"""What a call is to its journal."""

from abc import ABC, abstractmethod

from librt.strings import BytesWriter
from mypy_extensions import i64, mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Entry(ABC):
    """A call that writes its own records, when the journal asks it to: not as it comes by, but together with those that
    share its turn of the event loop. The attributes are the journal's; compiled code keeps numbers as machine words.

    ``segment``: of the open call, in which its newest record stands or behind it, and above all others until its intent
    is written; negative from ``Journal.end`` until its done record is written; else 0.
    ``older``, ``newer``, ``behind``: its neighbours among the open calls, and the next of those that ended.
    ``newest``: its progress, where there is any: what it counts as, should its end never be written.
    """

    segment: i64 = 0
    older: "Entry | None" = None
    newer: "Entry | None" = None
    behind: "Entry | None" = None
    newest: bytes = b""
    reserved: i64 = 0  # bytes of its intent, at most; or of its progress

    @abstractmethod
    def put_intent(self, writer: BytesWriter, said: bytes) -> bytes:
        """Writes the intent, or nothing and raises: the same whenever it is asked for, but for what the one right
        before it in the same frame says for both. That is what it returned, to be ``said`` to the next; else empty."""

    @abstractmethod
    def put_done(self, writer: BytesWriter) -> None:
        """Writes the done record, or part of it and raises."""

    @abstractmethod
    def unwritten(self) -> None:
        """The done record cannot be written, and the call stays open: its client must not get the reply's end. This is
        in the middle of a flush: no call may begin before it returns."""


def newest(call: Entry) -> bytes:
    """The newest record of an open call, its intent or its progress."""
    if call.newest:
        return call.newest
    writer = BytesWriter()
    call.put_intent(writer, b"")
    return writer.getvalue()
