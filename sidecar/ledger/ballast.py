"""Disk space kept for the day the disk is full.

A full disk would otherwise stop the ledger too, and what is journalled could not be shipped to make room. So a file of
reserved blocks lies beside the segments. It is let go when the ledger, or a start after a crash, needs the room, and
comes back when shipping has made some. Traffic never takes it: while it is gone the journal does not grow for new
calls, so that the room which shipping makes becomes ballast first.
"""

import logging
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

_log = logging.getLogger("sidecar.ledger")


class Ballast:
    """The file ``ballast`` of ``size`` bytes in ``folder``; 0 is none, and then it always counts as there."""

    __slots__ = ("_lent", "_making", "_path", "_size", "_thread", "there")

    def __init__(self, folder: Path, size: int, thread: ThreadPoolExecutor) -> None:
        self._path = folder / "ballast"
        self._size = size
        self._thread = thread
        self._making: Future[bool] | None = None
        self._lent = False  # to the ledger, which has not taken anything since
        self.there = size == 0 or self._kept()
        if size == 0:
            self._remove()

    def restore(self, *, shipped: bool = False) -> None:
        """Makes it when it is missing and the disk has room, in the thread; call again to learn whether it is there.

        ``shipped``: the ledger took records. What was lent to it stays free until then: it tries again seconds later.
        """
        if shipped:
            self._lent = False
        elif self._lent:
            return
        if self._making is not None and self._making.done():
            made, self._making = self._making.result(), None
            self.there = made
            if made:
                _log.info("the ballast of %d bytes is back", self._size)
        elif not self.there and self._making is None:
            self._making = self._thread.submit(self._make)

    def make(self) -> None:
        """As ``restore``, at once; for the start."""
        self.there = self.there or self._make()

    def lend(self) -> bool:
        """As ``drop``, for the ledger."""
        dropped = self.drop()
        self._lent = self._lent or dropped
        return dropped

    def drop(self) -> bool:
        """Lets the room go to whoever needs it now; False when it was gone already."""
        if self._making is not None:
            self._making.result()
            self.restore()
        if self._size == 0 or not self.there:
            return False
        if not self._remove():
            return False
        self.there = False
        _log.error("the disk is full: the ballast of %d bytes was let go, so that the ledger can go on", self._size)
        return True

    def _kept(self) -> bool:
        try:
            found = self._path.stat()
        except OSError:
            return False
        if found.st_size == self._size and found.st_blocks * 512 >= self._size:
            return True
        self._remove()  # of another size, or half made
        return False

    def _remove(self) -> bool:
        """A disk that copies on write may need room even for this (btrfs, ZFS); that must not end the shipper."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            _log.error("the ballast %s cannot be removed: %s", self._path, error.strerror)
            return False
        return True

    def _make(self) -> bool:
        try:
            disk = os.statvfs(self._path.parent)
            if disk.f_bavail * disk.f_frsize < self._size:
                return False  # a reservation that fails half-way would take what is left from others for a moment
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(fd, 0, self._size)
        except OSError:
            self._remove()
            return False
        finally:
            os.close(fd)
        return True
