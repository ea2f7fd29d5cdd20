"""What the lane notes of a call: one tuple of what is there anyway. Nothing is formatted and nothing waits."""

from collections import deque
from typing import Final, NamedTuple

from sidecar.core.listening import AccessLogSettings
from sidecar.http1 import Field

# Noted and not yet written. A tuple holds at most the request's head, which the lane bounds: 1 KiB as a rule.
MAX_WAITING: Final = 16_384


class Note(NamedTuple):
    """One call. ``principal``: tenant, key id and plan, or empty; ``code``: of the problem document, or empty."""

    wall_us: int
    event_id: bytes
    ip: str
    version: bytes
    method: bytes
    host: bytes
    target: bytes
    status: int
    outcome: bytes
    code: str
    route: str
    principal: tuple[str, str, str]
    upstream: str
    bytes_in: int
    bytes_out: int
    total_us: int
    upstream_us: int
    first_byte_us: int
    fields: list[Field]


def unread(wall_us: int, event_id: bytes, ip: str, status: int, code: str) -> Note:
    """Of a request whose head could not be read."""
    nobody = ("", "", "")
    return Note(wall_us, event_id, ip, b"", b"", b"", b"", status, b"refused", code, "", nobody, "", 0, 0, 0, 0, 0, [])


class AccessLog:
    """The notes that wait, at most MAX_WAITING; more are dropped and counted in ``dropped``, and no call waits.

    ``wants`` tells whether a call is to be noted: one in ``one_in`` of those that went well, and all others.
    """

    __slots__ = ("_left", "dropped", "noted", "settings", "waiting")

    def __init__(self, settings: AccessLogSettings) -> None:
        self.settings = settings
        self.waiting: deque[Note] = deque()
        self.noted = 0
        self.dropped = 0
        self._left = 0

    def wants(self, status: int, outcome: bytes) -> bool:
        """Whether this call is to be noted."""
        if status >= 400 or outcome != b"ok":
            return True
        self._left -= 1
        if self._left > 0:
            return False
        self._left = self.settings.one_in
        return True

    def note(self, note: Note) -> None:
        """Keeps the note for the writer."""
        if len(self.waiting) >= MAX_WAITING:
            self.dropped += 1
        else:
            self.waiting.append(note)
            self.noted += 1
