"""The writer's lock: one process writes to a database, and says who it is."""

import fcntl
import os
from pathlib import Path

from sidecar.core.errors import StoreError, StoreLocked


def lock_file(database: Path) -> Path:
    """``<database>.lock``; it stays when the lock is let go, so that nobody locks a file that is being removed."""
    return database.with_name(database.name + ".lock")


def take(database: Path) -> int:
    """The held lock's descriptor; closing it lets go, and so does the end of the process. StoreLocked, StoreError."""
    path = lock_file(database)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"the lock file {path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise StoreLocked(f"the database {database} is being written to by process {holder}") from error
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    except OSError as error:
        os.close(fd)
        raise StoreError(f"the lock file {path} cannot be written: {error.strerror}") from error
    return fd
