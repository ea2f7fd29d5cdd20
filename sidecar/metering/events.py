"""Streams of events cut into single ones as the bytes pass: server-sent events (WHATWG HTML, 9.2.6) and lines of JSON.

Bound: one event (for SSE: one line and the data before it) of at most ``MAX_EVENT`` bytes is held. A longer one is
dropped to its end and stands as None in what ``feed`` gives.
"""

from abc import ABC, abstractmethod
from typing import Final

MAX_EVENT: Final = 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class Events(ABC):
    """Whole events out of pieces of a stream."""

    __slots__ = ("_dropping", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()  # of the line that has not ended
        self._dropping = False  # that line was too long; what is left of it is nothing

    @abstractmethod
    def feed(self, data: bytes) -> list[bytes | None]:
        """The payloads of the events that end in ``data``."""

    @abstractmethod
    def finish(self) -> list[bytes | None]:
        """What the end of the stream ends."""

    def _first(self, line: bytes) -> bytes:
        """The line that had begun before, whole; nothing when it was too long."""
        if self._dropping:
            self._dropping = False
            return b""
        if self._rest:
            line = bytes(self._rest) + line
            self._rest.clear()
        return line


class LinesOfJson(Events):
    """One JSON text a line: NDJSON, JSON Lines, and JSON text sequences (RFC 7464) whose texts are one line each."""

    __slots__ = ()

    def feed(self, data: bytes) -> list[bytes | None]:
        lines: list[bytes] = data.split(b"\n")
        last = lines.pop()
        found: list[bytes | None] = []
        if lines:
            lines[0] = self._first(lines[0])
            for line in lines:
                if line:
                    found.append(line.removeprefix(b"\x1e") if len(line) <= MAX_EVENT else None)
        if last and not self._dropping:
            self._rest += last
            if len(self._rest) > MAX_EVENT:
                self._rest.clear()
                self._dropping = True
                found.append(None)
        return found

    def finish(self) -> list[bytes | None]:
        line = self._first(b"")
        return [line.removeprefix(b"\x1e")] if line else []


class ServerSentEvents(Events):
    """The data of each event. Its type, its id, comments and what is not followed by an empty line are nothing here."""

    __slots__ = ("_begun", "_data", "_lost", "_more", "_skip_lf")

    def __init__(self) -> None:
        super().__init__()
        self._begun = False  # the first line may begin with a byte order mark
        self._skip_lf = False  # a piece ended with CR: an LF at the next one's beginning belongs to it
        self._data: bytes | None = None
        self._more = bytearray()  # of an event with several lines of data: all of them but the first
        self._lost = False

    def feed(self, data: bytes) -> list[bytes | None]:
        if self._skip_lf and data:
            self._skip_lf = False
            if data[0] == 10:
                data = data[1:]
        found: list[bytes | None] = []
        if not data:
            return found
        lines: list[bytes] = data.splitlines()
        self._skip_lf = data[-1] == 13
        last = lines.pop() if data[-1] not in (10, 13) else b""
        if lines:
            # The tail of a line that was dropped must not end the event, as an empty line would.
            begin = 1 if self._dropping else 0
            lines[0] = self._first(lines[0])
            for line in lines[begin:]:
                if line:
                    self._line(line)
                else:
                    self._dispatch(found)
        if last and not self._dropping:
            self._rest += last
            if len(self._rest) + self._held() > MAX_EVENT:
                self._line(bytes(self._rest))
                self._rest.clear()
                self._dropping = True
        return found

    def finish(self) -> list[bytes | None]:
        return []

    def _held(self) -> int:
        return (len(self._data) if self._data is not None else 0) + len(self._more)

    def _line(self, line: bytes) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        if not line.startswith(b"data"):
            return
        if len(line) == 4:
            value = b""
        elif line[4] == 58:
            value = line[6:] if line[5:6] == b" " else line[5:]
        else:
            return
        if len(line) + self._held() > MAX_EVENT:
            self._lost = True
            self._data = None
            self._more.clear()
        elif self._lost:
            pass
        elif self._data is None:
            self._data = value
        else:
            self._more += b"\n"
            self._more += value

    def _dispatch(self, found: list[bytes | None]) -> None:
        self._begun = True
        if self._lost:
            found.append(None)
        elif self._data is not None:
            found.append(self._data + self._more if self._more else self._data)
        self._lost = False
        self._data = None
        if self._more:
            self._more.clear()
