"""A disk that can be looked at, and can fail, at every primitive operation of the journal, the ledger and their files.

The seams are the standard library's and apsw's: a store into a mapping, ``posix_fallocate``, making, removing, renaming
and syncing a file, and each statement of a writing SQLite connection.
``Disk.before`` and ``Disk.after`` are called around every one of them that concerns the folder, one operation at a time
whatever the thread; they may raise.
"""

import mmap
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import pytest

PAGE = 4096
Image = dict[str, bytes]  # relative path to content
_real_mmap = mmap.mmap
_Connection = apsw.Connection


@dataclass(frozen=True, slots=True)
class Operation:
    """``kind``: store, write, reserve, create, unlink, rename, sync or sql; ``what``: the file or the statement."""

    kind: str
    what: str
    map: Any = None  # of a store: the mapping, where in it, and what is stored
    start: int = 0
    value: bytes = b""


def ignore(operation: Operation) -> None:
    """Nothing happens."""


class Disk:
    """Watches ``folder``. ``durable``: what a power cut leaves of the journal's segments at the least."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.before: Callable[[Operation], None] = ignore
        self.after: Callable[[Operation], None] = ignore
        self.lock = threading.RLock()
        self.durable: Image = {}
        self._content: Image = {}

    def image(self) -> Image:
        """All files as they are; what is the same as last time is the same object."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = str(path.relative_to(self.folder))
            if not path.is_file() or name.endswith(("-shm", "lock")):
                continue  # SQLite makes the index of its log anew; locks are of the process
            content = path.read_bytes()
            known = self._content.get(name)
            found[name] = known if known == content else content
        self._content = found
        return found

    def after_power_cut(self, image: Image, keeps: Callable[[], bool]) -> Image:
        """``image`` with the segments' pages that were not synced lost, but for those that ``keeps()`` keeps."""
        result = dict(image)
        for name in [name for name in image if name.endswith(".segment")]:
            now, sure = image[name], self.durable.get(name, b"").ljust(len(image[name]), b"\0")
            pages = (now if keeps() else sure for _ in range(0, len(now), PAGE))
            result[name] = b"".join(part[at * PAGE : (at + 1) * PAGE] for at, part in enumerate(pages))
        return result

    @contextmanager
    def operation(self, kind: str, path: object, **more: Any) -> Iterator[None]:
        """Around the real one."""
        name = self._name(path)
        if name is None:
            yield
            return
        with self.lock:
            operation = Operation(kind, name, **more)
            self.before(operation)
            yield
            self.after(operation)

    def fdatasync(self, fd: int) -> None:
        """For the journal's ``fsync``."""
        path = os.readlink(f"/proc/self/fd/{fd}")
        with self.operation("sync", path):
            self.durable[str(Path(path).relative_to(self.folder))] = Path(path).read_bytes()

    def statement(self, connection: "WatchedConnection", sql: str) -> "_Statement":
        """Around a statement of a writing connection."""
        return _Statement(self, sql)

    def _name(self, path: object) -> str | None:
        text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
        return Path(text).name if text.startswith(str(self.folder)) else None


class _Statement:
    def __init__(self, disk: Disk, sql: str) -> None:
        self._disk = disk
        self._operation = Operation("sql", sql)

    def __enter__(self) -> None:
        self._disk.lock.acquire()
        try:
            self._disk.before(self._operation)
        except BaseException:
            self._disk.lock.release()
            raise

    def __exit__(self, kind: object, *more: object) -> None:
        try:
            if kind is None:
                self._disk.after(self._operation)
        finally:
            self._disk.lock.release()


class WatchedConnection(_Connection):
    """Set ``disk`` on a subclass."""

    disk: Disk

    def __init__(self, filename: str, flags: int = 0, **more: Any) -> None:
        super().__init__(filename, flags=flags, **more)
        self._writes = bool(flags & apsw.SQLITE_OPEN_READWRITE) and self.disk._name(filename) is not None

    def execute(self, statements: str, *more: Any, **named: Any) -> Any:
        if not self._writes:
            return super().execute(statements, *more, **named)
        with self.disk.statement(self, statements):
            return super().execute(statements, *more, **named)


class WatchedMap(_real_mmap):
    """Set ``disk`` on a subclass."""

    disk: Disk

    def __new__(cls, fileno: int, *more: Any, **named: Any) -> "WatchedMap":
        made: WatchedMap = super().__new__(cls, fileno, *more, **named)
        made.path = os.readlink(f"/proc/self/fd/{fileno}") if fileno >= 0 else ""
        return made

    path: str

    def __setitem__(self, index: Any, value: Any) -> None:
        with self.disk.operation("store", self.path, map=self, start=index.start or 0, value=value):
            super().__setitem__(index, value)

    def tear(self, start: int, part: bytes) -> None:
        """Stores without being watched."""
        super().__setitem__(slice(start, start + len(part)), part)


def watch(folder: Path, patch: pytest.MonkeyPatch) -> Disk:
    """From now on every operation in ``folder`` is watched; ``patch`` ends it."""
    disk = Disk(folder)
    open_, reserve, unlink, replace, fsync = os.open, os.posix_fallocate, os.unlink, os.replace, os.fsync
    pwritev = os.pwritev

    def watched_open(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if not flags & os.O_CREAT or os.path.exists(path):
            return open_(path, flags, *more, **named)
        with disk.operation("create", path):
            return open_(path, flags, *more, **named)

    def watched_reserve(fd: int, *more: Any) -> None:
        with disk.operation("reserve", os.readlink(f"/proc/self/fd/{fd}")):
            reserve(fd, *more)

    def watched_pwritev(fd: int, data: list[bytes], offset: int) -> int:
        with disk.operation("write", os.readlink(f"/proc/self/fd/{fd}")):
            return pwritev(fd, data, offset)

    def watched_unlink(path: Any, **more: Any) -> None:
        with disk.operation("unlink", path):
            unlink(path, **more)

    def watched_replace(path: Any, target: Any, **more: Any) -> None:
        with disk.operation("rename", path):
            replace(path, target, **more)

    def watched_fsync(fd: int) -> None:
        with disk.operation("sync", os.readlink(f"/proc/self/fd/{fd}")):
            fsync(fd)

    patch.setattr(os, "open", watched_open)
    patch.setattr(os, "posix_fallocate", watched_reserve)
    patch.setattr(os, "pwritev", watched_pwritev)
    patch.setattr(os, "unlink", watched_unlink)
    patch.setattr(os, "replace", watched_replace)
    patch.setattr(os, "fsync", watched_fsync)
    patch.setattr(mmap, "mmap", type("Map", (WatchedMap,), {"disk": disk}))
    patch.setattr(apsw, "Connection", type("Connection", (WatchedConnection,), {"disk": disk}))
    return disk


def lay_out(image: Image, folder: Path) -> None:
    """Writes the files of an image into a fresh folder."""
    for name, content in image.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
