"""SQLite's failures in words for people: every one becomes a StoreError that names the file, a full disk StoreFull."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from sidecar.core.errors import StoreError, StoreFull

_TEXTS: tuple[tuple[type[apsw.Error], str], ...] = (
    (apsw.BusyError, "is locked by another program; close that program and try again"),
    (apsw.LockedError, "is locked by another program; close that program and try again"),
    (apsw.NotADBError, "is not a SQLite database; it was left as it is"),
    (apsw.CorruptError, "is damaged; it was left as it is, restore it from a backup"),
    (apsw.FullError, "cannot grow: the disk is full"),
    (apsw.ReadOnlyError, "cannot be written to: it, or its folder, is read-only"),
    (apsw.CantOpenError, "cannot be opened; check that it and its folder can be read and written by this user"),
    (apsw.PermissionsError, "cannot be opened; check that it and its folder can be read and written by this user"),
    (apsw.IOError, "cannot be read or written: the disk reports an error"),
    (apsw.NoMemError, "cannot be used: there is no memory left"),
)
# What a record, and not the store, is to blame for. SQLError is the class of all else, so its text decides.
_DATA_ERRORS = (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError)
_DATA_TEXTS = ("malformed JSON", "integer overflow", "JSON cannot hold BLOB values", "bad JSON path")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns apsw's exceptions inside the block into a StoreError about ``path``."""
    try:
        yield
    except apsw.Error as error:
        text = next((text for kind, text in _TEXTS if isinstance(error, kind)), f"failed: {error}")
        failure = StoreFull if isinstance(error, apsw.FullError) else StoreError
        raise failure(f"the database {path} {text}") from error


def is_data_error(error: apsw.Error) -> bool:
    """Whether the values that were given are at fault, so that the same statement may pass without some of them."""
    if isinstance(error, _DATA_ERRORS):
        return True
    return isinstance(error, apsw.SQLError) and any(text in str(error) for text in _DATA_TEXTS)
