"""The file's identity and its schema: numbered migrations, forward only, applied at open."""

from importlib.resources import files
from pathlib import Path

import apsw

from sidecar.core.errors import StoreError
from sidecar.storage.sqlite.connection import transaction

# From 3.7.0 to 3.51.2 two connections that write or checkpoint at once may lose a commit (the WAL-reset bug). Only one
# of ours ever does; this is for a backup tool beside it.
OLDEST_SQLITE = (3, 51, 3)
APPLICATION_ID = 0x53434152  # "SCAR", at byte 68 of the file, for file(1) and for not writing into others' databases


def migrations() -> list[tuple[int, str]]:
    """(number, SQL) of every ``migrations/NNNN_name.sql``, ascending from 1 without a gap."""
    folder = files(__package__) / "migrations"
    found = sorted((entry.name, entry) for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name[:4]), entry.read_text("utf-8")) for name, entry in found]


def check_library() -> None:
    """StoreError when the SQLite that was loaded is older than OLDEST_SQLITE. apsw's wheels bundle a newer one."""
    loaded = apsw.sqlite_lib_version()
    if tuple(map(int, loaded.split("."))) < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise StoreError(f"SQLite {loaded} may lose committed data; install apsw with SQLite {oldest} or later")


def migrate(connection: apsw.Connection, path: Path) -> None:
    """Brings the file to this code's schema, in WAL mode with a full sync per commit. StoreError: it is not ours."""
    if connection.readonly("main"):
        raise StoreError(f"the database {path} cannot be written to: it, or its folder, is read-only")
    present = _version(connection, path)
    mode = connection.pragma("journal_mode", "wal")
    if mode != "wal":
        raise StoreError(f"the database {path} stands where SQLite cannot use a write-ahead log (a network share?)")
    connection.execute("PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864")
    # 32 MB, and a checkpoint per 16 MB: with a thousand tenants in a batch 1.15 times the events of 8 and 4 MB
    connection.execute("PRAGMA cache_size = -32000; PRAGMA wal_autocheckpoint = 4000")
    connection.execute("PRAGMA temp_store = FILE")  # an index over all events would not fit into memory
    for number, sql in migrations():
        if number > present:
            with transaction(connection):
                connection.execute(sql)
                connection.pragma("application_id", APPLICATION_ID)
                connection.pragma("user_version", number)
    connection.execute("PRAGMA temp_store = MEMORY")


def check(connection: apsw.Connection, path: Path) -> None:
    """For a read-only opener: StoreError unless the file has exactly this code's schema."""
    if _version(connection, path) < len(migrations()):
        raise StoreError(
            f"the database {path} has an older schema than this version; run the sidecar once to migrate it"
        )


def _version(connection: apsw.Connection, path: Path) -> int:
    """The file's schema number, 0 for an empty file."""
    identity, version = connection.pragma("application_id"), connection.pragma("user_version")
    empty = not connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema)").get
    if identity != APPLICATION_ID and not (empty and identity == 0 and version == 0):
        raise StoreError(f"the database {path} belongs to another program; it was left as it is")
    newest = len(migrations())
    if version > newest:
        raise StoreError(
            f"the database {path} has schema {version}, this version knows up to {newest}; run a newer sidecar on it"
        )
    return int(version)
