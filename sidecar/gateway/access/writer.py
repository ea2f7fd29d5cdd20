"""Writes the notes from a thread: to a file that it can open anew, or to standard output."""

import logging
import os
import threading
from pathlib import Path

from sidecar.core.policy import ApiKeySettings
from sidecar.gateway.access.lines import Lines
from sidecar.gateway.access.log import AccessLog, Note

STDOUT = "-"
_EVERY_S = 0.2
_BATCH = 512  # lines in one write
_log = logging.getLogger("sidecar.access")


class AccessWriter:
    """``start`` opens the file (OSError) and writes from then on; ``close`` writes what is left.

    A line that cannot be written is dropped and counted: a log that fails stops no call. Several processes may write to
    one file, since every write is an append of whole lines.
    """

    def __init__(self, log: AccessLog, keys: ApiKeySettings) -> None:
        self._notes = log
        self._lines = Lines(keys.brand, keys.query)
        self._fd = -1
        self._failing = False
        self._reopen = threading.Event()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="sidecar-access", daemon=True)

    def start(self) -> None:
        """Opens the file and begins. OSError when it cannot be opened."""
        self._fd = self._open()
        self._thread.start()

    def reopen(self, keys: ApiKeySettings) -> None:
        """The file may have been moved away: opens it anew before the next write."""
        self._lines = Lines(keys.brand, keys.query)
        self._reopen.set()

    def close(self) -> None:
        """Writes what is left and ends."""
        if self._thread.is_alive():
            self._closing = True
            self._wake.set()
            self._thread.join()
        if self._fd > 2:
            os.close(self._fd)

    def _open(self) -> int:
        name = self._notes.settings.file
        if name == STDOUT:
            return 1
        return os.open(Path(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(_EVERY_S)
            self._round()
        self._round()

    def _round(self) -> None:
        if self._reopen.is_set():
            self._reopen.clear()
            self._renew()
        waiting = self._notes.waiting
        while waiting:
            batch = [self._line(waiting.popleft()) for _ in range(min(_BATCH, len(waiting)))]
            self._write(b"".join(batch), len(batch))

    def _line(self, note: Note) -> bytes:
        try:
            return self._lines.line(note)
        except Exception:  # a fault of ours in one line must not end all others
            self._notes.dropped += 1
            _log.exception("call %s is not in the access log", note.event_id.decode())
            return b""

    def _renew(self) -> None:
        try:
            fresh = self._open()
        except OSError as error:
            self._failed(error)
            return
        if self._fd > 2:
            os.close(self._fd)
        self._fd = fresh

    def _write(self, data: bytes, lines: int) -> None:
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self._notes.dropped += lines
            self._failed(error)
        else:
            self._failing = False

    def _failed(self, error: OSError) -> None:
        if not self._failing:
            _log.error("the access log cannot be written, its lines are dropped: %s", error.strerror)
        self._failing = True
