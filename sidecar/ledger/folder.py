"""The journal's folder: one process writes to it, and it has a name of its own."""

import fcntl
import os
import uuid
from pathlib import Path

from sidecar.core.errors import StoreError, StoreLocked


def enter(folder: Path) -> tuple[int, str]:
    """The held lock's descriptor and the journal's identity; the folder is made. StoreLocked: another process has it.
    StoreError: it cannot be used."""
    lock = _lock(folder)
    try:
        return lock, _identity(folder)
    except StoreError:
        os.close(lock)
        raise


def is_free(folder: Path) -> bool:
    """Whether no process has the folder's lock now; StoreError: it cannot be used."""
    try:
        os.close(_lock(folder))
    except StoreLocked:
        return False
    return True


def _identity(folder: Path) -> str:
    """The journal's name in a ledger that takes several: random, made with the folder; the lock is held."""
    path = folder / "identity"
    try:
        known = path.read_text("ascii").strip() if path.exists() else ""
        if len(known) != 32 or not known.isalnum():
            known = uuid.uuid4().hex
            part = path.with_suffix(".part")
            part.write_text(known, "ascii")
            part.replace(path)
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"the file {path} cannot be used: {error}") from error
    return known


def _lock(folder: Path) -> int:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"the journal's folder {folder} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise StoreLocked(f"another process writes the journal in {folder}") from error
    return fd
