"""A data folder whose disk can be filled and emptied: a tmpfs of a stated size, or, where mounting is not permitted, a
folder whose sidecar may write no file beyond its present sizes (RLIMIT_FSIZE)."""

import errno
import os
import resource
import subprocess
from pathlib import Path

_PIECES = (1 << 20, 1 << 16, 1 << 12)


class Tmpfs:
    """``folder`` becomes a mount point of ``size`` bytes; ``words`` names it in the last line."""

    words = "a sized tmpfs"

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._filler = folder / "filler"
        options = f"size={size},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "chaos", folder], check=True, capture_output=True)

    def fill(self, pid: int | None) -> None:
        """Leaves not one page."""
        fd = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = 0
        try:
            for piece in _PIECES:
                while _reserve(fd, size, piece):
                    size += piece
        finally:
            os.close(fd)

    def empty(self, pid: int | None) -> None:
        """Gives the room back."""
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmounts; what is on it is gone."""
        subprocess.run(["umount", "--lazy", self._folder], check=True, capture_output=True)


class SizeLimit:
    """The substitute: no write beyond the first 4 KiB of a file succeeds in the process while it is "full"."""

    words = "a limit of the file size"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)

    def fill(self, pid: int | None) -> None:
        """Only for a process that runs; the one that comes after it has a disk again."""
        self._set(pid, 4096)

    def empty(self, pid: int | None) -> None:
        """Lifts the limit."""
        self._set(pid, resource.RLIM_INFINITY)

    def close(self) -> None:
        """Nothing is held."""

    def _set(self, pid: int | None, soft: int) -> None:
        if pid is None:
            return
        try:
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft if hard == resource.RLIM_INFINITY else hard, hard))
        except ProcessLookupError:
            pass


Disk = Tmpfs | SizeLimit


def make_disk(folder: Path, size: int) -> Disk:
    """A tmpfs where this user may mount one."""
    if os.geteuid() == 0:
        try:
            return Tmpfs(folder, size)
        except (subprocess.CalledProcessError, FileNotFoundError):
            folder.rmdir()
    return SizeLimit(folder)


def _reserve(fd: int, at: int, piece: int) -> bool:
    try:
        os.posix_fallocate(fd, at, piece)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True
